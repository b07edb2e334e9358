"""Forty schedules of all kinds, each with its source; the files in `due_times/` contain their due times of 2027.

`python -m tests.unit.recurrence.previews` writes the files again from the sources.
"""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from dateutil.rrule import FR, MO, MONTHLY, SA, SU, TU, WE, WEEKLY

from tests.unit.recurrence.sources import (
    BAVARIA,
    DAY,
    UNITED_STATES,
    YEAR,
    Source,
    by_hand,
    cron,
    days,
    from_midnight,
    held,
    moving,
    on,
    real_minutes,
    skipping,
)

FOLDER = Path(__file__).parent / "due_times"
WORKDAYS = range(5)


class Preview(NamedTuple):
    name: str
    schedule: dict[str, Any]
    source: Source


def workday(position: int) -> dict[str, Any]:
    """Return the first (1) or last (-1) weekday of the month, as a rule of dateutil."""
    return {"freq": MONTHLY, "byweekday": WORKDAYS, "bysetpos": position}


BERLIN = [
    Preview("cron daily 02:30", {"cron": "30 2 * * *"}, cron("30 2 * * *")),
    Preview("cron office hours", {"cron": "0 8-18/5 * * MON-FRI"}, cron("0 8-18/5 * * MON-FRI")),
    Preview("02:30, nothing in the gap, second of two", {"times": {"at": "02:30"}, "gap": "skip", "overlap": "second"},
            days("02:30", gap="skip", overlap="second")),
    Preview("02:30 and 03:00, both of two", {"times": {"at": ["02:30", "03:00"]}, "overlap": "both"},
            days("02:30", "03:00", overlap="both")),
    Preview("first and last of the month",
            {"dates": {"days_of_month": [1, "last"]}, "times": {"at": ["06:30", "18:00"]}},
            days("06:30", "18:00", freq=MONTHLY, bymonthday=(1, -1))),
    Preview("Bavarian holidays skipped",
            {"dates": {"weekdays": "weekday"}, "times": {"at": "07:00"}, "calendar": {"holidays": "DE-BY"}},
            days("07:00", byweekday=WORKDAYS, move=skipping(BAVARIA))),
    Preview("every 90 minutes from midnight", {"times": {"every": "90m"}}, from_midnight(90)),
    # The clocks change on the last Sundays of March and October: on those days 02:30 is 03:00+02:00 and 02:30+02:00.
    Preview("last Sunday of the month", {"cron": "30 2 * * 0L"},
            by_hand("2027-01-31T02:30+01:00", "2027-02-28T02:30+01:00", "2027-03-28T03:00+02:00",
                    "2027-04-25T02:30+02:00", "2027-05-30T02:30+02:00", "2027-06-27T02:30+02:00",
                    "2027-07-25T02:30+02:00", "2027-08-29T02:30+02:00", "2027-09-26T02:30+02:00",
                    "2027-10-31T02:30+02:00", "2027-11-28T02:30+01:00", "2027-12-26T02:30+01:00")),
]  # fmt: skip

NEW_YORK = [
    Preview("cron every three hours, by the star", {"cron": "0 */3 * * *"}, cron("0 */3 * * *")),
    Preview("cron second Friday", {"cron": "15 6 * * FRI#2"}, days("06:15", freq=MONTHLY, byweekday=FR(2))),
    # Both days are restricted, so either of them matches.
    Preview("cron the 13th or a Friday", {"cron": "0 1 13 * FRI"}, cron("0 1 13 * FRI")),
    Preview("US holidays moved on",
            {"dates": {"days_of_week": ["mon", "fri"]}, "times": {"at": "06:30"},
             "calendar": {"holidays": "US", "on_holiday": "next"}},
            days("06:30", byweekday=(MO, FR), move=moving(UNITED_STATES, DAY))),
    Preview("US holidays moved back",
            {"dates": {"weekdays": "last"}, "times": {"at": "18:00"},
             "calendar": {"holidays": "US", "on_holiday": "previous"}},
            # Memorial Day is the last weekday of May; New Year's Eve is kept for New Year's Day, a Saturday.
            by_hand("2027-01-29T18:00-05:00", "2027-02-26T18:00-05:00", "2027-03-31T18:00-04:00",
                    "2027-04-30T18:00-04:00", "2027-05-28T18:00-04:00", "2027-06-30T18:00-04:00",
                    "2027-07-30T18:00-04:00", "2027-08-31T18:00-04:00", "2027-09-30T18:00-04:00",
                    "2027-10-29T18:00-04:00", "2027-11-30T18:00-05:00", "2027-12-30T18:00-05:00")),
    Preview("Christmas Eve and the fourth of July", {"dates": {"on": ["12/24", "07/04"]}, "times": {"at": "12:00"}},
            by_hand("2027-07-04T12:00-04:00", "2027-12-24T12:00-05:00")),
    Preview("across the year's end", {"dates": {"between": "12/10-01/05"}, "times": {"at": "23:45"}},
            on([date(YEAR, 1, n) for n in range(1, 6)] + [date(YEAR, 12, n) for n in range(10, 32)], "23:45")),
    Preview("nights without New Year's and Independence Day",
            {"times": {"at": ["01:30", "20:00"]},
             "blackout": ["12/31 18:00 - 01/01 06:00", "07/04 18:00 - 07/05 06:00"]},
            held(days("01:30", "20:00"), ("2026-12-31 18:00", "2027-01-01 06:00"),
                 ("2027-07-04 18:00", "2027-07-05 06:00"), ("2027-12-31 18:00", "2028-01-01 06:00"))),
]  # fmt: skip

LORD_HOWE = [
    # Half an hour: 02:00 to 02:30 on 3 October, 02:00 back to 01:30 on 4 April.
    Preview("02:15 on Sundays",
            {"dates": {"days_of_week": "sun"}, "times": {"at": "02:15"}},
            days("02:15", freq=WEEKLY, byweekday=SU)),
    Preview("01:45, both of two", {"times": {"at": "01:45"}, "overlap": "both"}, days("01:45", overlap="both")),
    Preview("first weekday", {"dates": {"weekdays": "first"}, "times": {"at": "09:00"}}, days("09:00", **workday(1))),
    Preview("cron monthly", {"cron": "@monthly"}, cron("0 0 1 * *")),
    Preview("every seven hours of real time", {"every": "7h", "starts": "2027-01-01T03:20:00+11:00"},
            real_minutes(420, datetime(2026, 12, 31, 16, 20, tzinfo=UTC))),
    Preview("minutes 0 and 30 of Sunday nights",
            {"dates": {"days_of_week": "sun"}, "times": {"minutes": [0, 30], "between": "01:00-03:00"}},
            cron("*/30 1-2 * * SUN")),
]  # fmt: skip

KATHMANDU = [
    Preview("cron @weekly", {"cron": "@weekly"}, days("00:00", freq=WEEKLY, byweekday=SU)),
    Preview("every 500 minutes from midnight", {"times": {"every": "500m"}}, days("00:00", "08:20", "16:40")),
    Preview("hours and minutes",
            {"dates": {"days_of_month": [10, 20]}, "times": {"hours": [9, 21], "minutes": [5, 50]}},
            days("09:05", "09:50", "21:05", "21:50", bymonthday=(10, 20))),
    Preview("own holidays",
            {"dates": {"days_of_month": [1, 15]}, "times": {"at": "10:00"},
             "calendar": {"dates": ["01/15", "2027-04-15", "2027-08-15"], "on_holiday": "previous"}},
            # 15 January is a Friday, 15 April a Thursday, 15 August a Sunday.
            days("10:00", bymonthday=(1, 15),
                 move=moving({date(YEAR, 1, 15), date(YEAR, 4, 15), date(YEAR, 8, 15)}, -DAY))),
    Preview("once", {"at": "2027-06-30T23:59:00"}, by_hand("2027-06-30T18:14:00+00:00")),
    Preview("a season", {"times": {"at": "12:00"}, "starts": "2027-04-14", "ends": "2027-10-17"},
            on([date(YEAR, 4, 14) + DAY * number for number in range(187)], "12:00")),
]  # fmt: skip

SANTIAGO = [
    # The clocks change at midnight: 24:00 back to 23:00 on Saturday 3 April, 00:00 on to 01:00 on Sunday 5 September.
    Preview("midnight", {"times": {"at": "00:00"}}, days("00:00")),
    Preview("23:30, second of two", {"times": {"at": "23:30"}, "overlap": "second"}, days("23:30", overlap="second")),
    Preview("00:30, nothing in the gap", {"times": {"at": "00:30"}, "gap": "skip"}, days("00:30", gap="skip")),
    Preview("cron quarter past, every sixth hour by the star", {"cron": "15 */6 * * 6,0"}, cron("15 */6 * * 6,0")),
    Preview("every four hours from midnight", {"times": {"every": "4h"}}, from_midnight(240)),
    Preview("Saturdays held back to Sunday",
            {"dates": {"days_of_week": "sat"}, "times": {"at": ["21:00", "22:00"]},
             "blackout": "SAT 20:00 - SUN 02:00"},
            on([date(YEAR, 1, 3) + 7 * DAY * number for number in range(52)], "02:00")),
]  # fmt: skip

UTC_ZONE = [
    Preview("cron last day", {"cron": "59 23 L * *"}, days("23:59", freq=MONTHLY, bymonthday=-1)),
    Preview("cron last weekday", {"cron": "0 17 LW * *"}, days("17:00", **workday(-1))),
    Preview("cron every other day, weekends only", {"cron": "0 4 */2 * 6,0"},
            days("04:00", byweekday=(SA, SU), bymonthday=range(1, 32, 2))),
    Preview("every 36 hours", {"every": "36h"}, real_minutes(2160, datetime(1970, 1, 1, tzinfo=UTC))),
    Preview("Tuesdays and Wednesdays from the 8th to the 14th",
            {"dates": {"days_of_week": [2, "wed"], "days_of_month": [8, 9, 10, 11, 12, 13, 14]},
             "times": {"at": "03:33"}},
            days("03:33", freq=MONTHLY, byweekday=(TU(2), WE(2)))),
    Preview("a leap day", {"dates": {"on": "02/29"}, "times": {"at": "00:00"}}, by_hand()),
]  # fmt: skip

PREVIEWS = {
    "Europe/Berlin": BERLIN,
    "America/New_York": NEW_YORK,
    "Australia/Lord_Howe": LORD_HOWE,
    "Asia/Kathmandu": KATHMANDU,
    "America/Santiago": SANTIAGO,
    "UTC": UTC_ZONE,
}


def path(zone: str) -> Path:
    return FOLDER / f"{zone.rpartition('/')[2].lower()}.json"


def written(instants: Iterable[datetime], zone: str) -> list[str]:
    """Return one line for each local day: its date and times. An offset applies to the times after it."""
    lines: dict[date, str] = {}
    offset = ""
    for instant in sorted(instants):
        local = instant.astimezone(ZoneInfo(zone))
        if local.date() not in lines:
            lines[local.date()], offset = f"{local:%Y-%m-%d}", ""
        if offset != f"{local:%z}":
            offset = f"{local:%z}"
            lines[local.date()] += f" {offset}"
        lines[local.date()] += f" {local:%H:%M}"
    return list(lines.values())


def year_of(zone: str) -> tuple[datetime, datetime]:
    """Return the last instant before 2027 and the last of 2027."""
    start, end = (datetime(year, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC) for year in (YEAR, YEAR + 1))
    return start - timedelta(seconds=1), end - timedelta(seconds=1)


def expected(preview: Preview, zone: str) -> list[str]:
    """Return the due times of the source."""
    after, until = year_of(zone)
    return written((due for due in preview.source(zone) if after < due <= until), zone)


if __name__ == "__main__":
    for zone, previews in PREVIEWS.items():
        path(zone).write_text(json.dumps({p.name: expected(p, zone) for p in previews}, indent=1) + "\n")
