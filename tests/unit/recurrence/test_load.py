"""How full hours are, how long runs wait for slots, and which times to move."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobfac.recurrence.load import Firing, load, pool_load, waits

BEGIN = datetime(2027, 3, 1, tzinfo=UTC)


def firing(hour: float, seconds: float, job: str = "a", slots: int = 1) -> Firing:
    return Firing(BEGIN + timedelta(hours=hour), "default", job, "1", seconds, slots)


def test_runs_wait_for_a_slot_in_the_order_of_their_times() -> None:
    three = [firing(1, 600, job) for job in "abc"]
    assert [one.seconds for one in waits(three, 1)] == [0, 600, 1200]
    assert [one.seconds for one in waits(three, 2)] == [0, 0, 600]
    assert [one.seconds for one in waits(three, 3)] == [0, 0, 0]
    assert [one.seconds for one in waits(three, 0)] == [0, 0, 0]
    wide = [firing(1, 600, "a", slots=2), firing(1, 60, "b"), firing(1, 60, "c", slots=9)]
    assert [one.seconds for one in waits(wide, 2)] == [0, 600, 660]


def test_an_hour_has_its_share_of_a_long_run() -> None:
    pool = pool_load("default", [firing(0.5, 5400), firing(2, 360, slots=2)], 2, BEGIN, 4)
    assert [hour.runs for hour in pool.hours] == [1, 0, 1, 0]
    assert [hour.busy_percent for hour in pool.hours] == [25.0, 50.0, 10.0, 0.0]
    assert pool_load("gpu", [firing(0, 60)], 0, BEGIN, 1).hours[0].busy_percent is None


def test_the_longest_run_of_a_full_hour_moves_to_the_nearest_quiet_hour() -> None:
    crowd = [firing(2, 1200, "short"), firing(2, 2400, "long"), firing(1, 3600, "before"), firing(3, 60, "after")]
    pools, moves = load(crowd, {"default": 1, "idle": 3}, BEGIN, 24)
    assert [one.pool for one in pools] == ["default", "idle"]
    assert [(move.job, move.to) for move in moves] == [("long", BEGIN + timedelta(hours=3))]
    assert moves[0].reason == "the last run of this hour would wait 40 minutes"


def test_what_is_due_often_is_not_moved_and_a_full_day_has_no_quiet_hour() -> None:
    often = [firing(hour, 3000, job) for hour in range(24) for job in "ab"]
    assert load(often, {"default": 1}, BEGIN, 24)[1] == []
    rare = [firing(hour, 3600, f"job{hour}{twin}") for hour in range(24) for twin in "ab"]
    moves = load(rare, {"default": 1}, BEGIN, 24)[1]
    assert moves
    assert {move.to for move in moves} == {None}
    assert load(rare, {}, BEGIN, 24)[1] == []


@given(
    st.lists(st.builds(firing, st.floats(0, 47.9), st.floats(0, 20000), st.sampled_from("abc"), st.integers(1, 3))),
    st.integers(1, 4),
)
def test_the_time_of_all_runs_is_in_the_hours(firings: list[Firing], slots: int) -> None:
    pool = pool_load("default", firings, slots, BEGIN, 60)
    assert sum(hour.runs for hour in pool.hours) == len(firings)
    total = sum((hour.busy_percent or 0.0) * 36 * slots for hour in pool.hours)
    assert abs(total - sum(one.seconds * one.slots for one in firings)) <= 60 * 36 * slots * 0.051
    waited = waits(firings, slots)
    assert all(one.seconds >= 0 for one in waited)
    begun = [one.firing.due_at + timedelta(seconds=one.seconds) for one in waited]
    assert begun == sorted(begun) or any(one.slots > 1 for one in firings)
