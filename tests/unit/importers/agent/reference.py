"""When Agent runs a schedule, by the documentation of sp_add_schedule, without code of jobfac.

The parameters are taken from a script by a plain search, days are walked one by one, times second by second. What the
documentation leaves open is decided as the guide says: weeks begin on Sunday, n days, weeks and months count from the
start date, and a daily window across midnight belongs to the day on which it starts.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import islice

Parameters = dict[str, int]
DAY = timedelta(days=1)
LAST_DAY = date(2060, 1, 1)


def parameters(script: str) -> list[Parameters]:
    """The parameters of each call of sp_add_jobschedule and sp_add_schedule, those with names."""
    calls = re.findall(r"sp_add_(?:job)?schedule\b(.*?)(?=\bEXEC\b|\bIF\b|\bGO\b|\Z)", script, re.DOTALL)
    return [{name: int(value) for name, value in re.findall(r"@(\w+)\s*=\s*(\d+)", call)} for call in calls]


def next_runs(schedule: Parameters, after: datetime, count: int) -> list[datetime]:
    """The first runs later than ``after``, in the server's local time."""
    return list(islice((run for run in runs(schedule, after) if run > after), count))


def runs(schedule: Parameters, after: datetime) -> Iterator[datetime]:
    start = as_date(schedule["active_start_date"])
    end = min(LAST_DAY, as_date(schedule["active_end_date"]))
    if schedule["freq_type"] == 1:
        yield datetime.combine(start, datetime.min.time()) + seconds(schedule["active_start_time"])
        return
    day = max(start, after.date() - DAY)
    while day <= end:
        if is_day(schedule, day, start):
            for offset in times(schedule):
                run = datetime.combine(day, datetime.min.time()) + offset
                if run.date() <= end:
                    yield run
        day += DAY


def is_day(schedule: Parameters, day: date, start: date) -> bool:
    interval, factor = schedule["freq_interval"], schedule["freq_recurrence_factor"] or 1
    months = (day.year * 12 + day.month) - (start.year * 12 + start.month)
    match schedule["freq_type"]:
        case 4:
            return (day - start).days % interval == 0
        case 8:
            weeks = (sunday(day) - sunday(start)).days // 7
            bits = {1: 7, 2: 1, 4: 2, 8: 3, 16: 4, 32: 5, 64: 6}  # to isoweekday
            return weeks % factor == 0 and any(interval & bit and day.isoweekday() == iso for bit, iso in bits.items())
        case 16:
            return months % factor == 0 and day.day == interval
        case 32:
            return months % factor == 0 and day == relative_day(day, interval, schedule["freq_relative_interval"])
        case other:
            raise AssertionError(f"freq_type {other} has no days")


def relative_day(day: date, kind: int, position: int) -> date | None:
    first = day.replace(day=1)
    month = [first + DAY * number for number in range(31) if (first + DAY * number).month == day.month]
    tests = {8: range(7), 9: range(5), 10: (5, 6)}
    wanted = tests.get(kind, ((kind - 2) % 7,))  # 1 is Sunday; weekday() has Monday 0
    same = [one for one in month if one.weekday() in wanted]
    index = {1: 0, 2: 1, 4: 2, 8: 3, 16: -1}[position]
    return same[index] if index < len(same) else None


def times(schedule: Parameters) -> Iterator[timedelta]:
    start, end = seconds(schedule["active_start_time"]), seconds(schedule["active_end_time"])
    if schedule["freq_subday_type"] == 1:
        yield start
        return
    unit = {2: timedelta(seconds=1), 4: timedelta(minutes=1), 8: timedelta(hours=1)}[schedule["freq_subday_type"]]
    if end < start:
        end += DAY
    while start <= end:
        yield start
        start += schedule["freq_subday_interval"] * unit


def sunday(day: date) -> date:
    while day.isoweekday() != 7:
        day -= DAY
    return day


def as_date(number: int) -> date:
    text = str(number)
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def seconds(clock: int) -> timedelta:
    text = f"{clock:06}"
    return timedelta(hours=int(text[:2]), minutes=int(text[2:4]), seconds=int(text[4:]))
