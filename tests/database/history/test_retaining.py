"""A purge leaves the ended runs that something else still needs."""

from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import outbox_event, run
from jobfac.states import RunState
from jobfac.store import retention, runs, sequences
from jobfac.store.retention import Keep
from tests.support.database import Hand, define, start
from tests.support.engines import ENGINES
from tests.support.sequences import Player
from tests.support.tsql import call

DAY = 86400.0
WAYS = [
    *((engine, "program") for engine in ENGINES),
    *(pytest.param(engine, "procedure", marks=pytest.mark.mssql) for engine in ENGINES[1:]),
]

pytestmark = pytest.mark.parametrize(("url", "by"), WAYS, indirect=["url"])


def purge(db: Database, by: str, **of_job: str) -> list[int]:
    """Purge what is older than 30 days, or too much. Returns the runs that are left."""
    db.transact(lambda conn: conn.execute(run.update().values(counted=True)))
    if by == "program":
        retention.purge_all(db, Keep(30 * DAY))
    else:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            call(conn, "purge", older_than_days=30, **of_job)
    with db.read() as conn:
        return list(conn.execute(sa.select(run.c.id).order_by(run.c.id)).scalars())


def age(db: Database, run_ids: Sequence[int]) -> None:
    old = run.update().where(lists.by_id(run.c.id, run_ids), run.c.ended_at.is_not(None))
    db.transact(lambda conn: conn.execute(old.values(ended_at=utcnow(-100 * DAY * 1000))))


def end(db: Database, hand: Hand, state: RunState = RunState.SUCCEEDED) -> None:
    for claimed in hand.claim():
        hand.end(claimed, state=state)


def test_a_retry_stays_as_long_as_the_run_that_it_repeats(db: Database, by: str) -> None:
    """Otherwise a retry of many runs would do the same work again."""
    define(db, a={"retention": {"count": 1}})
    hand = Hand(db)
    former = start(db, "a", key="order 1")
    end(db, hand, RunState.FAILED)
    again = db.transact(runs.retry, former, "me").run_id
    end(db, hand)
    other = start(db, "a")
    end(db, hand)
    age(db, [again])  # a key is remembered for a day
    assert purge(db, by, job="a") == [former, again, other]
    age(db, [former])
    purge(db, by, job="a")
    assert purge(db, by, job="a") == [other]


def test_what_an_unfinished_sequence_continues_stays(db: Database, by: str) -> None:
    steps = [{"name": "one", "jobs": "a"}, {"name": "two", "jobs": "b"}, {"name": "three", "jobs": "c"}]
    define(db, a={}, b={}, c={}, seq={"steps": steps})
    player = Player(db)
    first = start(db, "seq")
    player.look()
    player.finish("a", outputs='{"rows": 1}')
    player.look()
    player.fail("b")
    second = db.transact(sequences.retry, first, "me", from_failed=True).run_id
    player.look()
    player.finish("b")
    player.look()
    player.fail("c")
    third = db.transact(sequences.retry, second, "me", from_failed=True).run_id
    for job in "abc":
        start(db, job)
        player.look()
        if job != "c":
            player.finish(job)
    everything = range(1, third + 10)
    age(db, everything)
    left = purge(db, by)
    assert {first, second, third} < set(left)
    with db.read() as conn:
        of_first = sa.select(run.c.outputs).where(run.c.sequence_run_id == first, run.c.job == "a")
        assert conn.execute(of_first).scalar_one() == '{"rows": 1}'


def test_runs_stay_until_their_events_are_addressed(db: Database, by: str) -> None:
    """Who is notified stands in the row of a run, and in that of the sequence around it."""
    notify = [{"on": ["failed"], "of": "jobs", "to": {"email": "ops@example.org"}}]
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}], "notify": notify})
    player = Player(db)
    sequence = start(db, "seq")
    player.look()
    player.fail("a")
    (child,) = children_of(db, sequence)
    later = [start(db, job) for job in ("a", "seq")]
    for _ in later:
        player.look()
        player.finish("a")
    age(db, [sequence, child, *later])
    assert purge(db, by)[:2] == [sequence, child]
    db.transact(lambda conn: conn.execute(outbox_event.delete()))
    assert not {sequence, child} & set(purge(db, by))


def children_of(db: Database, run_id: int) -> list[int]:
    with db.read() as conn:
        return list(conn.execute(sa.select(run.c.id).where(run.c.sequence_run_id == run_id)).scalars())
