"""A due time whose start is refused sends an event, unless somebody has disabled the job."""

import json
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit, schedule
from jobfac.store import jobs, schedules
from tests.support.database import now
from tests.support.outbox import notified_events, on, rows

NEEDS = {"n": {"type": "integer", "required": True}}


def put(db: Database, job: str, **body: Any) -> None:
    wanted = {"command": ["true"], "parameters": NEEDS, "notify": [on("missed")], **body}
    db.transact(schedules.put, job, d.from_data({"jobs": {job: wanted}}).jobs[job], "me")


def test_a_refused_due_time_is_told(db: Database) -> None:
    put(db, "job", schedules=[{"every": "1h", "parameters": {"n": "${previous.success.date}"}}])
    put(db, "off", schedules=[{"every": "1h", "parameters": {"n": "${previous.success.date}"}}])
    db.transact(jobs.enable, "off", False, "me")
    due = (now(db) - timedelta(seconds=5)).replace(microsecond=0)
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=due, fire_at=due, definition=_since(due)))
    done = db.transact(schedules.insert_due, "s1")
    assert {one.job for one in done.refusals} == {"job", "off"}
    assert notified_events(db) == [("job", "missed")]
    body = json.loads(rows(db)[0]["body"])
    assert [body["since"]] * 2 == [one.due_at.isoformat() for one in done.refusals if one.due_at is not None]
    assert "started no run: job 'job': " in body["detail"]
    assert "has not succeeded before" in body["detail"]
    with db.read() as conn:
        (entry,) = conn.execute(sa.select(audit.c.subject, audit.c.after).where(audit.c.action == "missed"))
    assert entry.subject.startswith("job/")
    assert f"{body['since']} started no run" in entry.after


def _since(due: Any) -> str:
    """A rule that is due at this moment."""
    return json.dumps({
        "every": "1h", "starts": due.isoformat(), "parameters": {"n": "${previous.success.date}"},
    })  # fmt: skip
