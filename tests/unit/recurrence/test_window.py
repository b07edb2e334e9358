"""Windows of a step's start, compared with a scan of every minute, and by example."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfac.definitions.schedule import Dates, Times
from jobfac.recurrence import in_window, next_window
from tests.unit.examples import examples

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


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
    dates, times = Dates.model_validate({"weekdays": "weekday"}), Times.model_validate({"between": "22:00-04:00"})
    assert in_window(dates, times, BERLIN, datetime.fromisoformat(instant).replace(tzinfo=BERLIN)) is expected


@pytest.mark.parametrize(
    ("times", "after", "expected"),
    [
        ({"between": "22:00-04:00"}, "2027-06-12T05:00+02:00", "2027-06-12T22:00+02:00"),
        ({"hours": [6, 7]}, "2027-06-12T08:00+02:00", "2027-06-13T06:00+02:00"),
        ({"hours": 6, "between": "06:30-12:00"}, "2027-06-12T00:00+02:00", "2027-06-12T06:30+02:00"),
        ({"hours": [6], "minutes": [15, 45]}, "2027-06-12T06:15+02:00", "2027-06-12T06:45+02:00"),
        ({"every": "50m"}, "2027-06-12T23:21+02:00", "2027-06-13T00:00+02:00"),
        ({"at": "02:30"}, "2027-03-28T00:00+01:00", "2027-03-28T03:00+02:00"),  # the clock jumps over it
        ({"between": "02:15-02:45"}, "2027-03-28T00:00+01:00", "2027-03-29T02:15+02:00"),  # and over all of this one
        ({"between": "02:30-03:30"}, "2027-03-28T00:00+01:00", "2027-03-28T03:00+02:00"),
    ],
)
def test_the_next_window_is_found(times: dict[str, Any], after: str, expected: str) -> None:
    opening = next_window(None, Times.model_validate(times), BERLIN, datetime.fromisoformat(after))
    assert opening is not None
    assert opening == datetime.fromisoformat(expected)
    assert in_window(None, Times.model_validate(times), BERLIN, opening)


def test_days_without_times_open_at_midnight() -> None:
    dates = Dates.model_validate({"days_of_month": "last"})
    opening = next_window(dates, None, BERLIN, datetime(2027, 6, 12, tzinfo=UTC))
    assert opening == datetime(2027, 6, 30, tzinfo=BERLIN)
    assert in_window(dates, None, BERLIN, datetime(2027, 6, 30, 23, 59, tzinfo=BERLIN))
    assert not in_window(dates, None, BERLIN, datetime(2027, 7, 1, tzinfo=BERLIN))


def test_a_window_that_never_opens_has_no_next() -> None:
    never = Times.model_validate({"hours": 3, "between": "22:00-23:00"})
    assert next_window(None, never, BERLIN, datetime(2027, 1, 1, tzinfo=UTC)) is None


windows = st.one_of(
    st.builds("{:02}:{:02}-{:02}:{:02}".format, *[st.integers(0, 23), st.sampled_from([0, 30])] * 2)
    .filter(lambda span: span[:5] != span[6:])
    .map(lambda span: {"between": span}),
    st.lists(st.integers(0, 23), min_size=1, max_size=5).map(lambda hours: {"hours": hours}),
    st.lists(st.integers(0, 59), min_size=1, max_size=3).map(lambda minutes: {"minutes": minutes}),
    st.integers(20, 300).map(lambda minutes: {"every": f"{minutes}m"}),
)


@settings(max_examples=examples(60), deadline=None)
@given(windows, st.sampled_from(["2027-03-27", "2027-10-30", "2027-06-11"]), st.integers(0, 2880))
def test_the_next_window_is_the_first_minute_that_lies_in_it(times: dict[str, Any], day: str, minutes: int) -> None:
    window = Times.model_validate(times)
    after = datetime.fromisoformat(f"{day}T00:00+00:00") + timedelta(minutes=minutes)
    if in_window(None, window, BERLIN, after):
        return
    minute = after + MINUTE
    while not in_window(None, window, BERLIN, minute):
        minute += MINUTE
    assert next_window(None, window, BERLIN, after) == minute
