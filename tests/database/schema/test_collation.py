"""Names that differ in case only, on a database that treats them as equal, as SQL Server does by default."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule
from jobfac.operations import jobs, starting
from jobfac.operations.caller import Caller
from jobfac.states import Role
from jobfac.store import api_keys, retention, statistics
from jobfac.store import jobs as job_store
from jobfac.store.history import directory, search, waiting
from jobfac.store.holds import reading
from jobfac.store.runs import StartRequest
from jobfac.store.runs.repeats import check_repeat
from jobfac.store.triggers import start_urls
from tests.support.database import Hand, get, now, start
from tests.support.tsql import SPELLINGS

ME = Caller("me")

_NAME = re.compile(r"\bVARCHAR\((128|200|400)\)")


def ignore_case(file: Path, collation: str = "NOCASE") -> None:
    """Give all columns of names in an empty database a collation that ignores case, or another one."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
            changed = _NAME.sub(rf"\g<0> COLLATE {collation}", sql)
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ? AND type = 'table'", (changed, name))
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute(f"PRAGMA schema_version = {version + 1}")
        connection.execute("PRAGMA writable_schema = OFF")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("REINDEX")
        connection.commit()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def folding(sqlite_url: str) -> Iterator[Database]:
    """A database that ignores case."""
    file = sa.make_url(sqlite_url).database
    assert file is not None
    ignore_case(Path(file))
    db = Database(sqlite_url)
    yield db
    db.close()


def apply(db: Database, prune: bool = False, **bodies: Any) -> jobs.Applied:
    found = {job: {"command": ["true"], **body} for job, body in bodies.items()}
    return jobs.apply(db, ME, lambda known: d.from_data({"jobs": found}, known=known), prune=prune)


def schedules_of(db: Database) -> list[tuple[str, str]]:
    with db.read() as conn:
        return [(row.job, row.name) for row in conn.execute(sa.select(schedule).order_by(schedule.c.id))]


def test_a_job_whose_id_changes_its_case_keeps_its_schedules(folding: Database) -> None:
    timed = {"schedules": [{"cron": "0 6 * * *"}, {"after": {"job": "first"}}]}
    apply(folding, first={}, Load=timed)
    applied = apply(folding, prune=True, first={}, load=timed)
    assert (list(applied.jobs.add), list(applied.jobs.remove)) == (["load"], ["Load"])
    assert [job for job, _ in schedules_of(folding)] == ["load", "load"]
    again = apply(folding, prune=True, first={}, load=timed)
    assert [*again.jobs.add, *again.jobs.change, *again.jobs.remove] == []


def test_a_pool_and_labels_are_one_in_any_case(folding: Database) -> None:
    apply(folding, one={"pool": "ETL", "labels": {"zone": "A"}}, other={"pool": "etl", "labels": {"zone": "a"}})
    ids = [start(folding, "one"), start(folding, "other")]
    hand = Hand(folding, pools=["Etl"], labels={"Zone": "a"})
    with folding.read() as conn:
        served, closed = reading.claimable_queues(conn, ["Etl"], {"Zone": "a"}, 1)
        assert (len(served), closed) == (1, False)
        reasons = waiting.reasons(conn, ids)
    assert set(reasons.values()) == {"its turn: a slot is free"}
    assert [one.id for one in hand.claim(queues=list(served))] == ids


def test_a_start_on_each_worker_in_another_spelling_of_the_pool(folding: Database) -> None:
    apply(folding, one={"pool": "ETL"}, each={"pool": "etl", "each_worker": True})
    Hand(folding, "w1", pools=["etl"])
    (started,) = starting.start(folding, ME, StartRequest("each", "me"))
    assert started.for_worker == "w1"


def test_runs_of_a_job_with_another_case_are_kept_as_it_says(folding: Database) -> None:
    apply(folding, load={})
    hand = Hand(folding)
    run_id = start(folding, "load")
    hand.end(hand.take())
    apply(folding, prune=True, LOAD={"retention": "3650d"})
    with folding.begin() as conn:
        conn.execute(run.update().values(ended_at=now(folding) - timedelta(days=100), counted=True))
    retention.purge_all(folding, retention.Keep(30 * 86400.0))
    assert get(folding, run_id)["state"] == "succeeded"


def test_runs_of_both_spellings_are_counted_together(folding: Database) -> None:
    apply(folding, load={})
    hand = Hand(folding)
    start(folding, "load")
    hand.end(hand.take())
    folding.transact(job_store.remove, "load", "me")
    apply(folding, LOAD={})
    start(folding, "LOAD")
    hand.end(hand.take())
    assert folding.transact(statistics.count) == 2
    with folding.read() as conn:
        assert len(search.find_all(conn, search.Filter(job="Load"))) == 2


def test_a_key_for_a_category_sees_it_in_any_case_everywhere(folding: Database) -> None:
    apply(folding, a={"category": "Etl"}, b={"category": "other"})
    made = folding.transact(api_keys.create, "k", Role.VIEWER, "me", ["ETL"])
    caller = folding.query(api_keys.check, made.key)
    assert caller is not None
    assert folding.query(directory.names, caller.categories) == ["a"]
    assert [one.id for one in folding.query(job_store.load_all) if caller.sees(one.category)] == ["a"]
    url = folding.transact(start_urls.create, "a", "u", "me", ["ETL"])
    used = folding.query(start_urls.check, url.token)
    assert used is not None
    assert used.categories == ("ETL", "Etl")


def test_a_start_whose_key_differs_in_case_is_refused_and_not_taken_for_the_other_one(folding: Database) -> None:
    apply(folding, one={})
    (first,) = starting.start(folding, ME, StartRequest("one", "me", key="0015g00000AbCdE"))
    (again,) = starting.start(folding, ME, StartRequest("one", "me", key="0015g00000AbCdE"))
    assert again.id == first.id
    with pytest.raises(
        d.DefinitionError, match=f"was used for run {first.id}, which differs in the spelling of its key"
    ):
        starting.start(folding, ME, StartRequest("one", "me", key="0015g00000aBcDe"))


def test_a_start_on_each_worker_is_repeated_with_blanks_at_the_end_of_its_key(sqlite_url: str) -> None:
    """SQL Server ignores them."""
    ignore_case(Path(str(sa.make_url(sqlite_url).database)), "RTRIM")
    db = Database(sqlite_url)
    apply(db, each={"each_worker": True})
    for name in ("w1", "w2"):
        Hand(db, name)
    first = starting.start(db, ME, StartRequest("each", "me", key="k"))
    again = starting.start(db, ME, StartRequest("each", "me", key="k "))
    assert len(first) == 2
    assert [one.id for one in again] == [one.id for one in first]
    db.close()


@pytest.mark.parametrize(("stored", "asked", "is_same"), SPELLINGS)
def test_keys_that_are_spelt_differently_are_different_starts(
    sqlite_url: str, stored: str, asked: str, is_same: bool
) -> None:
    db = Database(sqlite_url)
    apply(db, one={})
    (first,) = starting.start(db, ME, StartRequest("one", "me", key=stored))
    (other,) = starting.start(db, ME, StartRequest("one", "me", key=asked))
    assert (other.id == first.id) == (stored == asked), "SQLite compares them letter by letter"
    with db.read() as conn:
        if is_same:
            check_repeat(conn, first.id, StartRequest("one", "me", key=asked))
        else:
            with pytest.raises(d.DefinitionError, match="the spelling of its key"):
                check_repeat(conn, first.id, StartRequest("one", "me", key=asked))
    db.close()
