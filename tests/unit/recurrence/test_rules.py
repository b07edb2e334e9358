"""Single rules of the recurrence, with results worked out by hand."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobfac.definitions.patterns.moments import Blackout
from jobfac.definitions.schedule import Schedule
from jobfac.recurrence import FOREVER, blackout, blackout_end, due_times, explain, jitter, missed, next_due, preview
from jobfac.recurrence.workdays import _public
from jobfac.recurrence.zones import first_instant


def schedule(**fields: Any) -> Schedule:
    return Schedule.model_validate(fields)


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def shown(rule: Schedule, day: str, days: int = 1) -> list[str]:
    """Return the due times of a local day in wall-clock time, with the offset's hours."""
    start = at(day, rule.timezone)
    found = due_times(rule, start - timedelta(seconds=1), at(day, rule.timezone) + timedelta(hours=25 * days))
    local = [due.astimezone(rule.zone) for due in found]
    last = (datetime.fromisoformat(day) + timedelta(days=days)).date()
    return [f"{due:%H:%M}{due:%z}"[:8] for due in local if due.date() < last]


@pytest.mark.parametrize(
    ("fields", "spring", "autumn"),
    [
        ({"cron": "30 2 * * *"}, ["03:00+02"], ["02:30+02"]),
        ({"cron": "30 2 * * *", "gap": "skip", "overlap": "second"}, [], ["02:30+01"]),
        ({"cron": "0,30 2 * * *", "overlap": "both"}, ["03:00+02"], ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ({"times": {"at": ["02:00", "03:00"]}}, ["03:00+02"], ["02:00+02", "03:00+01"]),
        (
            {"times": {"minutes": 30, "between": "01:00-04:00"}},
            ["01:30+01", "03:30+02"],
            ["01:30+02", "02:30+02", "02:30+01", "03:30+01"],
        ),
        (
            {"times": {"every": "90m", "between": "00:00-06:00"}},
            ["00:00+01", "01:30+01", "04:00+02", "05:30+02"],
            ["00:00+02", "01:30+02", "02:00+01", "03:30+01", "05:00+01"],
        ),
    ],
)
def test_the_documented_table_of_clock_changes(fields: dict[str, Any], spring: list[str], autumn: list[str]) -> None:
    rule = schedule(timezone="Europe/Berlin", **fields)
    assert shown(rule, "2027-03-28") == spring
    assert shown(rule, "2027-10-31") == autumn


def test_times_of_two_days_interleave_when_clocks_go_back_over_midnight() -> None:
    # In 2010 Newfoundland's clocks went from 00:01 on 7 November, a Sunday, back to 23:01 on Saturday.
    rule = schedule(times={"at": ["00:00", "23:30"]}, timezone="America/St_Johns", overlap="both")
    found = due_times(rule, at("2010-11-07T01:00"), at("2010-11-07T04:00"))
    assert [f"{due:%H:%M} {due.astimezone(rule.zone):%a %H:%M %z}" for due in found] == [
        "02:00 Sat 23:30 -0230",
        "02:30 Sun 00:00 -0230",
        "03:00 Sat 23:30 -0330",
        "03:30 Sun 00:00 -0330",
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_intervals_follow_real_time(zone: str) -> None:
    year = at("2027-01-01"), at("2028-01-01")
    for rule, minutes in ((schedule(cron="*/15 * * * *", timezone=zone), 15), (schedule(every="45m"), 45)):
        found = list(due_times(rule, *year))
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=minutes)}


def test_every_is_counted_from_its_start() -> None:
    rule = schedule(every="7h", starts="2027-03-27T12:10:00", timezone="Europe/Berlin")
    found = list(due_times(rule, at("2027-01-01"), at("2027-03-28T12:00")))
    assert [f"{due:%d %H:%M}" for due in found] == ["27 11:10", "27 18:10", "28 01:10", "28 08:10"]


def test_every_n_minutes_restarts_at_midnight() -> None:
    rule = schedule(times={"every": "500m"}, timezone="Asia/Kathmandu")
    assert shown(rule, "2027-05-05", days=2) == [*["00:00+05", "08:20+05", "16:40+05"] * 2]


@pytest.mark.parametrize(
    ("moment", "fields", "expected"),
    [
        ("2027-01-01T00:00:00+01:00", {}, "2026-12-31T23:00"),
        ("2027-10-31T02:30:00+01:00", {}, "2027-10-31T01:30"),
        ("2027-10-31T02:30:00+02:00", {}, "2027-10-31T00:30"),
        ("2027-10-31T02:30:00", {"overlap": "both"}, "2027-10-31T00:30"),  # counted only once
        ("2027-10-31T02:30:00", {"overlap": "second"}, "2027-10-31T01:30"),
        ("2027-03-28T02:30:00", {}, "2027-03-28T01:00"),
        ("2999-12-31T23:00:00", {}, "2999-12-31T22:00"),
    ],
)
def test_a_single_time_fires_once(moment: str, fields: dict[str, Any], expected: str) -> None:
    rule = schedule(at=moment, timezone="Europe/Berlin", **fields)
    due = next_due(rule, at("2026-01-01"))
    assert due is not None
    assert due == at(expected)
    assert next_due(rule, due) is None


def test_rare_days_are_found_and_impossible_ones_are_not() -> None:
    leap = schedule(cron="0 0 29 2 *")
    assert next_due(leap, at("2096-03-01")) == at("2104-02-29")  # 2100 is no leap year
    rare = schedule(dates={"on": "02/29", "days_of_week": "mon"}, times={"at": "06:30"})
    assert next_due(rare, at("2072-03-01")) == at("2112-02-29T06:30")  # forty years later
    assert (
        next_due(schedule(dates={"on": "02/28", "days_of_month": 27}, times={"at": "06:30"}), at("2027-01-01")) is None
    )


def test_start_and_end_are_included() -> None:
    rule = schedule(cron="@daily", starts="2027-01-02", ends="2027-01-03T00:00:00")
    assert list(due_times(rule, at("2026-01-01"), at("2028-01-01"))) == [at("2027-01-02"), at("2027-01-03")]
    whole_day = schedule(cron="0 */12 * * *", starts="2027-01-02", ends="2027-01-02")
    assert list(due_times(whole_day, at("2026-01-01"), at("2028-01-01"))) == [at("2027-01-02"), at("2027-01-02T12:00")]


def test_cron_supports_last_and_nth_days() -> None:
    for cron, days in (("0 0 L * *", [31, 28, 31]), ("0 0 * * FRI#2", [8, 12, 12]), ("0 0 * * 5L", [29, 26, 26])):
        found = due_times(schedule(cron=cron), at("2026-12-31T12:00"), at("2027-03-31"))
        assert [due.day for due in found] == days
    either = due_times(schedule(cron="0 0 13 * FRI"), at("2027-08-01"), at("2027-08-31"))
    assert [due.day for due in either] == [6, 13, 20, 27]
    both = due_times(schedule(cron="0 0 */2 * FRI"), at("2027-08-01"), at("2027-08-31"))
    assert [due.day for due in both] == [13, 27]


@pytest.mark.parametrize(
    ("on_holiday", "expected"),
    [("skip", ["04-01", "04-02"]), ("previous", ["03-25", "04-01", "04-02"]), ("next", ["03-30", "04-01", "04-02"])],
)
def test_times_of_holidays_are_skipped_or_moved_once(on_holiday: str, expected: list[str]) -> None:
    # Good Friday is 26 March, Easter Monday 29 March. Both are listed, and so is the Tuesday or Thursday beside them.
    rule = schedule(
        dates={"between": ["03/26-03/26", "03/29-03/29", "04/01-04/02"]},
        times={"at": "06:30"},
        calendar={"holidays": "DE-BY", "on_holiday": on_holiday},
    )
    assert [f"{due:%m-%d}" for due in due_times(rule, at("2027-03-01"), at("2027-05-01"))] == expected


def test_holidays_are_named_in_english_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    _public.cache_clear()
    assert _public("DE", 2031)[date(2031, 4, 11)] == "Good Friday"


def test_the_weekend_is_that_of_the_country() -> None:
    rule = schedule(dates={"on": "09/23"}, times={"at": "06:00"}, calendar={"holidays": "SA", "on_holiday": "next"})
    # Saudi National Day 2027 is a Thursday; Friday and Saturday are the weekend there.
    assert next_due(rule, at("2027-09-01")) == at("2027-09-26T06:00")


def test_times_in_a_blackout_are_due_once_at_its_end() -> None:
    rule = schedule(
        cron="0 * * * *", timezone="Europe/Berlin", blackout=["12/31 18:00 - 01/01 06:30", "01/01 06:30 - 01/01 07:00"]
    )
    found = due_times(rule, at("2026-12-31T16:00"), at("2027-01-01T07:00"))
    assert [f"{due:%d %H:%M}" for due in found] == ["01 06:00", "01 07:00"]
    assert next_due(rule, at("2026-12-31T20:30")) == at("2027-01-01T06:00")


@pytest.mark.parametrize(
    ("window", "instant", "end"),
    [
        ("12/31 18:00 - 01/01 06:00", "2027-12-31T18:00", "2028-01-01T06:00"),
        ("12/31 18:00 - 01/01 06:00", "2027-01-01T05:59", "2027-01-01T06:00"),
        ("12/31 18:00 - 01/01 06:00", "2027-01-01T06:00", None),
        ("SAT 22:00 - SUN 06:00", "2027-06-12T23:00", "2027-06-13T06:00"),
        ("SUN 22:00 - MON 06:00", "2027-06-14T05:00", "2027-06-14T06:00"),
        ("22:00 - 04:00", "2027-06-12T03:00", "2027-06-12T04:00"),
        ("22:00 - 04:00", "2027-06-12T04:00", None),
        ("2027-06-01 00:00 - 2027-07-01 00:00", "2027-06-12T04:00", "2027-07-01T00:00"),
        ("02/28 18:00 - 02/29 06:00", "2027-02-28T20:00", "2027-03-01T00:00"),  # no leap year
        ("02/29 06:00 - 02/29 12:00", "2027-03-01T00:00", None),
        ("01:00 - 02:30", "2027-10-31T01:30", "2027-10-31T02:30+01:00"),  # 02:30 occurs twice: until the second one
        ("01:00 - 02:30", "2027-03-28T01:30", "2027-03-28T03:00"),  # 02:30 does not exist: until the jump
    ],
)
def test_the_end_of_a_blackout_is_found(window: str, instant: str, end: str | None) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    windows = schedule(cron="@daily", blackout=window).blackout
    expected = datetime.fromisoformat(end) if end else None
    if expected and expected.tzinfo is None:
        expected = expected.replace(tzinfo=berlin)
    assert blackout_end(windows, berlin, at(instant, "Europe/Berlin")) == expected


def test_a_blackout_without_an_end() -> None:
    rule = schedule(cron="@daily", blackout=["MON 00:00 - THU 00:00", "THU 00:00 - MON 00:00"])
    assert blackout_end(rule.blackout, ZoneInfo("UTC"), at("2027-01-01")) == FOREVER
    assert next_due(rule, at("2027-01-01")) is None
    assert [c.reason for c in explain(rule, at("2027-01-01"), 1)] == ["held back by a blackout that never ends"]


def test_a_chain_of_many_windows_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    days = [at("2026-01-01") + timedelta(days=number) for number in range(901)]
    chain = [f"{first:%Y-%m-%d} 00:00 - {last:%Y-%m-%d} 00:00" for first, last in pairwise(days)]
    calls: list[datetime] = []

    def counted(zone: ZoneInfo, wall: datetime) -> datetime:
        calls.append(wall)
        return first_instant(zone, wall)

    monkeypatch.setattr(blackout, "first_instant", counted)
    rule = schedule(every="1s", blackout=chain)
    for start in ("2026-01-01", "2026-11-26T10:00:00", "2028-06-18"):
        assert next_due(rule, at(start)) == days[-1]
    assert len(calls) == 900


@pytest.mark.parametrize("start", ["2026-12-24", "2027-01-05T23:00", "2026-11-26"])
def test_a_long_blackout_of_a_dense_rule_is_not_searched_second_by_second(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = schedule(every="5m", blackout=["12/20 00:02 - 01/06 00:00"])
    calls: list[datetime] = []

    def counted(windows: Sequence[Blackout], zone: ZoneInfo, instant: datetime) -> datetime | None:
        calls.append(instant)
        return blackout_end(windows, zone, instant)

    monkeypatch.setattr(preview, "blackout_end", counted)
    found = explain(rule, at(start), 10**9, only_due=True)
    late = next(one for one in found if one.fires and one.due_at >= at("2026-12-20T00:01"))
    assert (late.due_at, late.reason) == (at("2027-01-06"), "held back by a blackout since 2026-12-20 00:05")
    before = max(0, int((at("2026-12-20") - at(start)).total_seconds() / 300))  # due times before the blackout
    assert len(calls) <= before + 10


def test_explain_names_every_reason() -> None:
    rule = schedule(
        times={"at": ["02:30", "12:00"]},
        timezone="Europe/Berlin",
        calendar={"holidays": "DE-BY", "dates": ["2027-03-30"], "on_holiday": "next"},
        blackout=["SAT 10:00 - SAT 18:00"],
        starts="2027-03-26T12:00:00",
        ends="2027-03-31T12:00:00",
    )
    found = [
        f"{candidate.local:%d %H:%M} {'fires' if candidate.fires else 'no'}: {candidate.reason}"
        for candidate in explain(rule, at("2027-03-26", "Europe/Berlin"), 30)
    ]
    assert found == [
        "26 02:30 no: before the schedule starts, 2027-03-26 12:00",
        "26 12:00 no: Good Friday; moved to 2027-03-31",
        "27 02:30 fires: None",
        "27 12:00 no: held back by a blackout until 2027-03-27 18:00",
        "27 18:00 fires: held back by a blackout since 2027-03-27 12:00",
        "28 03:00 fires: 02:30 does not exist on this day; moved to when the clocks jump",
        "28 12:00 fires: None",
        "29 02:30 no: Easter Monday; moved to 2027-03-31",
        "29 12:00 no: Easter Monday; moved to 2027-03-31",
        "30 02:30 no: a holiday of the calendar; moved to 2027-03-31",
        "30 12:00 no: a holiday of the calendar; moved to 2027-03-31",
        "31 02:30 fires: None",
        "31 12:00 fires: None",
        "01 02:30 no: after the schedule ends, 2027-03-31 12:00",
    ]


def test_explain_shows_moved_and_repeated_times() -> None:
    moved = schedule(dates={"on": "03/29"}, times={"at": "06:30"}, calendar={"holidays": "DE-BY", "on_holiday": "next"})
    assert [(c.fires, c.reason) for c in explain(moved, at("2027-03-01"), 2)] == [
        (False, "Easter Monday; moved to 2027-03-30"),
        (True, "moved from 2027-03-29, Easter Monday"),
    ]
    twice = schedule(times={"at": ["02:00", "02:30"]}, timezone="Europe/Berlin", overlap="second")
    assert [c.reason for c in explain(twice, at("2027-10-31", "Europe/Berlin"), 2)] == [
        "02:00 comes twice on this day; the second one is taken",
        "02:30 comes twice on this day; the second one is taken",
    ]
    collapsed = list(explain(twice, at("2027-03-28", "Europe/Berlin"), 2))
    assert [c.fires for c in collapsed] == [True, False]
    assert collapsed[1].reason == "02:30 falls on the same instant as the one before"


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "*/15 * * * *", "timezone": "Pacific/Auckland"},
        {"every": "36h", "timezone": "America/New_York"},
        {
            "times": {"at": "12:00"},
            "calendar": {"holidays": "DE", "on_holiday": "next"},
            "blackout": ["12/10 10:00 - 12/09 06:00"],
        },
        {"at": "2027-01-01T00:00:00+01:00"},
    ],
)
def test_no_time_is_due_after_the_latest_date(fields: dict[str, Any]) -> None:
    rule = schedule(**fields)
    for zone in ("UTC", "Pacific/Auckland", "America/New_York"):
        late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=ZoneInfo(zone))
        assert list(explain(rule, late, 3)) == []
    assert all(candidate.local.year < 9991 for candidate in explain(rule, at("9989-12-25"), 3000))


LAST, NOW = at("2027-06-01T00:00"), at("2027-06-01T06:00:20")


@pytest.mark.parametrize(
    ("policy", "minute", "expected"),
    [
        ("skip", 0, ["06:00"]),  # 06:00 was 20 seconds ago
        ("skip", 30, []),
        ("once", 0, ["06:00"]),
        ("once", 30, ["05:30"]),
        ("all", 30, ["00:30", "01:30", "02:30", "03:30", "04:30", "05:30"]),
        ({"policy": "all", "maximum": 2}, 30, ["04:30", "05:30"]),
        ({"policy": "all", "maximum": 2}, 0, ["04:00", "05:00", "06:00"]),
        ({"policy": "all", "window": "2h"}, 30, ["04:30", "05:30"]),
        ({"policy": "once", "window": "10m"}, 30, []),
    ],
)
def test_missed_times_run_according_to_the_policy(
    policy: str | dict[str, Any], minute: int, expected: list[str]
) -> None:
    rule = schedule(cron=f"{minute} * * * *", missed=policy)
    assert [f"{due:%H:%M}" for due in missed(rule, LAST, NOW)] == expected


def test_missed_times_of_ten_years_are_found_at_once() -> None:
    rule = schedule(cron="* * * * *", missed={"policy": "all", "maximum": 3})
    found = missed(rule, at("2017-01-01"), at("2027-01-01"), on_time=timedelta(0))
    assert [f"{due:%d %H:%M}" for due in found] == ["31 23:58", "31 23:59", "01 00:00"]


def test_jitter_is_the_same_everywhere_and_spread_out() -> None:
    found = [jitter(number, LAST, 30) for number in range(1000)]
    assert found == [jitter(number, LAST.astimezone(ZoneInfo("Asia/Kathmandu")), 30) for number in range(1000)]
    assert all(0 <= seconds < 30 for seconds in found)
    assert 13 < sum(found) / 1000 < 17
    assert jitter(1, LAST, 30) != jitter(1, NOW, 30)
    assert jitter(1, LAST, 0) == 0
