"""Runs that take several slots: what a worker picks, and which worker keeps its slots free for a heavy run."""

from jobfac.store.workers.claiming import Room, pick
from jobfac.store.workers.fleet_load import Load
from jobfac.worker.loop.fair_share import share_of

WEIGHTS = {"default": 1, "default*4": 4}
BOTH = frozenset(WEIGHTS)


def test_the_best_runs_that_fit_are_picked_in_order() -> None:
    heads = ["default", "default*4", "default", "default"]
    assert pick(heads, WEIGHTS, Room(8, 8)) == [("default", 3), ("default*4", 1)]
    assert pick(heads, WEIGHTS, Room(6, 6)) == [("default", 2), ("default*4", 1)]
    assert pick(heads, WEIGHTS, Room(8, 2)) == [("default", 1), ("default*4", 1)]


def test_a_run_that_does_not_fit_is_passed_over() -> None:
    assert pick(["default*4", "default", "default"], WEIGHTS, Room(3, 3)) == [("default", 2)]


def test_a_worker_that_holds_its_slots_takes_nothing_behind_the_heavy_run() -> None:
    room = Room(3, 3, holds={"default*4"})
    assert pick(["default", "default*4", "default"], WEIGHTS, room) == [("default", 1)]
    assert pick(["default*4", "default"], WEIGHTS, room) == []
    assert pick(["default*4", "default"], WEIGHTS, room._replace(slots=4)) == [("default*4", 1)]


def test_a_heavy_run_goes_to_the_worker_with_the_lowest_load_that_has_room() -> None:
    fleet = [Load(1, 8, 2, BOTH), Load(2, 4, 1, BOTH), Load(3, 8, 0, BOTH)]
    shares = {who: share_of(who, fleet, {"default*4": 1}, WEIGHTS) for who in (1, 2, 3)}
    assert {who: share.most["default*4"] for who, share in shares.items()} == {1: 0, 2: 0, 3: 1}
    assert not any(share.holds for share in shares.values())


def test_without_room_the_worker_with_the_most_free_slots_holds_them() -> None:
    fleet = [Load(1, 8, 6, BOTH), Load(2, 8, 5, BOTH), Load(3, 2, 0, frozenset({"default"}))]
    shares = {who: share_of(who, fleet, {"default*4": 1, "default": 9}, WEIGHTS) for who in (1, 2, 3)}
    assert [who for who, share in shares.items() if share.holds] == [2], "the third is too small for the run"
    assert shares[2].most["default*4"] == 1


def test_a_heavy_run_is_taken_within_the_time_of_the_runs_that_it_found() -> None:
    """A stream of light runs, each of which ends after two rounds, never keeps a heavy run waiting longer."""
    slots, ends = {1: 4, 2: 4, 3: 4}, {1: [1, 1, 2], 2: [1, 2, 2, 2], 3: [1, 1, 2, 2]}
    for now in range(1, 5):
        ends = {who: [at for at in its if at > now] for who, its in ends.items()}
        for who in slots:
            fleet = [Load(one, slots[one], len(ends[one]), BOTH) for one in slots]
            share = share_of(who, fleet, {"default*4": 1, "default": 50}, WEIGHTS)
            free = slots[who] - len(ends[who])
            limits = {queue for queue, most in share.most.items() if most}
            heads = [queue for queue in ("default*4", *["default"] * 50) if queue in limits]
            taken = dict(pick(heads, WEIGHTS, Room(free, free, share.holds)))
            if taken.get("default*4"):
                assert now <= 3
                return
            ends[who] = ends[who] + [now + 2] * taken.get("default", 0)
    raise AssertionError("the heavy run starved")
