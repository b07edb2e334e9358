"""In a loop, references stand for the last visit of a step alone: what earlier visits reported is older than that."""

from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.operations import approvals
from jobfac.operations.caller import Caller
from jobfac.states import Role
from jobfac.store import sequences
from jobfac.store.sequences import stepping
from tests.support.database import define, start
from tests.support.sequences import Player

ANN = Caller("ann", role=Role.OPERATOR)
USE = {"name": "use", "jobs": ["b"], "on_success": {"step": "load"}}


def looped(db: Database, load: dict[str, Any], reference: str, **use: Any) -> tuple[Player, int]:
    """A sequence run whose steps ``load`` and ``use`` follow each other; ``b`` of ``use`` gets the reference."""
    steps = [{"name": "load", **load}, {**USE, "arguments": {"b": [reference]}, **use}]
    define(db, a={}, b={}, c={}, seq={"steps": steps, "maximum_visits": 3})
    return Player(db), start(db, "seq")


def reason(db: Database, run_id: int) -> str:
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
    assert "job 'a' of step 'load' has not ended" in reason(db, run_id)


def test_a_job_that_still_runs_in_the_last_visit_has_no_outputs(db: Database) -> None:
    player, run_id = looped(db, {"jobs": ["a", "c"], "proceed": "when_any"}, "${steps.load.a.outputs.rows}")
    player.look()
    player.finish("a", outputs='{"rows": 1}')
    player.look()
    player.finish("b")
    player.look()
    player.finish("c")
    player.finish("c")
    assert "job 'a' of step 'load' has not ended" in reason(db, run_id)


def test_a_rejection_takes_back_what_an_approver_gave(db: Database) -> None:
    asks = {"parameters": {"percent": {"type": "integer", "required": True}}}
    player, run_id = looped(db, {"approve": asks, "on_failure": "next"}, "${steps.load.outputs.percent}")
    player.look()
    approvals.approve(db, ANN, run_id, "load", given={"percent": 20})
    assert player.look() == ["b"]
    player.finish("b")
    approvals.approve(db, ANN, run_id, "load", approved=False)
    assert player.look() == []
    assert "nobody has approved the step 'load'" in reason(db, run_id)
