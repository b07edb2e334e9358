"""Notes, and failures that a person or a later success acknowledges."""

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import note, run
from jobfac.errors import NotFound, Refused
from jobfac.operations import notes as operations
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import notes, overview, retention, runs, statistics
from jobfac.store.retention import Keep
from tests.support.database import Hand, define, events, get, start

ME = Caller("me")


def ended(db: Database, hand: Hand, job: str, state: RunState) -> int:
    run_id = start(db, job)
    (claimed,) = [one for one in hand.claim() if one.id == run_id]
    hand.end(claimed, state)
    return run_id


def open_failures(db: Database) -> list[int]:
    return [one.id for one in db.query(overview.read).failures]


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
