"""The views of jobs, audit and notifications, and what health says of notifications and of jobs that keep failing."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import job_version, notification, run, schedule
from jobfac.doctor import factory
from jobfac.operations import jobs, schedules
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from tests.support.database import Hand, start

ANN = Caller("ann")


def view(db: Database, name: str) -> list[dict[str, Any]]:
    place = name if db.dialect.name == "sqlite" else f"jobfac.{name}"
    with db.read() as conn:
        return [dict(row) for row in conn.execute(sa.text(f"SELECT * FROM {place}")).mappings()]


@pytest.fixture
def stocked(db: Database) -> Database:
    rules = [{"cron": "0 6 * * *"}, {"cron": "0 7 * * *", "name": "late"}]
    jobs.put(db, ANN, "load", {"command": ["true"], "category": "red", "schedules": rules})
    jobs.put(db, ANN, "load", {"command": ["false"], "category": "red", "schedules": rules})
    schedules.pause(db, ANN, ("load", "late"))
    return db


def test_jobs(stocked: Database) -> None:
    run_id = start(stocked, "load")
    (row,) = view(stocked, "v_jobs")
    assert (row["job"], row["kind"], row["category"], row["version"]) == ("load", "program", "red", 2)
    assert (row["schedules"], row["paused_schedules"], row["defined_by"]) == (2, 1, "ann")
    assert (row["last_run_id"], row["last_run_state"]) == (run_id, "queued")
    assert row["next_due_at"] is not None
    assert '"false"' in row["definition"]


def test_the_doctor_counts_the_schedules_that_start_something(stocked: Database) -> None:
    (before,) = stocked.query(lambda conn: list(factory.schedules(conn)))
    jobs.disable(stocked, ANN, "load")
    (after,) = stocked.query(lambda conn: list(factory.schedules(conn)))
    assert (before.found[:10], after.found) == ("1 in force", "none in force")


def test_the_doctor_names_schedules_that_cannot_be_used(stocked: Database) -> None:
    """By a newer version of jobfac, or other data on time zones and holidays: the schedulers put them off for ever."""
    new = sa.func.replace(job_version.c.definition, '"schedules"', '"when"')
    with stocked.begin() as conn:
        conn.execute(job_version.update().values(definition=new))
        conn.execute(schedule.update().values(next_due_at=utcnow(-90_000)))
    found = stocked.query(lambda conn: list(factory.schedules(conn)))
    assert [one.found.partition("; ")[0] for one in found[1:]] == ["start nothing: job 'load': unknown key 'when'"]


def test_audit(stocked: Database) -> None:
    rows = view(stocked, "v_audit")
    assert [(row["who"], row["action"], row["subject"]) for row in rows] == [
        ("ann", "apply", "load"), ("ann", "apply", "load"), ("ann", "pause", "load/late"),
    ]  # fmt: skip
    assert rows[0]["was"] is None
    assert rows[0]["is_now"] == rows[1]["was"]


def test_notifications_and_what_health_says(stocked: Database) -> None:
    row = {"job": "load", "event": "failed", "recipient": '{"email": ["ops@example.org"]}', "body": "{}", "tries": 9}
    with stocked.begin() as conn:
        for number, state in enumerate(("dead", "dead", "waiting", "delivered")):
            times = {"due_at": utcnow(), "created_at": datetime(2027, 1, 1, tzinfo=UTC)}
            conn.execute(notification.insert().values(**row, dedupe=str(number), state=state, error="550", **times))
    rows = view(stocked, "v_notifications")
    assert [(row["job"], row["state"], row["error"]) for row in rows][:1] == [("load", "dead", "550")]
    assert "recipient" not in rows[0]
    (problem,) = view(stocked, "v_health")
    assert (problem["problem"], problem["subject"]) == ("notification dead", "job load, 2 of the event failed")


def test_a_job_that_keeps_failing_is_a_problem_until_it_succeeds(stocked: Database) -> None:
    hand = Hand(stocked)

    def run(state: RunState) -> None:
        start(stocked, "load")
        hand.end(hand.take(), state)

    run(RunState.SUCCEEDED)
    for state in (RunState.FAILED, RunState.TIMED_OUT):
        run(state)
    assert view(stocked, "v_health") == []
    run(RunState.STOPPED)
    run(RunState.FAILED)
    (problem,) = view(stocked, "v_health")
    assert (problem["problem"], problem["subject"]) == ("keeps failing", "job load, 3 times since its last success")
    found = {finding.check: finding.found for finding in stocked.query(factory.trouble)}
    assert found["jobs"].startswith("keeps failing")
    run(RunState.SUCCEEDED)
    assert view(stocked, "v_health") == []


def test_many_problems_of_one_kind_hide_no_other(stocked: Database) -> None:
    """Such as in a night in which everything fails: the kinds come in the order of the alphabet."""
    start(stocked, "load", delay=60.0)
    copied = [column for column in run.c if column.name != "id"]
    with stocked.begin() as conn:
        for _ in range(9):
            conn.execute(run.insert().from_select(copied, sa.select(*copied), include_defaults=False))
        conn.execute(run.update().values(ready_at=utcnow(-90_000)))
        conn.execute(schedule.update().values(next_due_at=utcnow(-1200_000), fire_at=utcnow(-1200_000)))
    found = {finding.check: finding.found for finding in stocked.query(factory.trouble)}
    assert found["queue"].endswith(": run 1, run 2, run 3 and 509 more")
    assert "schedule overdue" in found["schedules"]
