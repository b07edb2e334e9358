"""Runs that end at the same moment, workers that die, and the sweep for sequences that did not advance."""

from typing import Any

import pytest

from jobfac.database.dialects import lists
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.store import sequences
from jobfac.store.sequences.sweeping import STALLED
from tests.support.database import Hand, define, events, now, start, state, together
from tests.support.sequences import Player, children, path


def test_concurrent_ends_advance_a_sequence_once(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "b", "c"]}, {"name": "two", "jobs": "d"}]
    define(db, a={}, b={}, c={}, d={}, seq={"steps": steps})
    ids = [start(db, "seq") for _ in range(4)]
    players = [Player(db) for _ in range(3)]
    players[0].look()
    held = players[0].held
    with db.begin() as conn:  # each player holds one job of every sequence
        for player, job in zip(players, "abc", strict=True):
            conn.execute(run.update().where(run.c.job == job).values(worker_id=player.id))
            player.held = [claimed for claimed in held if claimed.job == job]

    def work(position: int) -> None:
        for _ in ids:
            players[position].finish("abc"[position])

    together(3, work)
    for run_id in ids:
        assert path(db, run_id) == ["one:success>two", "two:None>None"]
        assert [child["job"] for child in children(db, run_id)] == ["a", "b", "c", "d"]


def test_a_lost_job_advances_its_sequence(db: Database) -> None:
    define(db, a={"restartable": False}, b={}, seq={"steps": [{"name": "one", "jobs": "a", "on_failure": "next"},
                                                              {"name": "two", "jobs": "b"}]})  # fmt: skip
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    lost = player.die()
    db.transact(sequences.advance_after, lost, "sweeper")
    assert path(db, run_id) == ["one:failure>two", "two:None>None"]


def test_concurrent_workers_begin_a_sequence_once(db: Database) -> None:
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    ids = [start(db, "seq") for _ in range(12)]
    together(3, lambda position: db.transact(sequences.begin, f"w{position}"))
    for run_id in ids:
        assert events(db, run_id) == ["queued", "running"]
        assert [child["job"] for child in children(db, run_id)] == ["a"]


def test_many_steps_that_wait_for_nothing_need_several_transactions(db: Database) -> None:
    closed = {"times": {"hours": [(now(db).hour + 12) % 24]}, "otherwise": {"step": "loop"}}
    define(db, a={}, seq={"steps": [{"name": "loop", "jobs": "a", "start_if": closed}], "maximum_visits": 120})
    run_id = start(db, "seq")
    db.transact(sequences.begin, "w1")
    assert state(db, run_id) == "running"
    sweeps = 0
    while state(db, run_id) == "running":
        db.transact(sequences.sweep, "sweeper")
        sweeps += 1
    assert sweeps > 1
    assert len(path(db, run_id)) == 120
    assert state(db, run_id) == "failed"


@pytest.mark.parametrize("by", ["sweep", "go_on"])
def test_steps_at_once_begin_although_no_job_ends(db: Database, by: str) -> None:
    steps = [{"name": f"s{number}", "jobs": "a", "proceed": "at_once"} for number in range(60)]
    define(db, a={}, seq={"steps": steps})
    run_id = start(db, "seq")
    db.transact(sequences.begin, "w1")
    transactions = 1
    while len(children(db, run_id)) < 60:
        if by == "sweep":  # in another process, or after the first one has died
            db.sequences.take_unfinished()
            db.transact(sequences.sweep, "sweeper")
        else:
            db.transact(sequences.go_on, db.sequences.take_unfinished(), "w1")
        transactions += 1
        assert transactions < 10
    assert transactions > 1
    assert db.sequences.take_unfinished() == set()
    with db.read() as conn:
        assert conn.execute(STALLED).all() == []


def test_the_sweep_skips_sequences_that_wait_for_jobs(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "b"]}]
    define(db, a={}, b={}, seq={"steps": steps}, other={"steps": [{**steps[0], "proceed": "when_any"}]})
    start(db, "seq")
    start(db, "other")
    player = Player(db)
    player.look()
    player.finish("a")

    def stalled() -> list[Any]:
        with db.read() as conn:
            return list(conn.execute(STALLED).all())

    assert stalled() == []
    player.finish("a")
    assert stalled() == []


@pytest.mark.parametrize("proceed", ["when_all", "when_any"])
def test_the_sweep_advances_a_sequence_whose_run_was_ended_elsewhere(db: Database, proceed: str) -> None:
    steps = [{"name": "one", "jobs": ["a", "b"], "proceed": proceed}, {"name": "two", "jobs": "c"}]
    define(db, a={}, b={}, c={}, seq={"steps": steps})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    ended = ["a"] if proceed == "when_any" else ["a", "b"]
    with db.begin() as conn:
        values = {"state": "succeeded", "ended_at": run.c.started_at}
        conn.execute(run.update().where(lists.among(run.c.job, ended)).values(values))
    db.transact(sequences.sweep, "sweeper")
    assert path(db, run_id) == ["one:success>two", "two:None>None"]
    db.transact(sequences.sweep, "sweeper")
    assert [child["job"] for child in children(db, run_id)] == ["a", "b", "c"]


def test_the_sweep_does_not_wait_for_the_jobs_of_other_steps(db: Database) -> None:
    steps = [
        {"name": "one", "jobs": "a", "proceed": "at_once"},
        {"name": "two", "jobs": "b"},
        {"name": "end", "jobs": "c"},
    ]
    define(db, a={}, b={}, c={}, seq={"steps": steps})
    run_id = start(db, "seq")
    Player(db).look()
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.job == "b").values(state="succeeded", ended_at=run.c.started_at))
    db.transact(sequences.sweep, "sweeper")
    assert path(db, run_id) == ["one:at_once>two", "two:success>end", "end:None>None"]


def test_only_a_live_worker_may_end_a_job(db: Database) -> None:
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.die()
    other = Hand(db, "w2")
    claimed = other.take()
    assert player.finish("a") == [], "its result comes too late"
    assert path(db, run_id) == ["one:None>None"]
    db.transact(sequences.advance_after, other.end(claimed), "w2")
    assert state(db, run_id) == "succeeded"
