"""What `doctor` says of workers that live and claim nothing, of notifications that cannot be delivered, and of programs
that KILL does not end."""

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, notification, run, worker
from jobfac.doctor import factory as checks
from jobfac.doctor.finding import State
from jobfac.store.runs import events
from jobfac.store.runs.event import Event
from tests.support.database import Hand, define, start


def test_a_worker_that_claims_nothing_is_named_and_serves_no_queue(db: Database) -> None:
    define(db, load={})
    start(db, "load")
    Hand(db, "sick")
    assert {one.state for one in db.query(lambda conn: list(checks.queues(conn)))} == {State.OK}
    for message in ("unhealthy: no space in /spool", "claims nothing: 102 MiB of memory are free"):
        with db.begin() as conn:
            conn.execute(sa.update(worker).values(message=message))
        why = message.removeprefix("claims nothing: ")
        assert f"these claim nothing: sick ({why})" in [one.found for one in db.query(checks.workers)]
        assert {one.state for one in db.query(lambda conn: list(checks.queues(conn)))} == {State.PROBLEM}


def test_notifications_whose_first_try_has_failed_are_named_at_once(db: Database) -> None:
    message = {"job": "load", "event": "failed", "recipient": "{}", "body": "{}", "tries": 1, "dedupe": "a"}
    times = {"created_at": utcnow(), "due_at": utcnow()}
    with db.begin() as conn:
        conn.execute(notification.insert().values({**message, **times, "state": "waiting", "error": "no mail server"}))
    (finding,) = db.query(lambda conn: list(checks.notifications(conn)))
    assert (finding.state, finding.found) == (State.WARNING, "1 could not be delivered yet")


def test_a_run_whose_program_kill_does_not_end_is_named(db: Database) -> None:
    define(db, stuck={"command": ["x"]}, well={"command": ["x"]})
    start(db, "stuck")
    hand = Hand(db)
    claimed = hand.take()
    stuck = Event(claimed.id, 1, "kill_unanswered", "w1", "process 7 has not ended 10 s after KILL")
    with db.begin() as conn:
        events.record(conn, [stuck])
    start(db, "well")
    hand.take()
    (finding,) = db.query(lambda conn: list(checks.programs(conn)))
    assert finding.found == f"run {claimed.id} on w1: process 7 has not ended 10 s after KILL"
    hand.end(claimed)
    assert db.query(lambda conn: list(checks.programs(conn))) == []


def test_a_program_that_has_survived_the_lease_of_its_worker_is_named(db: Database) -> None:
    define(db, stuck={"command": ["x"]})
    start(db, "stuck")
    hand = Hand(db)
    claimed = hand.take()
    with db.begin() as conn:
        events.record(conn, [Event(claimed.id, 1, "kill_unanswered", "w1", "process 7 is stuck")])
        conn.execute(attempt.update().values(state="lost", ended_at=attempt.c.started_at))
        conn.execute(run.update().values(state="lost"))
    (finding,) = db.query(lambda conn: list(checks.programs(conn)))
    assert finding.found == f"run {claimed.id} on w1: process 7 is stuck"
    assert "before you retry" in str(finding.remedy)
