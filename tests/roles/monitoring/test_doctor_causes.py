"""What `doctor` says of workers that live and claim nothing, and of notifications that cannot be delivered."""

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification, worker
from jobfac.doctor import factory as checks
from jobfac.doctor.finding import State
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
