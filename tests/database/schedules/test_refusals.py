"""A due time whose start is refused sends an event, unless somebody has disabled the job."""

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit, job_version, schedule
from jobfac.store import jobs, runs, schedules
from jobfac.store.runs import StartRequest
from jobfac.store.schedules import following, inserting
from tests.support.database import Hand, now, start
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


def store(db: Database, job: str, definition: str) -> None:
    """Store a definition as another version of jobfac would."""
    with db.begin() as conn:
        conn.execute(job_version.update().where(job_version.c.job == job).values(definition=definition))


def test_due_times_and_ends_of_a_job_that_cannot_be_read_here_wait(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler with an older jobfac, or whose files are just replaced, lost them, and told nobody."""
    rules: dict[str, Any] = {"first": [], "clock": [{"every": "1h"}], "after": [{"after": {"job": "first"}}]}
    rules["later"] = rules["after"]
    wanted = {job: {"command": ["true"], "schedules": its} for job, its in rules.items()}
    for job, one in d.from_data({"jobs": wanted}).jobs.items():
        db.transact(schedules.put, job, one, "me")
    hand = Hand(db)
    start(db, "first")
    hand.end(hand.take(), pid=1)
    due = (now(db) - timedelta(minutes=10)).replace(microsecond=0)
    with db.begin() as conn:
        rule = json.dumps({"every": "1h", "starts": due.isoformat(), "missed": {"policy": "all"}})
        conn.execute(
            schedule.update().where(schedule.c.job == "clock").values(next_due_at=due, fire_at=due, definition=rule)
        )
    for job in ("clock", "after"):
        store(db, job, '{"command": ["true"], "newer": 1}')
    monkeypatch.setattr(following, "SCHEDULES", 1)  # those that wait fill no page
    for work in (schedules.insert_due, schedules.insert_followers):
        done = db.transact(work, "s1")
        assert len(done.runs) == (work is schedules.insert_followers), "that of `later`"
        assert ["cannot be used" in one.why for one in done.refusals] == [True]
    with db.begin() as conn:
        rows_of = schedule.c.job == "after"
        rule = conn.execute(sa.select(schedule.c.definition).where(rows_of)).scalar_one()
        conn.execute(schedule.update().where(rows_of).values(definition='{"after": {"newer": 1}}'))
    store(db, "after", '{"command": ["true"]}')
    assert db.transact(schedules.insert_followers, "s1").runs == [], "its row cannot be read, either"
    with db.begin() as conn:
        conn.execute(schedule.update().where(rows_of).values(definition=rule))
    store(db, "clock", '{"command": ["true"]}')
    with db.begin() as conn:
        conn.execute(schedule.update().where(schedule.c.job == "clock").values(fire_at=due))
    assert len(db.transact(schedules.insert_due, "s1").runs) == 1
    assert len(db.transact(schedules.insert_followers, "s1").runs) == 1


def test_a_start_needs_no_zone_of_a_schedule(db: Database) -> None:
    put(db, "job", parameters={})
    zone = {"cron": "0 6 * * *", "timezone": "Mars/Phobos", "missed": {"policy": "skip"}}
    store(db, "job", json.dumps({"command": ["true"], "schedules": [zone]}))
    assert start(db, "job")
    (answer,) = db.transact(runs.start_each, [StartRequest("job", "me")])
    assert isinstance(answer, int)


@pytest.mark.parametrize("limit", [200, 3])
def test_a_backlog_delays_nothing_that_is_on_time(db: Database, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """What is due now was looked at after the whole backlog, and was missed then."""
    monkeypatch.setattr(inserting, "RUNS", 20)
    due = now(db).replace(microsecond=0) - timedelta(seconds=5)
    put(db, "plain", schedules=[{"every": "1h", "starts": due.isoformat()}], parameters={})
    for number in range(3):
        put(db, f"late{number}", schedules=[{"every": "1m", "missed": "all"}], parameters={})
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=due, fire_at=due))
        long_ago = due - timedelta(hours=1)
        late = schedule.update().where(schedule.c.job != "plain")
        conn.execute(late.values(next_due_at=long_ago, fire_at=long_ago))
    done = db.transact(schedules.insert_due, "s1", limit)
    with db.read() as conn:
        assert "plain" in {runs.get(conn, one).job for one in done.runs}
