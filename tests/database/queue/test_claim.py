"""Claims: in order of priority, each run once, and no more runs than free slots."""

import random

from jobfac.database.engine import Database
from jobfac.definitions import Job
from jobfac.states import RunState
from jobfac.store import jobs, runs, workers
from jobfac.store.history import search
from jobfac.store.runs import StartRequest
from jobfac.store.workers import fleet_load
from tests.support.database import Hand, attempts, define, events, get, start, together


def test_a_claim_takes_the_highest_priority_first_then_the_oldest(db: Database) -> None:
    define(db, job={})
    priorities = [0, 5, -5, 5, 0, 9, -5, 0]
    ids = [start(db, "job", priority=priority) for priority in priorities]
    wanted = sorted(ids, key=lambda run_id: (-priorities[ids.index(run_id)], run_id))
    hand = Hand(db)
    assert [c.id for c in hand.claim(3)] == wanted[:3]
    assert [c.id for c in hand.claim(100)] == wanted[3:]
    assert hand.claim(100) == []


def test_a_claim_returns_all_columns_that_a_worker_needs(db: Database) -> None:
    define(db, job={"priority": 2})
    run_id = start(db, "job", arguments=["ä"], payload="p", sequence_run_id=77)
    hand = Hand(db, "w1")
    claimed = hand.take()
    row = get(db, run_id)
    assert claimed._asdict() == {name: row[name] for name in claimed._fields}
    assert (claimed.attempt, claimed.failures, claimed.arguments, claimed.payload) == (1, 0, '["ä"]', "p")
    assert (row["state"], row["worker_id"], row["worker"]) == ("running", hand.id, "w1")
    assert row["started_at"] >= row["queued_at"]
    (attempt,) = attempts(db, run_id)
    assert (attempt.number, attempt.worker_id, attempt.worker) == (1, hand.id, "w1")
    assert (attempt.ended_at, attempt.state) == (None, None)
    assert events(db, run_id) == ["queued", "running"]


def test_without_slots_or_queues_nothing_is_claimed(db: Database) -> None:
    define(db, job={})
    start(db, "job")
    hand = Hand(db)
    assert hand.claim(0) == hand.claim(-1) == hand.claim(5, []) == hand.claim(5, ["another"]) == []


def test_the_best_runs_of_several_queues_come_first(db: Database) -> None:
    define(db, a={}, b={"pool": "big"}, c={"pool": "big", "labels": {"os": "linux"}})
    queues = ["default", "big", "big[os=linux]"]
    ids = {p: start(db, job, priority=p) for p, job in [(1, "a"), (5, "b"), (3, "c"), (4, "a"), (2, "b"), (6, "c")]}
    hand = Hand(db)
    assert [c.id for c in hand.claim(4, queues)] == [ids[p] for p in (6, 5, 4, 3)]
    assert [c.id for c in hand.claim(4, queues)] == [ids[p] for p in (2, 1)]


def test_each_combination_of_pool_and_labels_has_a_queue_name_that_fits_its_column(db: Database) -> None:
    long = {f"{letter}{'x' * 120}": "y" * 120 for letter in "abc"}
    labels: list[dict[str, str]] = [
        {"a": "x,b=y"}, {"a": "x", "b": "y"}, {"a": "x\\", "b": "y"}, {"a": "x\\,b=y"}, long, {**long, "d": "z"},
    ]  # fmt: skip
    queues = [jobs.queue_of(Job(command=("x",), labels=one))[0] for one in labels]
    assert len(set(queues)) == len(queues)
    assert queues[1] == "default[a=x,b=y]"
    assert max(map(len, queues)) <= 400
    define(db, a={"labels": long})
    start(db, "a")


def test_a_worker_claims_from_the_queues_of_its_pools_and_labels(db: Database) -> None:
    define(
        db,
        plain={},
        linux={"labels": {"os": "linux"}},
        gpu={"labels": {"os": "linux", "gpu": "yes"}},
        other={"pool": "big"},
    )

    def queues_of(pools: list[str], **labels: str) -> set[str]:
        with db.read() as conn:
            return set(jobs.matching_queues(conn, pools, labels, 8))

    assert queues_of(["default"]) == {"default"}
    assert queues_of(["default"], os="linux") == {"default", "default[os=linux]"}
    assert queues_of(["default"], os="linux", gpu="yes", disk="ssd") == {
        "default", "default[os=linux]", "default[gpu=yes,os=linux]",
    }  # fmt: skip
    assert queues_of(["default"], os="windows") == {"default"}
    assert queues_of(["big"], os="linux") == {"big"}
    assert queues_of(["nowhere"]) == set()


def test_scheduled_blocked_and_ended_runs_are_never_claimed(db: Database) -> None:
    define(db, job={}, one={"already_running": "queue"})
    start(db, "job", delay=1000.0)
    first, blocked = start(db, "one"), start(db, "one")
    hand = Hand(db)
    assert [c.id for c in hand.claim()] == [first]
    assert get(db, blocked)["state"] == "blocked"


def test_concurrent_workers_claim_every_run_once(db: Database) -> None:
    define(db, job={})
    ids = db.transact(runs.start_many, StartRequest("job", "tester"), 200)
    hands = [Hand(db, f"w{number}") for number in range(8)]

    def work(position: int) -> list[tuple[int, int]]:
        taken = []
        while claimed := hands[position].claim(random.Random(position).randint(3, 9)):
            for one in claimed:
                taken.append((one.id, one.attempt))
                hands[position].end(one)
        return taken

    taken = [one for part in together(8, work) for one in part]
    assert sorted(taken) == [(run_id, 1) for run_id in ids]
    with db.read() as conn:
        assert len(search.find_all(conn, search.Filter(states=[RunState.SUCCEEDED]), 1000)) == 200


def test_after_a_lost_answer_the_claims_are_read_from_the_database(db: Database) -> None:
    define(db, job={})
    start(db, "job"), start(db, "job"), start(db, "job")
    hand, other = Hand(db, "w1"), Hand(db, "w2")
    claimed = hand.claim(2)
    other.claim(1)
    hand.end(claimed[0])
    with db.read() as conn:
        assert workers.held_by(conn, hand.id) == claimed[1:]


def test_a_heavy_run_waits_in_a_queue_of_its_weight_and_is_claimed_if_it_fits(db: Database) -> None:
    define(db, light={}, heavy={"slots": 3}, huge={"slots": 9})
    first, heavy, last, _ = (start(db, job) for job in ("light", "heavy", "light", "huge"))
    assert get(db, heavy)["queue"] == "default*3"
    with db.read() as conn:
        queues = jobs.matching_queues(conn, ["default"], {}, 4)
    assert queues == {"default": 1, "default*3": 3}, "this worker is too small for the third queue"
    hand = Hand(db, slots=4)
    taken = hand.claim(4, queues)
    assert [(claimed.id, claimed.weight) for claimed in taken] == [(first, 1), (heavy, 3)]
    (seen,) = db.query(workers.workers)
    assert seen.busy == 4
    assert [load.busy for load in db.query(fleet_load.fleet, queues)] == [4]
    again = start(db, "heavy")
    assert [claimed.id for claimed in hand.claim(2, queues)] == [last], "the heavy run is passed over"
    other = start(db, "light")
    assert hand.claim(2, queues, holds={"default*3"}) == []
    assert {claimed.id for claimed in hand.claim(4, queues, holds={"default*3"})} == {again, other}
