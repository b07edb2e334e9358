"""From Agent's schedules to those of definitions.

Where Agent's documentation is ambiguous, the import assumes: every n days, weeks or months counts from the start date,
a week from its Sunday; a daily window that ends before it starts belongs to the day on which it starts.
"""

from collections.abc import Callable
from datetime import date, time, timedelta
from typing import Any

from jobfac.importers.agent.model import Schedule

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
KINDS = {**dict(enumerate(WEEKDAYS, start=1)), 8: "day", 9: "weekday", 10: "weekend"}
ORDINALS = {1: "first", 2: "second", 4: "third", 8: "fourth", 16: "last"}
SUBDAY_UNITS = {2: 1, 4: 60, 8: 3600}
UNSCHEDULED = {
    64: "is due when Agent starts, which has no counterpart; start the job from a service of that machine",
    128: "is due when the processor is idle, which has no counterpart; give the job one such as {every: 1h}",
}
"""By freq_type, the reason why there is no counterpart, and what to do."""

NO_END = 99991231
DAY = 86_400
MOST = 10_000

Warn = Callable[[str], None]


def convert(schedule: Schedule, timezone: str, warn: Warn) -> dict[str, Any] | None:
    """Return the schedule of a definition, without its name; None, after a warning: there is no counterpart."""
    if schedule.freq_type in UNSCHEDULED:
        warn(f"the schedule '{schedule.name}' {UNSCHEDULED[schedule.freq_type]}")
        return None
    try:
        body = _once(schedule) if schedule.freq_type == 1 else _recurring(schedule)
        body["timezone"] = timezone
        if schedule.freq_type != 1:
            body |= _bounds(schedule, warn)
    except ValueError as error:
        warn(f"the schedule '{schedule.name}' was left out: {error}; write it under schedules")
        return None
    if not schedule.enabled:
        body["enabled"] = False
    return body


def _once(schedule: Schedule) -> dict[str, Any]:
    day, clock = _date(schedule.active_start_date, "active_start_date"), _time(schedule.active_start_time)
    return {"at": f"{day.isoformat()}T{clock.isoformat()}"}


def _recurring(schedule: Schedule) -> dict[str, Any]:
    dates = _dates(schedule)
    return ({"dates": dates} if dates else {}) | {"times": _times(schedule)}


def _bounds(schedule: Schedule, warn: Warn) -> dict[str, Any]:
    found = {}
    if schedule.active_start_date and (start := _date(schedule.active_start_date, "active_start_date")).year >= 1970:
        crosses = schedule.freq_subday_type in SUBDAY_UNITS and schedule.active_start_time > schedule.active_end_time
        # A window across midnight would otherwise begin in its second half, which belongs to the day before.
        found["starts"] = start.isoformat() + f"T{_clock(_time(schedule.active_start_time))}" * crosses
    if schedule.active_end_date not in (0, NO_END):
        end = _date(schedule.active_end_date, "active_end_date")
        if end.year > 2999:
            warn(f"the schedule '{schedule.name}' ends in {end.year}, which is as good as never; it has no end here")
        else:
            found["ends"] = end.isoformat()
    if "starts" in found and "ends" in found and found["ends"] < found["starts"][:10]:
        raise ValueError(f"it ends on {found['ends']}, before it starts on {found['starts']}")
    return found


def _dates(schedule: Schedule) -> dict[str, Any]:
    interval, factor = schedule.freq_interval, max(1, schedule.freq_recurrence_factor)
    match schedule.freq_type:
        case 4:
            return _counted(schedule, max(1, interval), "day")
        case 8:
            days = [day for bit, day in enumerate(WEEKDAYS) if interval & (1 << bit)]
            if not days:
                raise ValueError(f"its freq_interval {interval} names no day of the week")
            everyday = len(days) == 7 and factor == 1
            return {} if everyday else {"days_of_week": days} | _counted(schedule, factor, "week")
        case 16:
            if not 1 <= interval <= 31:
                raise ValueError(f"its freq_interval {interval} is no day of the month")
            return {"days_of_month": [interval]} | _counted(schedule, factor, "month")
        case 32:
            if interval not in KINDS or schedule.freq_relative_interval not in ORDINALS:
                raise ValueError(
                    f"its freq_interval {interval} with freq_relative_interval {schedule.freq_relative_interval} "
                    "is no day of a month"
                )
            nth = f"{ORDINALS[schedule.freq_relative_interval]} {KINDS[interval]}"
            return {"nth": [nth]} | _counted(schedule, factor, "month")
        case _:
            raise ValueError(f"its freq_type {schedule.freq_type} is none of Agent's")


def _counted(schedule: Schedule, number: int, unit: str) -> dict[str, Any]:
    if number == 1:
        return {}
    if not 1 < number <= MOST:
        raise ValueError(f"it comes every {number} {unit}s, and at most {MOST} can be counted")
    since = _date(schedule.active_start_date, "active_start_date")
    if unit == "week":
        since -= timedelta(days=since.isoweekday() % 7)
    if since.year < 1970:
        raise ValueError(f"it counts {unit}s from {since}, before 1970")
    return {"every": f"{number} {unit}s", "since": since.isoformat()}


def _times(schedule: Schedule) -> dict[str, Any]:
    start = _time(schedule.active_start_time)
    if schedule.freq_subday_type in (0, 1):
        return {"at": [_clock(start)]}
    if schedule.freq_subday_type not in SUBDAY_UNITS:
        raise ValueError(f"its freq_subday_type {schedule.freq_subday_type} is none of Agent's")
    step = schedule.freq_subday_interval * SUBDAY_UNITS[schedule.freq_subday_type]
    if step < 1:
        raise ValueError(f"its freq_subday_interval {schedule.freq_subday_interval} is no interval")
    end = _time(schedule.active_end_time)
    if step > DAY or start == end:
        return {"at": [_clock(start)]}
    if start == time() and end == time(23, 59, 59):
        return {"every": _duration(step)}
    after = (_seconds(end) + 1) % DAY  # Agent's end is included
    until = "24:00" if after == 0 else _clock(time(after // 3600, after // 60 % 60, after % 60))
    if until == _clock(start):  # from one second of the day around to the one before it
        return {"every": _duration(step)} if start == time() else {"at": _around(start, step)}
    return {"every": _duration(step), "between": [f"{_clock(start)}-{until}"], "count_from": "span"}


def _around(start: time, step: int) -> list[str]:
    """Every ``step`` seconds of a whole day that begins at ``start``."""
    seconds = sorted((_seconds(start) + passed) % DAY for passed in range(0, DAY, step))
    if len(seconds) > 1440:
        raise ValueError("its window is a whole day that does not begin at midnight, with more than 1,440 times")
    return [_clock(time(second // 3600, second // 60 % 60, second % 60)) for second in seconds]


def _date(number: int, field: str) -> date:
    try:
        return date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        raise ValueError(f"its {field} {number} is no date") from None


def _time(number: int) -> time:
    try:
        return time(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        raise ValueError(f"its time {number} is no time of day") from None


def _seconds(clock: time) -> int:
    return clock.hour * 3600 + clock.minute * 60 + clock.second


def _clock(clock: time) -> str:
    return clock.strftime("%H:%M:%S" if clock.second else "%H:%M")


def _duration(seconds: int) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
