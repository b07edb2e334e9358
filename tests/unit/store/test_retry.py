"""Whether and when a failed run is retried."""

from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import Retry
from jobfac.states import FINAL, RunState
from jobfac.store.runs import retry_delay

Retried = Literal["failed", "timed_out", "start_failed"]
RETRIED: tuple[Retried, ...] = get_args(Retried)
CHANCES = st.floats(0, 1)
POLICIES = st.builds(
    lambda attempts, delay, backoff, more, jitter: Retry(
        attempts=attempts, delay=delay, backoff=backoff, maximum_delay=delay + more, jitter=jitter
    ),
    st.integers(1, 1000),
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 1e6),
    st.floats(0, 1),
)


@given(POLICIES, st.integers(0, 2000), CHANCES)
def test_attempts_limits_all_executions(policy: Retry, failures: int, chance: float) -> None:
    delay = retry_delay(policy, RunState.FAILED, failures, chance)
    assert (delay is None) == (failures + 1 >= policy.attempts)


@given(POLICIES, st.integers(0, 2000), CHANCES)
def test_a_delay_is_never_negative_and_never_beyond_its_maximum_and_jitter(
    policy: Retry, failures: int, chance: float
) -> None:
    delay = retry_delay(policy, RunState.FAILED, failures, chance)
    if delay is not None:
        assert 0 <= delay <= policy.maximum_delay * (1 + policy.jitter)
        assert delay >= policy.delay * (1 - policy.jitter) - 1e-6 * policy.delay


@given(POLICIES, st.integers(0, 998))
def test_delays_grow_until_their_maximum(policy: Retry, failures: int) -> None:
    earlier = retry_delay(policy, RunState.FAILED, failures, 0.5)
    later = retry_delay(policy, RunState.FAILED, failures + 1, 0.5)
    if earlier is not None and later is not None:
        assert earlier <= later


@given(POLICIES, st.integers(0, 10), CHANCES, CHANCES)
def test_chance_moves_the_delay_up(policy: Retry, failures: int, one: float, other: float) -> None:
    low = retry_delay(policy, RunState.FAILED, failures, min(one, other))
    high = retry_delay(policy, RunState.FAILED, failures, max(one, other))
    if low is not None and high is not None:
        assert low <= high


@given(st.sampled_from(sorted(FINAL)), st.sets(st.sampled_from(RETRIED), min_size=1))
def test_only_listed_states_are_retried(state: RunState, on: set[Retried]) -> None:
    delay = retry_delay(Retry(attempts=9, on=tuple(sorted(on))), state, 0, 0.5)
    assert (delay is not None) == (state in on)


def test_delays_are_as_documented() -> None:
    policy = Retry(attempts=6, delay=10, backoff=2, maximum_delay=60, jitter=0.1)
    assert [retry_delay(policy, RunState.FAILED, failures, 0.5) for failures in range(6)] == [10, 20, 40, 60, 60, None]
    assert retry_delay(policy, RunState.FAILED, 0, 0.0) == 9
    assert retry_delay(policy, RunState.FAILED, 0, 1.0) == 11
    assert retry_delay(Retry(), RunState.FAILED, 0, 0.5) is None
