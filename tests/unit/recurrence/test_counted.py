"""Days that are counted, and times that are counted from the start of a span: worked out by hand."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from jobfac.definitions.schedule import Schedule
from jobfac.recurrence import due_times, explain, next_due
from tests.unit.recurrence.test_rules import at, schedule


def first(rule: Schedule, day: str, count: int) -> list[str]:
    """The first due times from a local midnight on, as the clock shows them."""
    start = at(day, rule.timezone) - timedelta(seconds=1)
    found = islice(due_times(rule, start, start + timedelta(days=4000)), count)
    return [f"{due.astimezone(rule.zone):%a %y-%m-%d %H:%M:%S}".removesuffix(":00") for due in found]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"every": "3 days", "since": "2027-01-02"}, ["Sat 27-01-02", "Tue 27-01-05", "Fri 27-01-08"]),
        # Counted backwards too: the day from which it is counted need not have come.
        ({"every": "3 days", "since": "2027-02-01"}, ["Sat 27-01-02", "Tue 27-01-05", "Fri 27-01-08"]),
        (
            {"every": "2 weeks", "since": "2027-01-03", "days_of_week": ["sun", "wed"]},
            ["Sun 27-01-03", "Wed 27-01-06", "Sun 27-01-17"],
        ),
        (
            {"every": "2 weeks", "since": "2027-01-04", "days_of_week": ["sun", "wed"]},
            ["Wed 27-01-06", "Sun 27-01-10", "Wed 27-01-20"],
        ),
        (
            {"every": "3 months", "since": "2027-02-20", "days_of_month": 31},
            ["Mon 27-05-31", "Tue 27-08-31", "Wed 28-05-31"],
        ),
        ({"nth": "second tue"}, ["Tue 27-01-12", "Tue 27-02-09", "Tue 27-03-09"]),
        ({"nth": "fifth sat"}, ["Sat 27-01-30", "Sat 27-05-29", "Sat 27-07-31"]),
        ({"nth": ["last weekend"]}, ["Sun 27-01-31", "Sun 27-02-28", "Sun 27-03-28"]),
        ({"nth": "third weekday"}, ["Tue 27-01-05", "Wed 27-02-03", "Wed 27-03-03"]),
        ({"nth": "last day"}, ["Sun 27-01-31", "Sun 27-02-28", "Wed 27-03-31"]),
    ],
)
def test_counted_days(dates: dict[str, Any], expected: list[str]) -> None:
    rule = schedule(dates=dates, times={"at": "06:30"}, timezone="Europe/Berlin")
    assert first(rule, "2027-01-01", 3) == [f"{day} 06:30" for day in expected]


def test_every_ten_minutes_from_the_start_of_a_span() -> None:
    rule = schedule(times={"every": "10m", "between": "08:05-08:36", "count_from": "span"})
    assert first(rule, "2027-01-01", 5) == [
        "Fri 27-01-01 08:05", "Fri 27-01-01 08:15", "Fri 27-01-01 08:25", "Fri 27-01-01 08:35", "Sat 27-01-02 08:05",
    ]  # fmt: skip


def test_seconds() -> None:
    rule = schedule(times={"every": "20s", "between": "23:59:10-24:00", "count_from": "span"})
    assert first(rule, "2027-01-01", 4) == [
        "Fri 27-01-01 23:59:10", "Fri 27-01-01 23:59:30", "Fri 27-01-01 23:59:50", "Sat 27-01-02 23:59:10",
    ]  # fmt: skip
    assert first(schedule(times={"every": "15s"}), "2027-01-01", 2) == ["Fri 27-01-01 00:00", "Fri 27-01-01 00:00:15"]


def test_a_span_across_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    times = {"every": "50m", "between": "22:30-01:00", "count_from": "span"}
    rule = schedule(dates={"days_of_week": "fri"}, times=times)
    assert first(rule, "2027-01-01", 4) == [
        "Fri 27-01-01 22:30", "Fri 27-01-01 23:20", "Sat 27-01-02 00:10", "Fri 27-01-08 22:30",
    ]  # fmt: skip
    # From within the part after midnight.
    assert next_due(rule, datetime(2027, 1, 2, 0, 5, tzinfo=UTC)) == datetime(2027, 1, 2, 0, 10, tzinfo=UTC)


def test_a_span_keeps_real_time_when_the_clocks_change_within_it() -> None:
    times = {"every": "1h", "between": "23:30-05:00", "count_from": "span"}
    rule = schedule(dates={"days_of_week": "sat"}, times=times, timezone="Europe/Berlin")
    night = [at("2027-03-27T20:00"), at("2027-03-28T06:00")]
    shown = [f"{due.astimezone(rule.zone):%H:%M}" for due in due_times(rule, *night)]
    assert shown == ["23:30", "00:30", "01:30", "03:30", "04:30"]


def test_the_night_of_a_holiday_is_dropped_or_moved_as_a_whole() -> None:
    calendar = {"dates": ["2027-01-08"], "on_holiday": "previous"}
    times = {"every": "2h", "between": "22:00-03:00", "count_from": "span"}
    rule = schedule(dates={"days_of_week": "fri"}, times=times, calendar=calendar)
    after = datetime(2027, 1, 3, tzinfo=UTC)
    found = [(f"{one.local:%a %H}", one.fires) for one in islice(explain(rule, after, 99), 6)]
    assert found == [
        ("Thu 22", True), ("Fri 00", True), ("Fri 02", True), ("Fri 22", False), ("Sat 00", False), ("Sat 02", False)
    ]  # fmt: skip
    assert list(due_times(rule, after, datetime(2027, 1, 10, tzinfo=UTC))) == [
        datetime(2027, 1, 7, 22, tzinfo=UTC), datetime(2027, 1, 8, 0, tzinfo=UTC), datetime(2027, 1, 8, 2, tzinfo=UTC)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dates": {"every": "2 weeks", "days_of_week": "mon"}}, "since"),
        ({"dates": {"since": "2027-01-01"}}, "every, such as 2 weeks"),
        ({"dates": {"every": "2 weeks", "since": "2027-01-04"}}, "must have days_of_week or weekdays too"),
        ({"dates": {"every": "2 months", "since": "2027-01-04"}}, "must have days_of_month"),
        ({"dates": {"every": "fortnight", "since": "2027-01-04"}}, "must be an interval such as 3 days"),
        ({"dates": {"nth": "sixth tue"}}, "first, second, third, fourth, fifth or last"),
        ({"times": {"at": "06:30", "count_from": "span"}}, "must have every and between"),
        ({"times": {"every": "10m", "count_from": "span"}}, "must have every and between"),
        ({"times": {"every": 0.5}}, "whole seconds"),
    ],
)
def test_what_cannot_be_counted_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        schedule(**{"times": {"at": "06:30"}, **fields})
