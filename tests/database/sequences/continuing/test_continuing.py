"""What counts of earlier visits and runs: a run that continues another one counts what it does not repeat, and in a
loop references stand for the last visit of a step alone."""

from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import approvals
from jobfac.operations.caller import Caller
from jobfac.states import Role, RunState
from jobfac.store import sequences
from jobfac.store.runs.request import FIRST
from jobfac.store.sequences import stepping
from tests.support.database import define, get, now, start
from tests.support.sequences import Player, children, path

ANN = Caller("ann", role=Role.OPERATOR)
USE = {"name": "use", "jobs": ["b"], "on_success": {"step": "load"}}

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
    with pytest.raises(Refused, match=r"No step .* without .* to begin with the step 'one' again"):
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


def test_a_failed_step_that_start_if_skips_has_still_failed(db: Database) -> None:
    one = {"name": "one", "jobs": "a", "on_failure": {"step": "two"}}
    two = {"name": "two", "jobs": "b", "on_success": {"step": "one"}}
    define(db, a={}, b={}, seq={"steps": [one, two]})
    player = Player(db)
    first = start(db, "seq")
    play(player, a=RunState.FAILED, b=RunState.FAILED)
    closed = {"times": {"hours": [(now(db).hour + 12) % 24]}, "otherwise": "end"}
    define(db, a={}, b={}, seq={"steps": [one | {"start_if": closed}, two]})
    second = from_failed(db, first)
    play(player, b=RunState.SUCCEEDED)
    assert path(db, second) == ["two:success>one", "one:skipped>end"]
    third = from_failed(db, second)
    player.look()
    assert path(db, third) == ["one:skipped>end"], "it is the step that failed last"
    for run_id in (second, third):
        assert get(db, run_id)["state"] != RunState.SUCCEEDED
        assert get(db, run_id)["reason"] == f"step 'one' failed: a, failed (in run {first}, which this one continues)"


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


def looped(db: Database, load: dict[str, Any], reference: str, **use: Any) -> tuple[Player, int]:
    """A sequence run whose steps ``load`` and ``use`` follow each other; ``b`` of ``use`` gets the reference."""
    steps = [{"name": "load", **load}, {**USE, "arguments": {"b": [reference]}, **use}]
    define(db, a={}, b={}, c={}, seq={"steps": steps, "maximum_visits": 3})
    return Player(db), start(db, "seq")


def why(db: Database, run_id: int) -> str:
    with db.read() as conn:
        return sequences.step_history(conn, run_id)[-1].reason or ""


def test_a_visit_that_start_if_skipped_has_no_outputs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    always = {"times": {"between": ["00:00-24:00"]}}
    player, run_id = looped(db, {"jobs": ["a"], "start_if": always}, "${steps.load.a.outputs.rows}")
    player.look()
    player.finish("a", outputs='{"rows": 1}')
    assert player.look() == ["b"]
    monkeypatch.setattr(stepping, "is_open", lambda step, instant: step.name != "load")
    player.finish("b")
    assert player.look() == []
    assert "job 'a' of step 'load' has not ended" in why(db, run_id)


def test_a_job_that_still_runs_in_the_last_visit_has_no_outputs(db: Database) -> None:
    player, run_id = looped(db, {"jobs": ["a", "c"], "proceed": "when_any"}, "${steps.load.a.outputs.rows}")
    player.look()
    player.finish("a", outputs='{"rows": 1}')
    player.look()
    player.finish("b")
    player.look()
    player.finish("c")
    player.finish("c")
    assert "job 'a' of step 'load' has not ended" in why(db, run_id)


def test_a_rejection_takes_back_what_an_approver_gave(db: Database) -> None:
    asks = {"parameters": {"percent": {"type": "integer", "required": True}}}
    player, run_id = looped(db, {"approve": asks, "on_failure": "next"}, "${steps.load.outputs.percent}")
    player.look()
    approvals.approve(db, ANN, run_id, "load", given={"percent": 20})
    assert player.look() == ["b"]
    player.finish("b")
    approvals.approve(db, ANN, run_id, "load", approved=False)
    assert player.look() == []
    assert "nobody has approved the step 'load'" in why(db, run_id)
