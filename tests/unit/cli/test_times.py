"""One way to read times and one way to write them, in a zone with clock changes."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from jobfac.cli.times import describe, write_short, write_time
from jobfac.definitions.waiting import Wait
from jobfac.times import UnknownZone, read_day, read_end, read_time, unknown_zone

NOW = datetime(2027, 3, 28, 10, 30, tzinfo=UTC)  # 12:30 in Berlin, whose clocks went forward in the night before


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "back", "wanted"),
    [
        ("2h", True, "2027-03-28 10:30:00+02:00"),
        ("1d", True, "2027-03-27 11:30:00+01:00"),
        ("yesterday", True, "2027-03-27 00:00:00+01:00"),
        ("today", True, "2027-03-28 00:00:00+01:00"),
        ("06:00", True, "2027-03-28 06:00:00+02:00"),
        ("22:00", True, "2027-03-27 22:00:00+01:00"),
        ("22:00", False, "2027-03-28 22:00:00+02:00"),
        ("6:00", False, "2027-03-29 06:00:00+02:00"),
        ("2027-03-27", True, "2027-03-27 00:00:00+01:00"),
        ("2027-03-27 22:00", False, "2027-03-27 22:00:00+01:00"),
        (
            "2027-03-28 02:30",
            False,
            "2027-03-28 03:30:00+02:00",
        ),  # behind the gap, not before
        ("2027-06-01T12:00:00Z", False, "2027-06-01 14:00:00+02:00"),
    ],
)
def test_a_time_is_local_unless_it_says_otherwise(text: str, back: bool, wanted: str) -> None:
    assert write_time(read_time(text, NOW, back=back)) == wanted


@pytest.mark.parametrize("zone", [None, ZoneInfo("Europe/Berlin")])
def test_a_time_of_day_that_is_skipped_is_behind_the_change(zone: ZoneInfo | None) -> None:
    for now in (datetime(2027, 3, 28, 0, tzinfo=UTC), datetime(2027, 3, 28, 0, 50, tzinfo=UTC)):
        assert write_time(read_time("02:30", now, zone=zone)) == "2027-03-28 03:30:00+02:00"
        assert write_time(read_time("02:30", now, back=True, zone=zone)) == "2027-03-27 02:30:00+01:00"


@pytest.mark.parametrize(
    ("now", "last", "following"),
    [
        ("00:10", "10-30 02:30+02:00", "10-31 02:30+02:00"),
        ("00:40", "10-31 02:30+02:00", "10-31 02:30+01:00"),
        ("01:10", "10-31 02:30+02:00", "10-31 02:30+01:00"),
        ("01:40", "10-31 02:30+01:00", "11-01 02:30+01:00"),
    ],
)
def test_a_time_of_day_that_comes_twice_counts_twice(now: str, last: str, following: str) -> None:
    moment = datetime.fromisoformat(f"2027-10-31T{now}:00+00:00")
    expected = datetime.fromisoformat(f"2027-{following}").astimezone(UTC)
    wait = Wait.model_validate({"until": "02:30", "timezone": "Europe/Berlin"})
    assert wait.end(moment) == expected
    for zone in (ZoneInfo("Europe/Berlin"), None):
        assert read_time("02:30", moment, zone=zone).astimezone(UTC) == expected
        before = read_time("02:30", moment, zone=zone, back=True).astimezone(UTC)
        assert before == datetime.fromisoformat(f"2027-{last}").astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("today", "2027-03-28 00:00:00-04:00"),
        ("22:00", "2027-03-27 22:00:00-04:00"),
        ("2027-01-31", "2027-01-31 00:00:00-05:00"),
        ("2h", "2027-03-28 04:30:00-04:00"),
    ],
)
def test_a_time_may_be_of_another_zone_than_the_machine(text: str, wanted: str) -> None:
    assert str(read_time(text, NOW, back=True, zone=ZoneInfo("America/New_York"))) == wanted


@pytest.mark.parametrize("text", ["yesterday", "2h", "soon", "", "25:00", "0001-01-01"])
def test_what_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        read_time(text, NOW)


def test_the_end_of_a_period_includes_its_day() -> None:
    assert write_time(read_end("2027-03-27", NOW)) == "2027-03-28 00:00:00+01:00"
    assert write_time(read_end("today", NOW)) == "2027-03-29 00:00:00+02:00"
    assert write_time(read_end("12:00", NOW)) == "2027-03-28 12:00:00+02:00"


def test_days_of_reports_are_utc() -> None:
    late = datetime(2027, 3, 28, 23, 0, tzinfo=UTC)  # the next day in Berlin
    assert read_day("yesterday", late) == date(2027, 3, 27)
    assert read_day("30d", late) == date(2027, 2, 27)
    assert read_day("2027-01-31", late) == date(2027, 1, 31)
    assert read_day("2027-01-31T23:30:00-02:00", late) == date(2027, 2, 1)


def test_a_short_time_keeps_its_offset() -> None:
    assert write_short(NOW, NOW) == "12:30:00+02:00"
    assert write_short(datetime(2027, 1, 31, 22, tzinfo=UTC), NOW) == "01-31 23:00+01:00"
    assert write_short(datetime(2026, 7, 31, 22, tzinfo=UTC), NOW) == "2026-08-01 00:00+02:00"


def test_a_time_is_told_as_it_was_understood() -> None:
    assert describe(read_time("22:00", NOW), NOW) == "Sun 2027-03-28 22:00:00+02:00 (CEST), in 9:30:00"
    assert describe(read_time("2027-03-28 12:00", NOW), NOW).endswith("(CEST), 0:30:00 ago")


@pytest.mark.parametrize(
    ("zone", "unknown"),
    [
        ("Europe/Berlin", None), (":Europe/Berlin", None), ("", None), ("UTC", None), ("EST5EDT", None),
        ("<+03>-3", None), ("CET-1CEST,M3.5.0,M10.5.0/3", None), (":nonsense", "nonsense"),
        ("Mars/Phobos", "Mars/Phobos"), ("/nowhere", "/nowhere"),
    ],
)  # fmt: skip
def test_a_zone_that_the_machine_does_not_know(zone: str, unknown: str | None) -> None:
    assert unknown_zone({"TZ": zone}) == unknown


def test_a_local_time_needs_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Mars/Phobos")
    for text in ("18:00", "2027-03-28 18:00", "2027-03-28", "yesterday"):
        with pytest.raises(UnknownZone, match="does not know the time zone 'Mars/Phobos' that TZ names; correct TZ"):
            read_time(text, NOW, back=True)
    assert read_time("2027-03-28T18:00:00+02:00", NOW).astimezone(UTC).hour == 16
    assert read_time("2h", NOW, back=True).astimezone(UTC).hour == 8
    assert read_time("18:00", NOW, zone=ZoneInfo("Europe/Berlin")).astimezone(UTC).hour == 16
