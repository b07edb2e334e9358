"""A sequence that cannot be advanced stops nobody else."""

from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import job_version, run, visit
from jobfac.definitions import Sequence
from jobfac.doctor import factory
from jobfac.doctor.finding import State
from jobfac.store import sequences
from jobfac.store.sequences import advance, decide, sweeping
from tests.support.database import define, get, start, state
from tests.support.sequences import Player, path

STEPS = [{"name": "one", "jobs": "a"}, {"name": "two", "jobs": "b"}]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str | None]:
    """Sequences, by description, about which every decision raises an error that nobody expects."""
    real, found = decide.decide, set[str | None]()

    def play(sequence: Sequence, *rest: Any) -> Any:
        if sequence.description in found:
            raise KeyError("what nobody expects")
        return real(sequence, *rest)

    monkeypatch.setattr(advance, "decide", play)
    return found


def both(db: Database, *first: dict[str, Any]) -> tuple[int, int, Player]:
    """Start the sequences ``bad`` and ``good``, in this order, and claim their first jobs. ``first``: first steps."""
    steps = [*first, *STEPS]
    define(db, a={"restartable": False}, b={}, bad={"steps": steps, "description": "bad"}, good={"steps": steps})
    ids = start(db, "bad"), start(db, "good")
    player = Player(db)
    player.look()
    return *ids, player


def test_an_expiry_advances_all_other_sequences(db: Database, broken: set[str | None]) -> None:
    bad, good, player = both(db)
    broken.add("bad")
    player.lapse()
    expiry = db.transact(sequences.expire, "s1")
    assert [(one.job, one.state) for one in expiry.runs] == [("a", "lost"), ("a", "lost")]
    assert [state(db, one) for one in (bad, good)] == ["running", "failed"]
    broken.clear()
    elsewhere = Database(db.url.render_as_string(hide_password=False))
    elsewhere.transact(sequences.sweep, "s2")
    elsewhere.close()
    assert state(db, bad) == "failed", "another process does not know the error"


def test_a_worker_that_deregisters_advances_all_other_sequences(db: Database, broken: set[str | None]) -> None:
    bad, good, player = both(db)
    broken.add("bad")
    db.transact(sequences.deregister, player.id, "w1")
    assert [state(db, one) for one in (bad, good)] == ["running", "failed"]


def test_a_sweep_reaches_sequences_beyond_the_broken_ones(
    db: Database, broken: set[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "BATCH", 1)
    bad, good, _ = both(db)
    broken.add("bad")
    with db.begin() as conn:  # as a DBA's statement ends runs
        ended = sa.update(run).where(run.c.job == "a").values(state="failed", worker_id=None, ended_at=utcnow())
        conn.execute(ended)
    db.transact(sequences.sweep, "s1")
    assert [state(db, one) for one in (bad, good)] == ["running", "failed"]


def test_what_is_beyond_one_batch_goes_on_later(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "BATCH", 1)
    bad, good, _ = both(db)
    db.transact(sequences.go_on, {bad, good}, "s1")
    assert db.sequences.take_unfinished() == {good}


def test_a_step_that_has_waited_wakes_all_other_sequences(db: Database, broken: set[str | None]) -> None:
    _, good, _ = both(db, {"name": "zero", "wait": {"duration": "1h"}})
    broken.add("bad")
    with db.begin() as conn:
        conn.execute(visit.update().where(visit.c.wake_at.is_not(None)).values(wake_at=utcnow(-1000)))
    assert db.transact(sequences.wake, "s1") == 1
    assert path(db, good) == ["zero:success>one", "one:None>None"]
    assert db.transact(sequences.wake, "s1") == 0, "a scheduler does not try the broken one all the time"


def test_a_sequence_whose_definition_cannot_be_read_waits_once_it_has_begun(db: Database) -> None:
    bad, good, player = both(db)
    later = start(db, "bad")
    with db.begin() as conn:
        of_bad = job_version.c.job == "bad"
        stored = conn.execute(sa.select(job_version.c.definition).where(of_bad)).scalar_one()
        conn.execute(job_version.update().where(of_bad).values(definition="{"))
    begun = []
    sa.event.listen(db.engine, "begin", lambda conn: begun.append(conn))
    player.finish("a", "a")
    assert len(begun) == 1, "nothing is repeated for it"
    player.look()
    assert path(db, good) == ["one:success>two", "two:None>None"]
    assert (state(db, bad), state(db, later)) == ("running", "failed")
    assert get(db, later)["reason"].startswith("its definition cannot be read: job 'bad': is stored as text that is no")
    (found,) = [one.found for one in db.query(lambda conn: [*factory.schedules(conn)]) if one.state == State.WARNING]
    assert found.startswith("its sequences under way wait: job 'bad': is stored as text that is no")
    with db.begin() as conn:
        conn.execute(job_version.update().where(of_bad).values(definition=stored))
    elsewhere = Database(db.url.render_as_string(hide_password=False))
    elsewhere.transact(sequences.sweep, "s2")
    elsewhere.close()
    assert path(db, bad) == ["one:success>two", "two:None>None"]
