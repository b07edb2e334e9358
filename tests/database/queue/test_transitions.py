"""All transitions of runs, compared with the table in ``states``."""

from datetime import UTC, timedelta
from itertools import pairwise

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run, run_event
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.states import FINAL, TRANSITIONS, RunState
from jobfac.store import runs
from jobfac.store.holds.placing import Scope
from jobfac.views.serialization import as_json
from tests.support.database import Hand, attempts, define, get, make_due, now, start


def stop(db: Database, run_id: int) -> None:
    db.transact(runs.request_stop, run_id, now=False, by="me")


def make_every_transition(db: Database) -> None:
    """Make runs of programs pass through every transition."""
    define(
        db,
        plain={},
        once={"restartable": False},
        deny={"already_running": "deny", "concurrency": {"key": "k"}},
        line={"already_running": "queue"},
        key={"concurrency": {"key": "k"}},
    )
    hand = Hand(db, slots=100)
    for ending in FINAL - {RunState.DENIED, RunState.LOST, RunState.MIXED}:
        start(db, "plain")
        hand.end(hand.take(), ending)
        stop(db, start(db, "plain"))
        stopped_by_request = start(db, "plain")
        claimed = hand.take()
        stop(db, stopped_by_request)
        hand.end(claimed, ending)
    start(db, "plain")
    hand.end(hand.take(), RunState.FAILED, retry_after=1.0)
    start(db, "plain")
    hand.end(hand.take(), RunState.QUEUED)
    hand.end(hand.take())
    stop(db, start(db, "plain", delay=60.0))
    start(db, "line"), start(db, "line", delay=60.0)
    stop(db, start(db, "line"))
    start(db, "key"), start(db, "deny", delay=60.0), start(db, "deny"), start(db, "deny")
    make_due(db)
    db.transact(runs.promote_due, "w1")
    change_the_policy_of_a_waiting_run(db)
    while taken := hand.claim():
        for claimed in taken:
            hand.end(claimed)
    for job in ("plain", "once", "plain", "once"):
        start(db, job)
    for claimed in hand.claim()[2:]:
        stop(db, claimed.id)
    hand.die()


def hold_a_queued_run(db: Database) -> None:
    """A run is queued, held, and queued again."""
    define(db, job={})
    start(db, "job")
    placed = holds.hold(db, Caller("boss"), Scope(job="job"), "why")
    holds.release(db, Caller("boss"), placed.id)


def change_the_policy_of_a_waiting_run(db: Database) -> None:
    """A run with ``deny`` waits for its key. Then its definition changes, and another run of the job is admitted."""
    define(db, deny={})
    start(db, "deny")
    db.transact(runs.release_blocked, None, "w1")


def test_every_transition_is_legal(db: Database) -> None:
    make_every_transition(db)
    hold_a_queued_run(db)
    seen: set[tuple[str, str]] = set()
    with db.read() as conn:
        for row in conn.execute(sa.select(run.c.id, run.c.state)).all():
            words = [e.event for e in runs.events_of(conn, row.id) if e.event in set(RunState)]
            assert words[-1] == row.state
            assert words[0] in ("queued", "scheduled", "blocked", "denied")
            seen |= set(pairwise(words))
    legal = {(before.value, after.value) for before, afters in TRANSITIONS.items() for after in afters}
    assert seen <= legal
    of_sequences = {("running", "mixed"), ("stopping", "mixed")}
    assert legal - seen == of_sequences | {("stopping", "lost")}


def test_every_transition_has_an_event_in_order(db: Database) -> None:
    before = now(db)
    make_every_transition(db)
    with db.read() as conn:
        found = conn.execute(sa.select(run_event).order_by(run_event.c.id)).all()
    assert all(event.at.tzinfo is UTC and event.at.microsecond % 1000 == 0 for event in found)
    assert all(earlier.at <= later.at for earlier, later in pairwise(found))
    assert before <= found[0].at
    assert found[-1].at <= now(db)
    assert {event.by for event in found} == {"tester", "me", "w1", "sweeper"}


def test_times_are_in_utc_and_in_order(db: Database) -> None:
    make_every_transition(db)
    with db.read() as conn:
        ids = conn.execute(sa.select(run.c.id)).scalars().all()
    some = 0
    for run_id in ids:
        row = get(db, run_id)
        times = [row[name] for name in ("created_at", "queued_at", "started_at", "ended_at") if row[name] is not None]
        assert all(time.tzinfo is UTC for time in times)
        if row["attempt"] == 1 and row["state"] == "succeeded":
            some += 1
            slack = timedelta(milliseconds=2)  # an end is computed as now minus its age
            assert all(earlier <= later + slack for earlier, later in pairwise(times))
        with db.read() as conn:
            assert as_json(runs.get(conn, run_id))["created_at"].endswith("+00:00")
        assert (row["ended_at"] is not None) == (row["state"] in FINAL)
        assert all(attempt.started_at.tzinfo is UTC for attempt in attempts(db, run_id))
    assert some > 3
