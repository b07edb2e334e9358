"""The tables of states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfac import states
from jobfac.states import ACTIVE, FAILURES, FINAL, HELD, OCCUPYING, TRANSITIONS, WAITING, RunState, is_legal

BOTH = st.sampled_from(RunState)


def test_every_state_is_either_active_or_final() -> None:
    assert set(RunState) == ACTIVE | FINAL
    assert not ACTIVE & FINAL
    assert not WAITING & HELD
    assert OCCUPYING < ACTIVE
    assert HELD < OCCUPYING
    assert FAILURES < FINAL
    assert set(TRANSITIONS) == set(RunState)


@given(BOTH, BOTH)
def test_no_transition_leaves_a_final_state_or_keeps_the_state(before: RunState, after: RunState) -> None:
    if is_legal(before, after):
        assert before in ACTIVE
        assert before != after


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_every_active_state_can_be_reached_and_ended(state: RunState) -> None:
    assert any(state in TRANSITIONS[before] for before in ACTIVE - {state}) or state in WAITING
    reached = {state}
    while (more := reached | {after for before in reached for after in TRANSITIONS[before]}) != reached:
        reached = more
    assert RunState.STOPPED in reached
    assert RunState.SUCCEEDED in reached


def test_every_active_state_can_be_stopped_in_two_transitions() -> None:
    assert all(is_legal(state, RunState.STOPPED) for state in ACTIVE)
    assert is_legal(RunState.RUNNING, RunState.STOPPING)


def test_the_words_fit_their_columns() -> None:
    words = [word for group in (RunState, states.WorkerState, states.Stop, states.JobKind) for word in group]
    assert all(word.isascii() and word == word.lower() and len(word) <= 16 for word in words)
