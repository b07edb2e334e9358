"""Random schedules around clock changes, compared with a scan of every minute."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from jobfac.definitions.schedule import Schedule
from jobfac.recurrence import due_times, explain, next_due
from tests.unit.examples import examples
from tests.unit.recurrence.reference import due_in

T = TypeVar("T")

CHANGES = [
    ("Europe/Berlin", 2027, 3, 28),
    ("Europe/Berlin", 2027, 10, 31),
    ("America/New_York", 2027, 3, 14),
    ("America/New_York", 2027, 11, 7),
    ("Australia/Lord_Howe", 2027, 4, 4),  # half an hour
    ("Australia/Lord_Howe", 2027, 10, 3),
    ("America/Santiago", 2027, 4, 4),  # at midnight, back to 23:00
    ("America/Santiago", 2027, 9, 5),  # at midnight, on to 01:00
    ("America/Havana", 2027, 11, 7),  # at 01:00, back to midnight
    ("America/St_Johns", 2010, 11, 7),  # at 00:01, back to 23:01 of the day before
    ("Africa/Casablanca", 2027, 2, 7),  # winter time in Ramadan
    ("Africa/Casablanca", 2027, 3, 14),
    ("Pacific/Apia", 2011, 12, 30),  # a day that did not exist
    ("Asia/Kathmandu", 2027, 5, 5),  # no change, an odd offset
    ("UTC", 2027, 2, 28),
]


def some(values: Iterable[T], most: int = 4) -> SearchStrategy[list[T]]:
    return st.lists(st.sampled_from(list(values)), min_size=1, max_size=most, unique=True)


def number_field(low: int, high: int) -> SearchStrategy[str]:
    numbers = some(range(low, high + 1)).map(lambda found: ",".join(map(str, found)))
    edges = st.tuples(st.integers(low, high), st.integers(low, high)).filter(lambda pair: pair[0] <= pair[1])
    ranges = st.builds("{0[0]}-{0[1]}/{1}".format, edges, st.integers(1, 7))
    return st.one_of(st.just("*"), st.integers(2, 20).map("*/{}".format), numbers, ranges)


clocks = st.builds(
    "{:02}:{:02}".format, st.one_of(st.integers(0, 4), st.integers(0, 23)), st.sampled_from([0, 15, 29, 30, 31, 45, 59])
)
spans = st.tuples(clocks, clocks).filter(lambda edges: edges[0] != edges[1]).map("-".join)
crons = st.tuples(number_field(0, 59), number_field(0, 23), number_field(1, 28), st.just("*"), number_field(0, 7)).map(
    " ".join
)
times: SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"at": st.lists(clocks, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"minutes": some(range(60))}, optional={"hours": some(range(24))}),
    st.fixed_dictionaries({"hours": some(range(24))}),
    st.fixed_dictionaries({"every": st.integers(1, 1440).map("{}m".format)}),
)
ordinals = st.builds(
    "{} {}".format,
    st.sampled_from(["first", "second", "third", "fourth", "fifth", "last"]),
    st.sampled_from(["mon", "fri", "sun", "day", "weekday", "weekend"]),
)
counts = st.fixed_dictionaries(
    {
        "every": st.builds("{} {}".format, st.integers(2, 9), st.sampled_from(["days", "weeks", "months"])),
        "since": st.dates(datetime(2009, 1, 1).date(), datetime(2028, 1, 1).date()).map(str),
        "days_of_week": some(range(1, 8), 7),
    }
)
days: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "nth": st.lists(ordinals, min_size=1, max_size=6),
        "days_of_week": some(range(1, 8)),
        "days_of_month": some([*range(1, 32), "first", "last"], 20),
        "between": st.just(["02/20-04/05"]),
        "weekdays": some(["first", "last", "weekday", "weekend"]),
    },
)
dates = st.one_of(days, counts)
quiet = st.sampled_from(["05:00", "09:00", "12:00", "21:00"])  # no clock changes at these times
blackouts = st.one_of(
    st.tuples(quiet, quiet).filter(lambda edges: edges[0] != edges[1]).map(" - ".join),
    st.sampled_from(["SAT 21:00 - SUN 09:00", "SUN 05:00 - SUN 21:00", "FRI 12:00 - MON 05:00"]),
)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Schedule, datetime]:
    zone, year, month, day = draw(st.sampled_from(CHANGES))
    middle = datetime(year, month, day, tzinfo=UTC)
    near = st.integers(-72, 72).map(lambda hours: middle + timedelta(hours=hours))
    form = draw(st.sampled_from(["cron", "times", "every", "at"]))
    schedule: dict[str, Any] = {"timezone": zone}
    if form == "cron":
        schedule["cron"] = draw(crons)
    elif form == "every":
        schedule["every"] = f"{draw(st.integers(1, 4000))}m"
    elif form == "times":
        schedule["times"] = draw(times)
        if draw(st.booleans()):
            schedule["times"]["between"] = draw(st.lists(spans, min_size=1, max_size=2))
            if "every" in schedule["times"] and draw(st.booleans()):
                schedule["times"]["count_from"] = "span"
        if draw(st.booleans()):
            schedule["dates"] = draw(dates)
    else:
        schedule["at"] = draw(near).isoformat()
    if form in ("cron", "times"):
        schedule["gap"] = draw(st.sampled_from(["shift", "skip"]))
        schedule["overlap"] = draw(st.sampled_from(["first", "second", "both"]))
    if form != "at":
        if draw(st.booleans()):
            days = [f"{middle + timedelta(days=number):%Y-%m-%d}" for number in draw(some(range(-3, 5)))]
            on_holiday = draw(st.sampled_from(["skip", "previous", "next"]))
            schedule["calendar"] = {"dates": days, "on_holiday": on_holiday}
        if draw(st.booleans()):
            schedule["starts"] = draw(near).isoformat()
        elif draw(st.booleans()):
            schedule["ends"] = draw(near).isoformat()
    if draw(st.booleans()):
        schedule["blackout"] = draw(st.lists(blackouts, min_size=1, max_size=2))
    return Schedule.model_validate(schedule), middle


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules(), st.integers(-2880, 1440))
def test_due_times_are_those_of_a_scan_of_every_minute(drawn: tuple[Schedule, datetime], minutes: int) -> None:
    schedule, middle = drawn
    after = middle + timedelta(minutes=minutes, seconds=minutes % 60)
    until = middle + timedelta(days=2)
    found = list(due_times(schedule, after, until))
    assert found == due_in(schedule, after, until)
    assert found == sorted(set(found))
    assert all(after < due <= until for due in found)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules(), st.integers(-2880, 0))
def test_due_times_are_the_same_together_and_one_by_one(drawn: tuple[Schedule, datetime], minutes: int) -> None:
    schedule, middle = drawn
    start = middle + timedelta(minutes=minutes)
    candidates = list(explain(schedule, start, 100))
    at_once = [candidate.due_at for candidate in candidates if candidate.fires]
    step_by_step, due = [], start
    for _ in at_once:
        following = next_due(schedule, due)
        assert following is not None
        due = following
        step_by_step.append(due)
    assert at_once == step_by_step
    assert [candidate.due_at for candidate in candidates] == sorted(candidate.due_at for candidate in candidates)
    assert all(candidate.reason for candidate in candidates if not candidate.fires)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schedules(), st.integers(-2880, 2880), st.floats(0, 1))
def test_nothing_is_due_between_an_instant_and_the_next_due_time(
    drawn: tuple[Schedule, datetime], minutes: int, fraction: float
) -> None:
    schedule, middle = drawn
    after = middle + timedelta(minutes=minutes)
    due = next_due(schedule, after)
    if due is not None:
        between = after + (due - after) * fraction
        assert next_due(schedule, between) == due or between >= due
