"""The procedures of operating: hold, release and add_note do what the program does, through both drivers."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import audit, note, outbox_event, run, schedule, start_hold
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.store.holds import moving, reading
from jobfac.store.holds.placing import Scope
from jobfac.store.runs import Outcome
from tests.support.tsql import THROUGH_TSQL, audited, call, define, events, execute, refusal, row, states, take

pytestmark = THROUGH_TSQL

TOLD = {"notify": [{"on": "held", "to": {"email": "ops@example.org"}}]}


def test_hold_and_release(db: Database) -> None:
    define(db, a={"category": "etl", **TOLD}, b={"pool": "big"})
    waiting = execute(db, "start_job", job="a")
    held = execute(db, "hold", job="a", reason="the disk is full", by="boss")
    assert db.transact(moving.set_aside, "w1") == (1, 1)
    assert states(db, [waiting]) == ["blocked"]
    (placed,) = db.query(reading.active)
    assert (placed.id, placed.job, placed.created_by, placed.sentence) == (
        held, "a", "boss", f"hold {held} of job a: the disk is full",
    )  # fmt: skip
    with db.read() as conn:
        (item,) = conn.execute(sa.select(outbox_event)).all()
    assert (item.job, item.event, item.detail) == ("a", "held", f"hold {held} of job a: the disk is full")
    execute(db, "release", hold=held, by="boss")
    execute(db, "release", hold=held, by="boss")  # already
    while db.transact(moving.free_ended, "s"):
        pass
    assert states(db, [waiting]) == ["queued"]
    assert audited(db) == [("boss", "hold", f"hold {held}"), ("boss", "release", f"hold {held}")]
    everything = execute(db, "hold", reason="r")
    assert db.query(reading.open_queues, ["default", "big"]) == []
    assert execute(db, "hold", pool="big", reason="r") > everything
    with db.begin() as conn:
        conn.execute(start_hold.update().where(start_hold.c.id == everything).values(until=utcnow(-1)))
    execute(db, "release", hold=everything, by="late")
    assert db.query(reading.get, everything).released_by is None, "its time had ended it"


def test_the_audit_of_a_hold_says_what_it_says_of_one_by_the_program(db: Database) -> None:
    define(db, a={})
    holds.hold(db, Caller("me"), Scope(job="a"), " full ", datetime(2099, 1, 31, 22, tzinfo=UTC))
    execute(db, "hold", job="a", reason=" full ", until="2099-01-31 22:00:00")
    with db.read() as conn:
        by_program, by_procedure = conn.execute(sa.select(audit.c.after).where(audit.c.action == "hold")).scalars()
    assert by_program == by_procedure == "job a: full, until 2099-01-31T22:00:00+00:00"


def test_a_hold_joins_the_transaction_of_its_caller(db: Database) -> None:
    define(db, a={})
    with db.read() as conn:
        call(conn, "hold", job="a", reason="r")
        conn.rollback()
    assert db.query(reading.active) == []


def test_a_release_wakes_the_schedules_that_were_put_off(db: Database) -> None:
    define(db, a={"schedules": [{"cron": "* * * * *", "missed": "once"}]})
    held = execute(db, "hold", reason="r")
    with db.begin() as conn:
        put_off = {"next_due_at": utcnow(-60_000), "fire_at": utcnow(60_000), "resumed_at": utcnow(-1000)}
        conn.execute(schedule.update().values(**put_off))
    execute(db, "release", hold=held)
    with db.read() as conn:
        found = conn.execute(sa.select(schedule)).one()
    assert found.fire_at == found.next_due_at


def test_a_hold_for_ever_can_be_shown_in_every_time_zone(db: Database) -> None:
    """`jobfac holds` ended with a traceback east of Greenwich."""
    define(db, a={})
    execute(db, "hold", job="a", reason="r", until="9999-12-31 23:59:59")
    (placed,) = db.query(reading.active)
    assert placed.until is not None
    assert placed.until.astimezone(ZoneInfo("Pacific/Kiritimati")).year == 9999


def test_what_cannot_be_held_is_refused(db: Database) -> None:
    define(db, a={"category": "etl"})
    assert refusal(db, "hold", job="zz", reason="r")[1].startswith("There is no job 'zz'")
    assert refusal(db, "hold", category="zz", reason="r")[1].startswith("No job has the category 'zz'")
    assert refusal(db, "hold", pool="zz", reason="r")[1].startswith("No job has the pool 'zz'")
    assert refusal(db, "hold", job="a")[1].startswith("A hold needs a reason")
    assert refusal(db, "hold", job="a", category="etl", reason="r")[1].startswith("A hold applies to one pool")
    assert refusal(db, "hold", until="2020-01-01", reason="r")[1].startswith("The hold would have ended already")
    assert refusal(db, "release", hold=99)[1] == "There is no hold 99; jobfac.v_holds shows what there is."
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(start_hold)).scalar() == 0


def test_add_note(db: Database) -> None:
    define(db, a={})
    failed, good = execute(db, "start_job", job="a"), execute(db, "start_job", job="a")
    worker_id = take(db)
    ends = [Outcome(failed, 1, RunState.FAILED), Outcome(good, 1, RunState.STOPPED)]
    db.transact(runs.finish, worker_id, ends, "w1")
    written = execute(db, "add_note", run=failed, text="the share was full", by="boss")
    with db.read() as conn:
        (stored,) = conn.execute(sa.select(note)).all()
        shown = conn.execute(sa.text("SELECT unacknowledged, last_note FROM jobfac.v_failures")).one()
    assert (stored.id, stored.run_id, stored.by, stored.text) == (written, failed, "boss", "the share was full")
    assert tuple(shown) == (1, "the share was full")
    assert row(db, failed)["acknowledged_at"] is None
    execute(db, "add_note", run=failed, acknowledge=True, by="boss")
    execute(db, "add_note", run=failed, acknowledge=True, by="other")  # already
    assert row(db, failed)["acknowledged_by"] == "boss"
    assert events(db, failed)[-1] == ("acknowledged", "boss")
    with db.read() as conn:
        noted = conn.execute(sa.text("SELECT run_id, job, who, text FROM jobfac.v_notes")).all()
        assert [tuple(one) for one in noted] == [(failed, "a", "boss", "the share was full")]
        assert conn.execute(sa.text("SELECT unacknowledged FROM jobfac.v_failures")).scalar() == 0
    assert refusal(db, "add_note", run=99, text="x")[1].startswith("There is no run 99")
    assert refusal(db, "add_note", run=good, acknowledge=True)[1].startswith(f"Run {good} has not failed")
    assert refusal(db, "add_note", run=good)[1].startswith("@text must not be empty")
    assert [action for _, action, _ in audited(db)] == ["note", "acknowledge"]
    with db.begin() as conn:
        conn.execute(run.update().values(counted=True))
