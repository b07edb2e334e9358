"""Notes, and failures that a person or a later success acknowledges."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import note, run, upstream_end
from jobfac.definitions import Retention
from jobfac.errors import NotFound, Refused
from jobfac.operations import notes as operations
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import notes, overview, retention, runs, statistics
from jobfac.store.history.search import Filter, find_all
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from tests.support.database import Hand, define, events, get, now, start

ME = Caller("me")


def ended(db: Database, hand: Hand, job: str, state: RunState) -> int:
    run_id = start(db, job)
    (claimed,) = [one for one in hand.claim() if one.id == run_id]
    hand.end(claimed, state)
    return run_id


def open_failures(db: Database) -> list[int]:
    return [one.id for one in db.query(overview.read).failures]


def test_the_failure_that_ended_last_is_the_first(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    define(db, a={}, long={})
    hand = Hand(db)
    long = start(db, "long")
    (claimed,) = hand.claim()
    short = [ended(db, hand, "a", RunState.FAILED) for _ in range(3)]
    hand.end(claimed, RunState.FAILED)
    with db.begin() as conn:  # not in the same millisecond
        conn.execute(run.update().where(run.c.id == long).values(ended_at=utcnow(1000)))
    assert open_failures(db) == [long, *reversed(short)]
    overview._queries.cache_clear()
    monkeypatch.setattr(overview, "FAILED", 2)
    found = open_failures(db)
    overview._queries.cache_clear()
    assert found == [long, short[-1]], "not the newest runs alone"


def test_a_later_success_acknowledges_by_itself_and_says_so(db: Database) -> None:
    define(db, a={}, b={})
    hand = Hand(db)
    early = [ended(db, hand, "a", state) for state in (RunState.FAILED, RunState.TIMED_OUT)]
    other = ended(db, hand, "b", RunState.LOST)
    assert open_failures(db) == [other, *reversed(early)]
    ended(db, hand, "a", RunState.STOPPED)
    assert open_failures(db) == [other, *reversed(early)]
    success = ended(db, hand, "a", RunState.SUCCEEDED)
    late = ended(db, hand, "a", RunState.START_FAILED)
    assert open_failures(db) == [late, other], "at once, before it is recorded"
    schema = "" if db.dialect.name == "sqlite" else "jobfac."
    with db.read() as conn:
        sql = f"SELECT id, unacknowledged, acknowledged_by FROM {schema}v_failures ORDER BY unacknowledged DESC, id"
        rows = [tuple(row) for row in conn.execute(sa.text(sql))]
    by = f"run {success} succeeded"
    assert rows == [(other, 1, None), (late, 1, None), (early[0], 0, by), (early[1], 0, by)]
    while db.transact(statistics.count):
        pass
    for run_id in early:
        assert (get(db, run_id)["acknowledged_by"], events(db, run_id)[-1]) == (by, "acknowledged")
    assert [get(db, run_id)["acknowledged_at"] for run_id in (other, late, success)] == [None] * 3
    assert open_failures(db) == [late, other]


def test_a_success_that_ended_before_a_failure_hides_nothing(db: Database) -> None:
    define(db, a={})
    hand = Hand(db)
    slow, quick = start(db, "a"), start(db, "a")
    claims = {one.id: one for one in hand.claim()}
    hand.end(claims[quick], RunState.SUCCEEDED)
    hand.end(claims[slow], RunState.FAILED)
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == quick).values(ended_at=utcnow(-60_000)))
    schema = "" if db.dialect.name == "sqlite" else "jobfac."
    shown = sa.text(f"SELECT recovered_at, acknowledged_by, unacknowledged FROM {schema}v_failures")
    db.transact(statistics.count)
    assert open_failures(db) == [slow]
    with db.read() as conn:
        assert tuple(conn.execute(shown).one()) == (None, None, 1)
    assert (get(db, slow)["acknowledged_by"], events(db, slow)[-1]) == (None, "failed")
    later = ended(db, hand, "a", RunState.SUCCEEDED)
    db.transact(statistics.count)
    assert (open_failures(db), get(db, slow)["acknowledged_by"]) == ([], f"run {later} succeeded")


def test_a_success_acknowledges_the_failures_of_a_whole_night(db: Database) -> None:
    """The filter `unacknowledged` found those beyond the first 500, which the overview no longer showed."""
    define(db, a={})
    many = db.transact(runs.start_many, StartRequest("a", "me"), notes.BATCH + 1)
    with db.begin() as conn:
        conn.execute(run.update().values(state=RunState.FAILED, ended_at=utcnow(), counted=True))
    ended(db, Hand(db), "a", RunState.SUCCEEDED)
    assert open_failures(db) == []
    db.transact(statistics.count)
    assert db.query(find_all, Filter(unacknowledged=True), len(many)) == []


def test_the_first_acknowledgement_stays(db: Database) -> None:
    define(db, a={})
    hand = Hand(db)
    first, second = (ended(db, hand, "a", RunState.FAILED) for _ in range(2))
    both = operations.acknowledge(db, ME, [second, first])
    assert [(one.id, one.acknowledged_by) for one in both] == [(second, "me"), (first, "me")]
    assert operations.acknowledge(db, Caller("you"), [first])[0].acknowledged_by == "me"
    assert open_failures(db) == []
    good = ended(db, hand, "a", RunState.SUCCEEDED)
    third = ended(db, hand, "a", RunState.FAILED)
    for ids in ([third, good], [third, 99]):
        with pytest.raises((Refused, NotFound)):
            operations.acknowledge(db, ME, ids)
    assert open_failures(db) == [third], "all or none"


def test_notes_stay_with_their_run_and_go_with_it(db: Database) -> None:
    define(db, a={})
    hand = Hand(db)
    run_id = ended(db, hand, "a", RunState.FAILED)
    operations.add(db, ME, run_id, "first")
    operations.add(db, ME, run_id, "sécond 🙂", acknowledge=True)
    assert [(one.by, one.text) for one in db.query(notes.of_run, run_id)] == [("me", "first"), ("me", "sécond 🙂")]
    assert get(db, run_id)["acknowledged_by"] == "me"
    for text in ("", "  \n", "x" * 4001):
        with pytest.raises(Refused):
            operations.add(db, ME, run_id, text)
    with pytest.raises(Refused):
        operations.add(db, ME, ended(db, hand, "a", RunState.SUCCEEDED), "x", acknowledge=True)
    with db.begin() as conn:
        conn.execute(run.update().values(counted=True))
    retention.purge_all(db, Keep(age=0.001))
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(note)).scalar() == 0
    with pytest.raises(NotFound):
        db.query(runs.get, run_id)


def during(db: Database, word: str, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Call ``second`` before ``first`` executes a statement with this word. Returns its result or error."""
    done, running, mine = threading.Event(), list[Any](), threading.get_ident()

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        if not running and word in statement and threading.get_ident() == mine:
            running.append(pool.submit(second))
            running[0].add_done_callback(lambda _: done.set())
            done.wait(0.5)  # longer if it waits for a lock

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    with ThreadPoolExecutor(1) as pool:
        first()
        return running[0].exception(30) or running[0].result()


def test_a_failure_is_acknowledged_once_when_a_person_and_a_success_do_it(db: Database) -> None:
    define(db, a={})
    hand = Hand(db)
    failure, good = ended(db, hand, "a", RunState.FAILED), ended(db, hand, "a", RunState.SUCCEEDED)
    success = [notes.Success("a", good, now(db))]
    during(
        db,
        "acknowledged_by=",
        lambda: db.transact(notes.acknowledge_recovered, success),
        lambda: operations.acknowledge(db, ME, [failure]),
    )
    assert events(db, failure).count("acknowledged") == 1
    assert db.transact(notes.acknowledge_recovered, success) == 0


def test_a_note_is_refused_when_its_run_is_just_being_removed(db: Database) -> None:
    define(db, a={})
    run_id = ended(db, Hand(db), "a", RunState.FAILED)
    with db.begin() as conn:
        conn.execute(run.update().values(counted=True))
        conn.execute(
            upstream_end.insert().values(schedule_id=99, run_id=run_id, job="a", state="failed", ended_at=utcnow())
        )
    found = during(
        db,
        "attempt",
        lambda: db.transact(retention.purge, "a", Retention(age=0.001)),
        lambda: operations.add(db, ME, run_id, "late"),
    )
    assert isinstance(found, NotFound)
    retention.purge_all(db, Keep(age=1000.0))
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(note)).scalar() == 0
        assert conn.execute(sa.select(sa.func.count()).select_from(upstream_end)).scalar() == 0
