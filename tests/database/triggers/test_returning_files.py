"""Files that go and come back, on every engine: each return is one run, and nothing else starts a file again."""

import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import arrived_file, run
from jobfac.errors import Refused
from jobfac.operations import starting
from jobfac.operations.bulk import many
from jobfac.operations.caller import Caller
from jobfac.settings import Settings
from jobfac.states import RunState
from jobfac.store import retention, runs, schedules
from jobfac.store.schedules import Arrived, ArrivedFile, Gone
from jobfac.worker.files.files import Files
from tests.database.queue.test_pinning import claim
from tests.database.triggers.test_files import AtOnce, apply
from tests.support.database import Hand, now, together
from tests.support.engines import EACH_DIALECT
from tests.support.factory import wait_for

ME = Caller("me")
HERE, THERE = "host1 1:1", "host2 1:1"


@pytest.fixture
def load(db: Database) -> Database:
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    return db


def file(place: str = HERE) -> ArrivedFile:
    return ArrivedFile("/in/a.csv", 1, 1, place)


def moment(db: Database) -> Any:
    """The time of the database, later than all that was stored."""
    before = now(db)
    return wait_for(lambda: after if (after := now(db)) > before else None, "the clock ticks")


def arrive(db: Database, place: str = HERE, looked_at: Any = None) -> Arrived:
    (watch,) = db.query(schedules.watched, ["default"])
    return db.transact(schedules.start_arrived, watch, [file(place)], looked_at or moment(db))


def go(db: Database, run_id: int, place: str = HERE, looked_at: Any = None) -> bool:
    """Whether the note was stored, or is not needed."""
    gone = [Gone(file().key, run_id, place)]
    return bool(db.transact(schedules.note_gone, "load", gone, looked_at or moment(db)))


def end(db: Database, hand: Hand) -> int:
    taken = hand.take()
    hand.end(taken, RunState.FAILED)
    return taken.id


def number(db: Database) -> int:
    with db.read() as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one()


def test_a_file_that_was_gone_after_its_run_is_another_one(load: Database) -> None:
    (first,) = arrive(load).runs
    end(load, Hand(load))
    assert arrive(load).handled == {file().key: first}
    assert go(load, first)
    (second,) = arrive(load).runs
    assert arrive(load).handled == {file().key: second}
    assert go(load, first), "the note of a worker that was late needs no attention"
    assert arrive(load).runs == []
    end(load, Hand(load, "w2"))
    assert go(load, second)
    assert len(arrive(load).runs) == 1


def test_of_workers_that_see_it_come_back_one_starts_it(load: Database) -> None:
    (first,) = arrive(load).runs
    end(load, Hand(load))
    for place in (HERE, THERE):
        assert go(load, first, place)
    together(3, lambda at: arrive(load, (HERE, THERE, HERE)[at]))
    for place in (HERE, THERE):
        arrive(load, place)
    assert number(load) == 2


def test_what_is_gone_from_one_machine_says_nothing_about_another(load: Database) -> None:
    """The sender writes to both. One file is moved, and the other one arrives late, or stays."""
    (first,) = arrive(load).runs
    end(load, Hand(load))
    assert go(load, first)
    for place in (THERE, ""):
        assert arrive(load, place).handled == {file().key: first}


def test_a_run_that_moves_its_file_away_and_back_is_not_started_again(load: Database) -> None:
    (first,) = arrive(load).runs
    assert not go(load, first), "it waits"
    hand = Hand(load)
    taken = hand.take()
    away = moment(load)
    assert not go(load, first, looked_at=away), "it runs"
    hand.end(taken, RunState.FAILED)
    assert not go(load, first, looked_at=away), "what was seen while it ran does not count"
    assert arrive(load).runs == []


def test_a_file_whose_run_has_succeeded_comes_back_for_nothing(load: Database) -> None:
    """A mirror brings back what the job has removed. A retry that succeeds counts, too, and so does its failure."""
    (first,) = arrive(load).runs
    hand = Hand(load)
    end(load, hand)
    load.transact(partial(runs.retry, run_id=first, by="me"))
    hand.end(hand.take(), RunState.SUCCEEDED)
    assert go(load, first), "it needs no more attention"
    assert arrive(load).handled == {file().key: first}
    load.transact(partial(runs.retry, run_id=number(load), by="me"))
    end(load, hand)
    assert go(load, first)
    assert len(arrive(load).runs) == 1


def test_the_runs_of_one_worker_each_leave_no_file(db: Database) -> None:
    """Those of other workers may have succeeded."""
    hands = [Hand(db, name) for name in ("w1", "w2")]
    apply(db, load={"each_worker": True, "schedules": [{"file": "/in/*.csv"}]})
    (first,) = arrive(db).runs
    for hand in hands:
        hand.end(claim(db, hand)[0], RunState.FAILED)
    assert go(db, first)
    assert arrive(db).handled == {file().key: first}


def test_a_retry_owns_its_file(load: Database) -> None:
    (first,) = arrive(load).runs
    hand = Hand(load)
    end(load, hand)
    assert go(load, first)
    retry = load.transact(partial(runs.retry, run_id=first, by="me")).run_id
    assert arrive(load).handled == {file().key: first}, "it was moved back for the retry"
    taken = hand.take()
    assert taken.id == retry
    assert not go(load, first)
    hand.end(taken, RunState.FAILED)
    assert arrive(load).runs == []
    assert go(load, first)
    assert len(arrive(load).runs) == 1


@pytest.mark.parametrize("is_one_of_many", [False, True])
def test_a_run_whose_file_has_come_back_is_not_retried_beside_it(load: Database, is_one_of_many: bool) -> None:
    """The file's second run repeats it, and so does that of its third one, or a retry of these."""
    (first,) = arrive(load).runs
    hand = Hand(load)
    end(load, hand)

    def try_again() -> str:
        if is_one_of_many:
            (line,) = many.retry(load, ME, many.find(load, ME, [first]))
            return str(line.reason)
        with pytest.raises(Refused) as refused:
            starting.retry(load, ME, first)
        return str(refused.value)

    known = [first]
    for _ in range(2):
        assert go(load, known[-1])
        known += arrive(load).runs
        assert f"run {known[1 if is_one_of_many else -1]}" in try_again()
        with load.read() as conn:
            row = conn.execute(sa.select(run.c.retry_of, run.c.origin).where(run.c.id == known[-1])).one()
        assert (row.retry_of, json.loads(row.origin)["first"]) == (known[-2], first)
        end(load, hand)
    assert len(known) == 3
    retry = load.transact(partial(runs.retry, run_id=known[-1], by="me")).run_id
    assert arrive(load).handled == {file().key: known[-1]}, "it was moved back for the retry"
    assert f"run {known[1] if is_one_of_many else retry}" in try_again()


def test_a_retry_of_an_earlier_run_of_a_file_owns_it_too(load: Database) -> None:
    """The file's second run has failed as well, and somebody has put the file back for a retry of the first one."""
    (first,) = arrive(load).runs
    hand = Hand(load)
    end(load, hand)
    assert go(load, first)
    (second,) = arrive(load).runs
    end(load, hand)
    assert go(load, second)
    retry = starting.retry(load, ME, first).id
    assert arrive(load).handled == {file().key: second}, "it was moved back for the retry"
    assert not go(load, second)
    taken = hand.take()
    assert taken.id == retry
    hand.end(taken, RunState.SUCCEEDED)
    assert go(load, second), "it needs no more attention"
    assert arrive(load).handled == {file().key: second}


def test_a_worker_that_was_stopped_starts_nothing_with_what_it_saw_before(load: Database) -> None:
    before = moment(load)
    (first,) = arrive(load).runs
    end(load, Hand(load))
    assert go(load, first)
    (watch,) = load.query(schedules.watched, ["default"])
    for looked_at in (before, None):
        late = load.transact(schedules.start_arrived, watch, [file()], looked_at)
        assert (late.runs, late.handled) == ([], {}), "it has to look again"
    assert not go(load, first, looked_at=moment(load) + timedelta(hours=1)), "the clock was set back"


def test_a_file_that_came_back_is_remembered_as_the_new_run(load: Database) -> None:
    (first,) = arrive(load).runs
    end(load, Hand(load))
    go(load, first)
    arrive(load)
    with load.begin() as conn:
        conn.execute(run.delete())
    retention.purge_all(load, retention.Keep(age=3600.0))
    assert arrive(load).runs == []
    with load.read() as conn:
        assert len(conn.execute(sa.select(arrived_file)).all()) == 2


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_worker_notices_that_a_file_goes_and_comes_back_with_its_time(db: Database, tmp_path: Path) -> None:
    """Also a worker that was restarted meanwhile. A short absence, and an empty folder in its place, show nothing."""
    inbox, path = tmp_path / "in", tmp_path / "in" / "a.csv"
    inbox.mkdir()
    apply(db, load={"schedules": [{"file": f"{inbox}/*.csv", "stable": "1s"}]})

    def deliver() -> None:
        path.write_text("x")
        os.utime(path, (1e9, 1e9))

    def look(watcher: Files, began: int) -> int:
        for second in range(began, began + 100, 20):
            watcher.turn(float(second))
        return number(db)

    first, hand = Files(db, Settings(), "w1", ["default"], AtOnce()), Hand(db)
    deliver()
    assert look(first, 0) == 1
    end(db, hand)
    inbox.rename(tmp_path / "away")
    inbox.mkdir()
    assert look(first, 100) == 1
    inbox.rmdir()
    (tmp_path / "away").rename(inbox)
    assert look(first, 200) == 1, "the drive was away"
    path.unlink()
    first.turn(300.0)
    deliver()
    assert look(first, 310) == 1, "one scan has missed it"
    path.unlink()
    assert look(first, 400) == 1
    deliver()
    assert look(first, 500) == 2
    end(db, hand)
    path.unlink()
    assert look(first, 600) == 2
    second = Files(db, Settings(), "w1", ["default"], AtOnce())
    assert look(second, 700) == 2
    deliver()
    assert look(second, 800) == 3
    assert look(first, 800) == 3


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_listing_of_a_minute_ago_is_none_from_after_the_run(db: Database, tmp_path: Path) -> None:
    """A network drive shows it. The run has moved its file away, and back before its end."""
    apply(db, load={"schedules": [{"file": f"{tmp_path}/*.csv", "stable": "1s"}]})
    path, hand = tmp_path / "a.csv", Hand(db)
    path.write_text("x")
    watcher = Files(db, Settings(), "w1", ["default"], AtOnce())

    def look(*seconds: int) -> None:
        for second in seconds:
            watcher.turn(float(second))

    look(0, 20)
    taken = hand.take()
    path.rename(tmp_path / "moved")
    look(40, 60, 80)
    hand.end(taken, RunState.FAILED)
    look(100, 120, 140)
    (tmp_path / "moved").rename(path)
    look(*range(160, 400, 20))
    assert number(db) == 1
