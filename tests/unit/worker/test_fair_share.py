"""A burst spreads over idle workers by their slots, and a long queue is claimed without limits."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfac.store.workers.fleet_load import Load
from jobfac.worker.loop.fair_share import FIRST_PAUSE, GRACE, FairClaims, Share, share_of

DEFAULT = frozenset({"default"})


def take_in_turn(slots: list[int], queued: int, order: list[int], busy: list[int] | None = None) -> list[int]:
    """Let workers claim their shares one after another. Each sees the earlier claims."""
    taken = [0] * len(slots)
    for me in order:
        fleet = [
            Load(number, slots[number], taken[number] + (busy[number] if busy else 0), DEFAULT)
            for number in range(len(slots))
        ]
        number = share_of(me, fleet, {"default": queued - sum(taken)}).most["default"]
        taken[me] += number
    return taken


def test_nine_runs_on_three_idle_workers_are_three_each() -> None:
    assert take_in_turn([8, 8, 8], 9, [0, 1, 2]) == [3, 3, 3]


def test_a_worker_that_claims_again_first_gets_no_more() -> None:
    assert take_in_turn([8, 8, 8], 9, [0, 0, 0, 1, 0, 2]) == [3, 3, 3]


def test_unequal_workers_share_by_their_slots() -> None:
    assert take_in_turn([4, 12], 8, [0, 1]) == [2, 6]
    assert take_in_turn([4, 12], 8, [1, 0]) == [2, 6]


def test_a_loaded_worker_leaves_a_single_run_to_an_idle_one() -> None:
    fleet = [Load(1, 8, 3, DEFAULT), Load(2, 8, 0, DEFAULT)]
    loaded, idle = (share_of(who, fleet, {"default": 1}) for who in (1, 2))
    assert (loaded.most, loaded.left) == ({"default": 0}, 1)
    assert (idle.most, idle.left) == ({"default": 1}, 0)


def test_only_workers_of_the_queue_count() -> None:
    fleet = [Load(1, 8, 0, DEFAULT), Load(2, 8, 0, frozenset({"etl"}))]
    assert share_of(1, fleet, {"default": 6}).most == {"default": 6}


def test_a_long_queue_fills_every_free_slot() -> None:
    fleet = [Load(1, 8, 2, DEFAULT), Load(2, 8, 5, DEFAULT)]
    share = share_of(1, fleet, {"default": 1000})
    assert share.most == {"default": 6}
    assert share.is_long


def test_runs_of_several_queues_share_the_same_slots() -> None:
    fleet = [Load(1, 4, 0, frozenset({"a", "b"})), Load(2, 4, 0, frozenset({"a", "b"}))]
    share = share_of(1, fleet, {"a": 4, "b": 4})
    assert share.most == {"a": 2, "b": 2}


def test_a_long_queue_leaves_the_slots_to_better_runs_of_another_queue() -> None:
    fleet = [Load(1, 4, 3, frozenset({"a", "b"})), Load(2, 4, 4, frozenset({"a", "b"}))]
    queued = {"a": 9, "b": 1}
    assert share_of(1, fleet, queued).is_contested
    assert share_of(1, fleet, queued, order=["b", "a", "a"]).most == {"a": 0, "b": 1}
    assert share_of(1, fleet, queued, order=["a", "a", "b"]).most == {"a": 1, "b": 0}


def test_runs_that_alternate_between_queues_cost_a_large_fleet_little() -> None:
    """Looking at each worker for each run took more than a second, in the transaction of the claim."""

    def seconds(order: list[str]) -> float:
        began = time.perf_counter()
        share = share_of(1, fleet, {"a": 2000, "b": 600}, order=order)
        assert share.most["a"] + share.most["b"] == 4
        return time.perf_counter() - began

    fleet = [Load(number, 4, 0, frozenset({"a", "b"})) for number in range(300)]
    alike, alternating = ["a"] * 2000 + ["b"] * 600, ["a", "b"] * 600 + ["a"] * 1400
    assert min(seconds(alternating) for _ in range(3)) < 10 * min(seconds(alike) for _ in range(3))


@pytest.mark.parametrize("queued", [{"a": 9}, {"a": 9, "b": 0}, {"a": 1, "b": 1}])
def test_the_order_does_not_matter_without_a_contest(queued: dict[str, int]) -> None:
    both = frozenset({"a", "b"})
    assert not share_of(1, [Load(1, 4, 3, both), Load(2, 4, 3, both)], queued).is_contested


@given(
    slots=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    queued=st.integers(0, 100),
    seed=st.integers(0, 1000),
)
def test_in_any_order_all_runs_are_claimed_evenly(slots: list[int], queued: int, seed: int) -> None:
    order = random.Random(seed).choices(range(len(slots)), k=3 * len(slots))
    order += list(range(len(slots)))
    taken = take_in_turn(slots, queued, order)
    assert sum(taken) == min(queued, sum(slots))
    for mine, mine_of in zip(taken, slots, strict=True):
        for other, other_of in zip(taken, slots, strict=True):
            assert mine == 0 or (mine - 1) / mine_of <= (other + 1) / other_of or other == other_of


LEFT = Share({"default": 3}, left=6, is_long=False)
TAKEN = Share({"default": 3}, left=0, is_long=False)


def test_a_single_worker_claims_without_limit() -> None:
    claims = FairClaims()
    assert claims.must_look(0.0)
    claims.fleet = 1
    assert not claims.must_look(0.0)


def test_runs_left_to_others_are_rechecked_and_claimed_after_the_grace() -> None:
    claims = FairClaims()
    now, looks = 100.0, []
    while claims.must_look(now):
        again = claims.claimed(LEFT, 8, 3, now)
        assert again is not None
        looks.append(again - now)
        now = again
    assert looks[0] == pytest.approx(FIRST_PAUSE)
    assert abs(now - 100.0 - GRACE) < 1e-6
    assert claims.claimed(None, 5, 5, now) is None
    assert claims.must_look(now)


def test_without_runs_left_to_others_the_worker_waits() -> None:
    claims = FairClaims()
    claims.claimed(LEFT, 8, 3, 100.0)
    assert claims.claimed(TAKEN, 5, 0, 100.01) is None
    assert claims.must_look(200.0)


def test_a_long_queue_is_claimed_without_limit_until_it_ends() -> None:
    claims = FairClaims()
    claims.claimed(Share({"default": 8}, left=8, is_long=True), 8, 8, 0.0)
    assert not claims.must_look(0.0)
    claims.claimed(None, 2, 2, 0.1)
    assert not claims.must_look(0.2)
    claims.claimed(None, 2, 1, 0.3)
    assert claims.must_look(0.3)
