"""Windows of a step's start."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobfac.definitions.schedule import Dates, Times
from jobfac.recurrence import in_window

BERLIN = ZoneInfo("Europe/Berlin")


def opens_on_weekdays(times: dict[str, Any], instant: str) -> bool:
    dates, moment = Dates.model_validate({"weekdays": "weekday"}), datetime.fromisoformat(instant)
    return in_window(dates, Times.model_validate(times), BERLIN, moment.replace(tzinfo=BERLIN))


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2027-06-11T21:59", False),
        ("2027-06-11T22:00", True),  # a Friday
        ("2027-06-12T03:59", True),  # Friday's window
        ("2027-06-12T04:00", False),
        ("2027-06-12T22:00", False),
        ("2027-06-14T03:00", False),  # Sunday's window would be this one
        ("2027-06-14T22:30", True),
    ],
)
def test_a_span_across_midnight_belongs_to_the_day_it_begins_on(instant: str, expected: bool) -> None:
    assert opens_on_weekdays({"between": "22:00-04:00"}, instant) is expected


@pytest.mark.parametrize(
    ("times", "opening"),
    [
        ({"between": "22:00-04:00"}, "2027-06-12T22:00+02:00"),
        ({"hours": [6, 7]}, "2027-06-13T06:00+02:00"),
        ({"hours": 6, "between": "06:30-12:00"}, "2027-06-12T06:30+02:00"),
        ({"hours": [6], "minutes": [15, 45]}, "2027-06-12T06:45+02:00"),
        ({"every": "50m"}, "2027-06-13T00:00+02:00"),
        ({"at": "02:30"}, "2027-03-28T03:00+02:00"),  # the clock jumps over it
        ({"between": "02:15-02:45"}, "2027-03-29T02:15+02:00"),  # and over all of this one
        ({"between": "02:30-03:30"}, "2027-03-28T03:00+02:00"),
    ],
)
def test_a_window_opens(times: dict[str, Any], opening: str) -> None:
    window, opened = Times.model_validate(times), datetime.fromisoformat(opening)
    assert in_window(None, window, BERLIN, opened)
    assert not in_window(None, window, BERLIN, opened - timedelta(minutes=1))


def test_days_without_times_open_at_midnight() -> None:
    dates = Dates.model_validate({"days_of_month": "last"})
    assert not in_window(dates, None, BERLIN, datetime(2027, 6, 29, 23, 59, tzinfo=BERLIN))
    assert in_window(dates, None, BERLIN, datetime(2027, 6, 30, tzinfo=BERLIN))
    assert in_window(dates, None, BERLIN, datetime(2027, 6, 30, 23, 59, tzinfo=BERLIN))
    assert not in_window(dates, None, BERLIN, datetime(2027, 7, 1, tzinfo=BERLIN))


def test_a_window_may_never_open() -> None:
    never = Times.model_validate({"hours": 3, "between": "22:00-23:00"})
    assert not any(in_window(None, never, BERLIN, datetime(2027, 1, 1, hour, 30, tzinfo=BERLIN)) for hour in range(24))


@pytest.mark.parametrize("count", [{}, {"count_from": "span"}])
@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2027-06-11T21:00", False),
        ("2027-06-11T23:00", True),  # a Friday
        ("2027-06-12T01:00", True),  # Friday's span
        ("2027-06-12T01:30", False),
        ("2027-06-12T23:00", False),
        ("2027-06-14T01:00", False),  # Sunday's span would be this one
    ],
)
def test_points_in_a_span_across_midnight_belong_to_the_day_on_which_it_begins(
    instant: str, expected: bool, count: dict[str, str]
) -> None:
    assert opens_on_weekdays({"every": "1h", "between": "22:00-04:00", **count}, instant) is expected
