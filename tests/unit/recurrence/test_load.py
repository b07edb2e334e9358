"""How full hours are, how long runs wait for slots, and which times to move."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobfac.recurrence.load import Crew, Firing, Limit, load, pool_load, waits
from jobfac.views.results.load import MOVES, NAMED, LoadView, MoveView

BEGIN = datetime(2027, 3, 1, tzinfo=UTC)


def firing(hour: float, seconds: float, job: str = "a", slots: int = 1) -> Firing:
    return Firing(BEGIN + timedelta(hours=hour), "default", job, "1", seconds, slots)


def crew(each: int, *pools: str, workers: int = 1, **labels: str) -> Crew:
    return Crew(frozenset(pools or ("default",)), frozenset(labels.items()), each, workers)


def test_runs_wait_for_a_slot_in_the_order_of_their_times() -> None:
    three = [firing(1, 600, job) for job in "abc"]
    assert [one.seconds for one in waits(three, [crew(1)])] == [0, 600, 1200]
    assert [one.seconds for one in waits(three, [crew(1, workers=2)])] == [0, 0, 600]
    assert [one.seconds for one in waits(three, [crew(3)])] == [0, 0, 0]
    assert [one.seconds for one in waits(three, [])] == [None] * 3
    wide = [firing(1, 600, "a", slots=2), firing(1, 60, "b"), firing(1, 60, "c", slots=9)]
    assert [one.seconds for one in waits(wide, [crew(2)])] == [0, 600, None]


def test_an_hour_has_its_share_of_a_long_run() -> None:
    waiting = waits([firing(0.5, 5400), firing(2, 360, slots=2)], [crew(2)])
    pool = pool_load("default", waiting, 2, BEGIN, 4)
    assert [hour.runs for hour in pool.hours] == [1, 0, 1, 0]
    assert [hour.busy_percent for hour in pool.hours] == [25.0, 50.0, 10.0, 0.0]
    assert pool_load("gpu", waits([firing(0, 60)], []), 0, BEGIN, 1).hours[0].busy_percent is None


def test_the_longest_run_of_a_full_hour_moves_to_the_nearest_quiet_hour() -> None:
    crowd = [firing(2, 1200, "short"), firing(2, 2400, "long"), firing(1, 3600, "before"), firing(3, 60, "after")]
    pools, moves, unserved, limited = load(crowd, [crew(1), crew(3, "idle")], BEGIN, 24)
    assert (unserved, limited) == ([], [])
    assert [one.pool for one in pools] == ["default", "idle"]
    assert [(move.job, move.to) for move in moves] == [("long", BEGIN + timedelta(hours=3))]
    assert moves[0].reason == "the last run of this hour would wait 40 minutes"


def test_what_is_due_often_is_not_moved_and_a_full_day_has_no_quiet_hour() -> None:
    often = [firing(hour, 3000, job) for hour in range(24) for job in "ab"]
    assert load(often, [crew(1)], BEGIN, 24).moves == []
    rare = [firing(hour, 3600, f"job{hour}{twin}") for hour in range(24) for twin in "ab"]
    moves = load(rare, [crew(1)], BEGIN, 24).moves
    assert moves
    assert {move.to for move in moves} == {None}
    assert load(rare, [], BEGIN, 24).moves == []


def test_only_a_worker_with_the_labels_and_slots_serves_a_run() -> None:
    special = [firing(1, 600, job)._replace(labels=frozenset({("os", "linux")})) for job in "ab"]
    plain = firing(1, 600, "c")
    crews = [crew(1, os="linux"), crew(1)]
    assert [one.seconds for one in waits([*special, plain], crews)] == [0, 600, 0]
    assert [one.seconds for one in waits([*special, plain], [crew(4)])] == [None, None, 0]
    several = [firing(1, 60), firing(1, 60)._replace(pool="other"), firing(1, 60, slots=3)]
    found = load([*special, *several], [crew(2, "default", "other", workers=5)], BEGIN, 24)
    assert found.unserved == ["a", "b"]
    assert [(pool.pool, pool.slots) for pool in found.pools] == [("default", 10), ("other", 10)]


def test_what_a_list_leaves_out_is_counted() -> None:
    moves = [MoveView("default", "a", "1", BEGIN, None, "why")] * MOVES
    view = LoadView(BEGIN, BEGIN, [], moves, [f"j{number}" for number in range(NAMED + 2)], [], ["x"], [])
    assert view.remarks() == [
        "Only the first 20 moves are shown.",
        "Without statistics, so counted with a minute: j0, j1, j2, j3, j4, j5, j6, j7, j8, j9 and 2 more.",
        "No live worker has their pool, labels and slots: x.",
    ]


def test_a_run_of_two_pools_takes_a_slot_of_both() -> None:
    both = [firing(1, 600), firing(1, 600, "b")._replace(pool="other")]
    assert [one.seconds for one in waits(both, [crew(1, "default", "other")])] == [0, 600]


def test_a_limit_delays_without_taking_a_slot() -> None:
    ledger = Limit("ledger", 1)
    two = [firing(1, 600, job)._replace(limit=ledger) for job in "ab"]
    waited = waits([*two, firing(1, 600, "c")], [crew(2)])
    assert [(one.seconds, one.limited) for one in waited] == [(0, 0), (0, 600), (0, 0)]
    found = load([*two, firing(1, 600, "c")], [crew(2)], BEGIN, 24)
    assert (found.limited, found.moves) == (["b"], [])
    three = [firing(1, 600, job)._replace(limit=Limit("x", 2)) for job in "abcde"]
    assert [one.limited for one in waits(three, [crew(9)])] == [0, 0, 600, 600, 1200]
    assert [one.limited for one in waits(two, [])] == [0, 0]


@given(
    st.lists(st.builds(firing, st.floats(0, 47.9), st.floats(0, 20000), st.sampled_from("abc"), st.integers(1, 3))),
    st.integers(1, 4),
)
def test_the_time_of_all_runs_is_in_the_hours(firings: list[Firing], slots: int) -> None:
    waited = waits(firings, [crew(3, workers=slots)])
    slots *= 3
    pool = pool_load("default", waited, slots, BEGIN, 60)
    assert sum(hour.runs for hour in pool.hours) == len(firings)
    total = sum((hour.busy_percent or 0.0) * 36 * slots for hour in pool.hours)
    assert abs(total - sum(one.seconds * one.slots for one in firings)) <= 60 * 36 * slots * 0.051
    assert all(one.seconds is not None and one.seconds >= 0 for one in waited)
    begun = [one.firing.due_at + timedelta(seconds=one.seconds or 0) for one in waited]
    assert begun == sorted(begun) or any(one.slots > 1 for one in firings)
