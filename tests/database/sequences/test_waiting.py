"""Steps that wait for a person or a time, on every engine: no slot, no worker, and the sequence goes on by itself."""

import json
import unicodedata
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import audit, outbox_event, run, visit
from jobfac.definitions import DefinitionError
from jobfac.errors import Forbidden, Invalid, NotFound, Refused
from jobfac.operations import approvals
from jobfac.operations.caller import Caller
from jobfac.states import Decision, Role, RunState
from jobfac.store import runs, sequences
from jobfac.store.runs import StartRequest
from tests.support.database import define, events, get, now, start, together
from tests.support.outbox import notified_events, on, rows
from tests.support.sequences import Player, path

ANN = Caller("ann", role=Role.OPERATOR)
STEPS: list[dict[str, Any]] = [
    {"name": "check", "jobs": ["a"]},
    {"name": "release", "approve": {"timeout": "4h", "message": "Publish?"}, "on_failure": {"step": "undo"}},
    {"name": "publish", "jobs": ["b"], "on_success": "end"},
    {"name": "undo", "jobs": ["c"], "on_success": "end_failed"},
]


def waiting(db: Database, **approve: Any) -> tuple[Player, int]:
    """A sequence run that waits at its step ``release``."""
    steps = [*STEPS[:1], {**STEPS[1], "approve": {"timeout": "4h", "message": "Publish?", **approve}}, *STEPS[2:]]
    notify = [{"on": ["approval_wanted"], "to": {"email": "ops@example.org"}}]
    define(db, a={}, b={}, c={}, seq={"steps": steps, "notify": notify})
    player = Player(db)
    run_id = start(db, "seq")
    player.look()
    player.finish("a")
    return player, run_id


ASKS = {
    "percent": {"type": "integer", "minimum": 1, "required": True},
    "day": {"type": "date", "default": "${due.date}"},
}


def asking(db: Database, **approve: Any) -> tuple[Player, int]:
    """A sequence run that waits at a step that asks for values, which the next one takes."""
    publish = {"percent": "${steps.release.outputs.percent}", "day": "${steps.release.outputs.day}"}
    steps = [
        {"name": "release", "approve": {"parameters": ASKS, **approve}},
        {"name": "publish", "jobs": ["b"], "parameters": {"b": publish}},
    ]
    define(db, b={"parameters": {"percent": {"type": "integer"}, "day": {}}}, seq={"steps": steps})
    player = Player(db)
    run_id = start(db, "seq")
    player.look()
    return player, run_id


def given(db: Database, run_id: int) -> Any:
    """What the run of the job ``b`` got."""
    with db.read() as conn:
        query = sa.select(run.c.parameters).where(run.c.sequence_run_id == run_id, run.c.job == "b")
        return json.loads(conn.execute(query).scalar_one())


def ripen(db: Database) -> None:
    """Let every time that is waited for be past."""
    with db.begin() as conn:
        past = now(db) - timedelta(seconds=1)
        conn.execute(visit.update().where(visit.c.wake_at.is_not(None)).values(wake_at=past))


def sweep(db: Database) -> None:
    db.transact(sequences.sweep, "sweeper")


def test_a_step_waits_until_somebody_approves(db: Database) -> None:
    player, run_id = waiting(db)
    assert (path(db, run_id), player.look()) == (["check:success>release", "release:None>None"], [])
    sweep(db)
    assert get(db, run_id)["state"] == "running"
    with db.read() as conn:
        (told,) = conn.execute(sa.select(outbox_event.c.event, outbox_event.c.detail)).all()
    assert tuple(told) == (
        "approval_wanted",
        f"step 'release' waits for an approval by operator: Publish?; `jobfac approve {run_id} release`",
    )
    done = approvals.approve(db, ANN, run_id, "release", reason="looks right")
    assert (done.decision, done.is_new) == (Decision.APPROVED, True)
    assert approvals.approve(db, ANN, run_id, "release").is_new is False
    assert player.look() == ["b"]
    player.finish("b")
    assert get(db, run_id)["state"] == "succeeded"
    assert events(db, run_id)[-2:] == ["approved", "succeeded"]
    with db.read() as conn:
        (seen,) = [one for one in sequences.step_history(conn, run_id) if one.step == "release"]
        noted = conn.execute(sa.select(audit.c.by, audit.c.action, audit.c.subject, audit.c.after)).all()
    assert (seen.decision, seen.decided_by, seen.reason) == (Decision.APPROVED, "ann", "looks right")
    assert ("ann", "approved", f"run {run_id}, step release", "looks right") in [tuple(one) for one in noted]


def test_a_repeated_approval_does_not_approve_the_next_visit(db: Database) -> None:
    steps = [{"name": "release", "approve": {}}, {"name": "publish", "jobs": ["b"], "on_failure": {"step": "release"}}]
    define(db, b={}, seq={"steps": steps})
    player = Player(db)
    run_id = start(db, "seq")
    player.look()
    assert approvals.approve(db, ANN, run_id, "release", number=1).is_new
    player.look()
    player.finish("b", state=RunState.FAILED)
    waits = ["release:success>publish", "publish:failure>release", "release:None>None"]
    assert path(db, run_id) == waits
    assert not approvals.approve(db, ANN, run_id, "release", number=1).is_new
    with pytest.raises(Refused, match="is approved by ann already"):
        approvals.approve(db, Caller("bob", role=Role.OPERATOR), run_id, "release", number=1)
    with pytest.raises(Refused, match="does not wait at the step"):
        approvals.approve(db, ANN, run_id, "release", number=3)
    assert path(db, run_id) == waits
    assert approvals.approve(db, ANN, run_id, "release", number=2).is_new


def test_a_rejection_is_a_failure(db: Database) -> None:
    player, run_id = waiting(db)
    approvals.approve(db, ANN, run_id, "release", approved=False)
    assert player.look() == ["c"]
    with pytest.raises(Refused, match=f"Step 'release' of run {run_id} is rejected by ann already"):
        approvals.approve(db, Caller("bob"), run_id, "release")


@pytest.mark.parametrize(("otherwise", "job"), [("fail", "c"), ("succeed", "b")])
def test_time_runs_out(db: Database, otherwise: str, job: str) -> None:
    player, run_id = waiting(db, otherwise=otherwise)
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 1
    assert db.transact(sequences.wake, "s1") == 0
    assert player.look() == [job]
    with pytest.raises(Refused, match="is expired already"):
        approvals.approve(db, ANN, run_id, "release")


def test_who_may_approve(db: Database) -> None:
    _, run_id = waiting(db, by="admin", not_by_starter=True)
    with pytest.raises(Forbidden, match="needs the role admin"):
        approvals.approve(db, ANN, run_id, "release")
    with pytest.raises(Forbidden, match="by somebody other than its starter"):
        approvals.approve(db, Caller("tester"), run_id, "release")
    with pytest.raises(Forbidden, match="by somebody other than its starter"):  # a proxy that keeps what was typed
        approvals.approve(db, Caller("Tester"), run_id, "release")
    with pytest.raises(NotFound, match="no step 'check' that waits for an approval; such steps: release"):
        approvals.approve(db, ANN, run_id, "check")
    assert approvals.approve(db, Caller("bob"), run_id, "release").is_new


LONG = ("\U0001f600" * 65, "é" * 130, "e\u0301" * 100)


@pytest.mark.parametrize("name", LONG, ids=["astral", "composed", "decomposed"])
def test_a_long_name_that_is_stored_in_part_is_that_of_the_starter(db: Database, name: str) -> None:
    steps = [{"name": "release", "approve": {"not_by_starter": True}}]
    define(db, seq={"steps": steps})
    run_id = db.transact(runs.start, StartRequest("seq", name))
    Player(db).look()
    for same in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
        with pytest.raises(Forbidden, match="by somebody other than its starter"):
            approvals.approve(db, Caller(same), run_id, "release")
    other = f"x{name}"
    assert approvals.approve(db, Caller(other), run_id, "release").is_new
    assert not approvals.approve(db, Caller(other), run_id, "release").is_new


def nested(db: Database) -> int:
    """A sequence run that waits for somebody else than its starter, in a sequence that 'tester' started."""
    inner = {"steps": [{"name": "release", "approve": {"not_by_starter": True}}]}
    define(db, inner=inner, outer={"steps": [{"name": "all", "jobs": ["inner"]}]})
    outer = start(db, "outer")
    Player(db).look()
    with db.read() as conn:
        return int(conn.execute(sa.select(run.c.id).where(run.c.sequence_run_id == outer)).scalar_one())


def test_nobody_approves_a_sequence_inside_the_one_that_they_started(db: Database) -> None:
    inner = nested(db)
    with pytest.raises(Forbidden, match="by somebody other than its starter"):
        approvals.approve(db, Caller("tester"), inner, "release")
    assert approvals.approve(db, ANN, inner, "release").is_new


def test_an_approver_gives_what_later_steps_take(db: Database) -> None:
    player, run_id = asking(db)
    with pytest.raises(DefinitionError, match=r"parameters\.percent must be given"):
        approvals.approve(db, ANN, run_id, "release")
    with pytest.raises(DefinitionError, match=r"parameters\.percent must be a whole number of at least 1, not 0"):
        approvals.approve(db, ANN, run_id, "release", given={"percent": "0"})
    with pytest.raises(DefinitionError, match="unknown name 'x'"):
        approvals.approve(db, ANN, run_id, "release", given={"percent": 1, "x": 1})
    with pytest.raises(Invalid, match="takes no parameters"):
        approvals.approve(db, ANN, run_id, "release", approved=False, given={"percent": 1})
    assert player.look() == []
    assert approvals.approve(db, ANN, run_id, "release", reason="ok", given={"percent": "20"}).is_new
    assert approvals.approve(db, ANN, run_id, "release", given={"percent": 20}).is_new is False
    with pytest.raises(Refused, match="approved by ann with other parameters already"):
        approvals.approve(db, ANN, run_id, "release", given={"percent": 30})
    today = f"{now(db):%Y-%m-%d}"
    assert (player.look(), given(db, run_id)) == (["b"], {"percent": 20, "day": today})
    with db.read() as conn:
        seen = sequences.step_history(conn, run_id)[0]
        noted = conn.execute(sa.select(audit.c.after).where(audit.c.action == "approved")).scalars().all()
    assert (seen.parameters, seen.reason) == ({"percent": 20, "day": today}, "ok")
    assert noted == [f'ok: {{"percent": 20, "day": "{today}"}}']


def test_long_values_of_an_approver_are_not_all_in_the_audit(db: Database) -> None:
    """A page of the audit is read at once: 100 approvals with a megabyte each would be 100 MB for each viewer."""
    _, run_id = asking(db, parameters={"percent": {"type": "integer"}, "day": {}})
    approvals.approve(db, ANN, run_id, "release", reason="ok", given={"percent": 20, "day": "x" * 5000})
    with db.read() as conn:
        (noted,) = conn.execute(sa.select(audit.c.after).where(audit.c.action == "approved")).scalars()
    assert (noted[:18], len(noted), given(db, run_id)["day"]) == ('ok: {"percent": 20', 2000, "x" * 5000)


def test_without_a_decision_the_defaults_hold(db: Database) -> None:
    player, run_id = asking(
        db, timeout="1h", otherwise="succeed", parameters={"percent": {"type": "integer", "default": 5}, "day": {}}
    )
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 1
    assert (player.look(), given(db, run_id)) == (["b"], {"percent": 5, "day": None})


def test_a_stop_ends_the_waiting(db: Database) -> None:
    _, run_id = waiting(db)
    with db.read() as conn:
        read_before = sequences.waiting_for(conn, run_id, "release")
    db.transact(sequences.stop, run_id, now=False, by="me")
    assert get(db, run_id)["state"] == "stopped"
    with pytest.raises(Refused, match="is stopped and does not wait at the step 'release'"):
        db.transact(sequences.approve, read_before, "ann", approved=True, reason=None)
    with db.read() as conn:
        last = sequences.step_history(conn, run_id)[-1]
    assert (last.waits_for, last.reason) == (None, "it waited for an approval when the run ended")
    with pytest.raises(Refused, match="is stopped and does not wait at the step 'release'"):
        approvals.approve(db, ANN, run_id, "release")
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 0


def test_a_sequence_that_is_being_replaced_takes_no_decision(db: Database) -> None:
    define(db, b={}, seq={"steps": [{"name": "release", "approve": {}}], "already_running": "replace"})
    run_id = start(db, "seq")
    Player(db).look()
    start(db, "seq")
    with pytest.raises(Refused, match="is stopping and does not wait at the step 'release'"):
        approvals.approve(db, ANN, run_id, "release")


def test_of_two_who_decide_at_once_one_is_right(db: Database) -> None:
    player, run_id = waiting(db)

    def decide(place: int) -> str:
        try:
            return str(approvals.approve(db, Caller(f"p{place}"), run_id, "release", approved=place % 2 == 0).decision)
        except Refused:
            return "refused"

    answers = together(4, decide)
    assert sorted(answers)[1:] == ["refused"] * 3 or answers.count("refused") == 3
    assert len(player.look()) == 1


def test_a_step_waits_for_a_time(db: Database) -> None:
    steps = [{"name": "pause", "wait": {"duration": "1h"}}, {"name": "night", "wait": {"until": "03:00"}}, STEPS[2]]
    define(db, b={}, seq={"steps": steps})
    player = Player(db)
    run_id = start(db, "seq")
    player.look()
    with db.read() as conn:
        (seen,) = sequences.step_history(conn, run_id)
    assert abs((seen.wake_at or now(db)) - now(db) - timedelta(hours=1)) < timedelta(minutes=1)
    sweep(db)
    assert db.transact(sequences.wake, "s1") == 0
    ripen(db)
    sweep(db)  # a sweep does it, too
    assert path(db, run_id) == ["pause:success>night", "night:None>None"]
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 1
    assert player.look() == ["b"]


def test_a_sequence_that_is_being_stopped_keeps_no_scheduler_busy(db: Database) -> None:
    steps = [{"name": "go", "jobs": ["a"], "proceed": "at_once"}, {"name": "rest", "wait": {"duration": "1h"}}]
    define(db, a={}, seq={"steps": steps})
    player = Player(db)
    run_id = start(db, "seq")
    assert player.look() == ["a"]
    db.transact(sequences.stop, run_id, now=False, by="me")
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 0
    player.finish("a", state=RunState.STOPPED)
    assert get(db, run_id)["state"] == "stopped"


def test_each_question_to_a_person_is_notified(db: Database) -> None:
    """A sequence run has one attempt, and may ask in several steps and at several visits."""
    steps = [
        {"name": "one", "approve": {}},
        {"name": "two", "approve": {}, "on_failure": {"step": "one"}},
    ]
    define(db, seq={"steps": steps, "notify": [on("approval_wanted")]})
    run_id = start(db, "seq")
    Player(db).look()
    approve = partial(approvals.approve, db, ANN, run_id)
    approve("one")
    approve("two", approved=False)
    assert notified_events(db) == [("seq", "approval_wanted")] * 3
    assert [json.loads(row["body"])["detail"].split("'")[1] for row in rows(db)] == ["one", "two", "one"]
    assert len({row["dedupe"] for row in rows(db)}) == 3
