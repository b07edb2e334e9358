"""A run that continues another one from a later step counts what it does not repeat."""

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import sequences
from jobfac.store.runs.request import FIRST
from tests.support.database import define, get, start
from tests.support.sequences import Player, children, path

STEPS = [
    {"name": "one", "jobs": "a", "on_failure": "next"},
    {"name": "two", "jobs": "b"},
    {"name": "three", "jobs": "c"},
]


def from_failed(db: Database, run_id: int) -> int:
    return db.transact(sequences.retry, run_id, "me", from_failed=True).run_id


def play(player: Player, **states: RunState) -> None:
    """Let the jobs run one after another, each to its state."""
    for job, state in states.items():
        player.look()
        player.finish(job, state=state)


def test_a_failure_that_was_handled_is_not_forgotten(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq={"steps": STEPS})
    player = Player(db)
    first = start(db, "seq")
    play(player, a=RunState.FAILED, b=RunState.SUCCEEDED, c=RunState.FAILED)
    assert get(db, first)["state"] == RunState.FAILED
    second = from_failed(db, first)
    play(player, c=RunState.SUCCEEDED)
    row = get(db, second)
    assert path(db, second) == ["three:success>end"]
    assert row["state"] == RunState.MIXED, "the step one never succeeded"
    assert row["reason"] == f"step 'one' failed: a, failed (in run {first}, which this one continues)"
    third = from_failed(db, second)
    play(player, a=RunState.SUCCEEDED, b=RunState.SUCCEEDED, c=RunState.SUCCEEDED)
    assert (get(db, third)["state"], get(db, third)["reason"]) == (RunState.SUCCEEDED, None)
    with pytest.raises(Refused, match="No step"):
        from_failed(db, third)


def test_a_step_that_is_gone_failed_in_the_run_that_was_continued(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq={"steps": STEPS})
    player = Player(db)
    first = start(db, "seq")
    play(player, a=RunState.FAILED, b=RunState.SUCCEEDED, c=RunState.FAILED)
    define(db, a={}, b={}, c={}, seq={"steps": STEPS[1:]})
    second = from_failed(db, first)
    play(player, c=RunState.SUCCEEDED)
    with pytest.raises(Refused, match=f"'one', which failed in run {second} or in one that it continues, is gone"):
        from_failed(db, second)


def test_what_came_after_the_failed_step_does_not_count(db: Database) -> None:
    steps = [
        {"name": "one", "jobs": "a", "on_failure": {"step": "repair"}},
        {"name": "two", "jobs": "b", "on_success": "end"},
        {"name": "repair", "jobs": "c", "on_success": "end_failed"},
    ]
    define(db, a={}, b={}, c={}, seq={"steps": steps})
    player = Player(db)
    first = start(db, "seq")
    play(player, a=RunState.FAILED, c=RunState.SUCCEEDED)
    assert get(db, first)["state"] == RunState.FAILED
    second = from_failed(db, first)
    play(player, a=RunState.SUCCEEDED, b=RunState.FAILED)
    third = from_failed(db, second)
    play(player, b=RunState.SUCCEEDED)
    assert get(db, third)["state"] == RunState.SUCCEEDED


def test_a_run_that_is_repeated_as_a_whole_does_not_count(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq={"steps": [*STEPS[1:], STEPS[0]]})
    player = Player(db)
    first = start(db, "seq", overrides={FIRST: "three"})
    play(player, c=RunState.SUCCEEDED, a=RunState.FAILED)
    again = db.transact(sequences.retry, first, "me").run_id
    play(player, c=RunState.SUCCEEDED, a=RunState.SUCCEEDED)
    assert get(db, again)["state"] == RunState.SUCCEEDED


def test_a_run_that_is_repeated_as_a_whole_gives_no_outputs(db: Database) -> None:
    steps = [
        {"name": "one", "jobs": "a", "on_failure": "next"},
        {"name": "two", "jobs": "b", "arguments": {"b": ["${steps.one.a.outputs.file}"]}},
    ]
    define(db, a={}, b={}, seq={"steps": steps})
    player = Player(db)
    first = start(db, "seq")
    player.look()
    player.finish("a", outputs='{"file": "old"}')
    play(player, b=RunState.FAILED)
    define(db, a={"enabled": False}, b={}, seq={"steps": steps})
    again = db.transact(sequences.retry, first, "me").run_id
    player.look()
    assert path(db, again) == ["one:failure>two", "two:failure>end_failed"]
    continued = from_failed(db, again)
    assert player.look() == [], "the output is that of a run that this one does not continue"
    assert get(db, continued)["state"] == RunState.FAILED
    third = from_failed(db, first)
    assert player.look() == ["b"], "here it is"
    assert [row["arguments"] for row in children(db, third)] == ['["old"]']
