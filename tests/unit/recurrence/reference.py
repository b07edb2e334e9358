"""A slow implementation of the same rules, minute by minute, without code of jobfac.recurrence.

It supports only rules of whole minutes, and of cron only numbers, names, lists, ranges and steps.
"""

from calendar import monthrange
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from jobfac.definitions.schedule import Schedule

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MARGIN = 7 * DAY
"""Longer than any blackout that ends, and than any break of holidays."""
CLOCKS = [time(*divmod(minute, 60)) for minute in range(1440)]
FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
MONTHS = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
NAMES = {name: number for names in (WEEKDAYS, MONTHS) for number, name in enumerate(names)}


def due_in(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """Return the due times later than `after`, up to and including `until`, by a check of every minute."""
    zone = ZoneInfo(schedule.timezone)
    if schedule.at:
        named = [schedule.at.astimezone(UTC)]
    elif schedule.times and schedule.times.count_from == "span":
        named = span_times(schedule, zone, after, until)
    elif schedule.every or (schedule.times and schedule.times.every):
        named = interval_times(schedule, zone, after, until)
    else:
        named = clock_times(schedule, zone, after, until)
    starts, ends = schedule.first_instant, schedule.last_instant
    free = datetime.min.replace(tzinfo=UTC)
    due = set()
    for instant in sorted(named):
        if (starts and instant < starts) or (ends and instant > ends):
            continue
        free = max(free, instant)
        while free <= until and in_blackout(schedule, free.astimezone(zone)):
            free += MINUTE
        if not ends or free <= ends:
            due.add(free)
    return sorted(instant for instant in due if after < instant <= until)


def interval_times(schedule: Schedule, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Return the times of a schedule that counts real minutes. A day continues when clocks go back over midnight."""
    found = []
    seconds = schedule.every or (schedule.times.every if schedule.times else None)
    assert seconds is not None
    step = timedelta(seconds=seconds)
    for day, shown in days(zone, *days_around(after, until)):
        if runs_on(schedule, day):
            anchor = (schedule.first_instant or datetime(1970, 1, 1, tzinfo=UTC)) if schedule.every else shown[0][0]
            counted = ((instant, wall) for instant, wall in shown if (instant - anchor) % step == timedelta(0))
            found += [instant for instant, wall in counted if minute_named(schedule, wall.time(), every=True)]
    return found


def span_times(schedule: Schedule, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """The times of a schedule that counts real minutes from the start of each span of a day."""
    assert schedule.times is not None
    assert schedule.times.every is not None
    step, around = timedelta(seconds=schedule.times.every), days_around(after, until)
    shown, walls = readings(zone, *around), dict(minutes(zone, *around))
    found = []
    day = (after - MARGIN).date() + 2 * DAY
    while day < (until + MARGIN).date() - 2 * DAY:
        for start, end in schedule.times.between if runs_on(schedule, day) else ():
            wall = datetime.combine(day, start)
            while wall not in shown:
                wall += MINUTE
            instant, past_midnight, crossing = shown[wall][0], wall.date() > day, end <= start
            scanned = instant
            while (clock := walls[scanned]).date() <= day + DAY * crossing or past_midnight:
                past_midnight = past_midnight or clock.date() > day
                if clock.date() > day + DAY or (past_midnight and not crossing):
                    break
                inside = clock.time() < end if past_midnight or not crossing else True
                inside = inside and (past_midnight or clock.time() >= start)
                if inside and (scanned - instant) % step == timedelta(0):
                    found.append(scanned)
                scanned += MINUTE
        day += DAY
    return found


def clock_times(schedule: Schedule, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Return the times of a schedule that follows the wall clock."""
    shown = readings(zone, *days_around(after, until))
    named = [clock for clock in CLOCKS if minute_named(schedule, clock)]
    found = []
    day = (after - MARGIN).date() + 2 * DAY
    while day < (until + MARGIN).date() - 2 * DAY:
        for clock in named if runs_on(schedule, day) else ():
            wall = datetime.combine(day, clock)
            instants = shown.get(wall, [])
            if is_wildcard(schedule) or len(instants) == 1:
                found += instants
            elif instants:
                found += {"first": instants[:1], "second": instants[1:], "both": instants}[schedule.overlap]
            elif schedule.gap == "shift":
                while wall not in shown:
                    wall += MINUTE
                found.append(shown[wall][0])
        day += DAY
    return found


def days_around(after: datetime, until: datetime) -> tuple[date, date]:
    """Return the first day, a Monday, and the last one to check. Few different pairs allow caching."""
    first = (after - MARGIN).date()
    return first - first.weekday() * DAY, (until + MARGIN).date()


@cache
def minutes(zone: ZoneInfo, first: date, last: date) -> list[tuple[datetime, datetime]]:
    """Yield the instants of the minutes of the UTC days, each with its wall-clock time."""
    begin, number = datetime.combine(first, time(), UTC), ((last - first).days + 1) * 1440
    instants = (begin + minute * MINUTE for minute in range(number))
    return [(instant, instant.astimezone(zone).replace(tzinfo=None, fold=0)) for instant in instants]


@cache
def days(zone: ZoneInfo, first: date, last: date) -> list[tuple[date, list[tuple[datetime, datetime]]]]:
    """Return the same by local day, without the first day, which may be incomplete in the UTC days."""
    found: list[tuple[date, list[tuple[datetime, datetime]]]] = []
    for instant, wall in minutes(zone, first, last):
        if not found or wall.date() > found[-1][0]:
            found.append((wall.date(), []))
        found[-1][1].append((instant, wall))
    return found[1:]


@cache
def readings(zone: ZoneInfo, first: date, last: date) -> dict[datetime, list[datetime]]:
    """Return by wall-clock time the instants of the minutes of the UTC days."""
    shown = defaultdict(list)
    for instant, wall in minutes(zone, first, last):
        shown[wall].append(instant)
    return dict(shown)


def is_wildcard(schedule: Schedule) -> bool:
    if schedule.cron:
        return any(field.startswith("*") for field in schedule.cron.split()[:2])
    return bool(schedule.times and not schedule.times.at and not schedule.times.hours)


def minute_named(schedule: Schedule, clock: time, every: bool = False) -> bool:
    if schedule.cron:
        minutes, hours, *_ = cron_sets(schedule.cron)
        return clock.minute in minutes and clock.hour in hours
    times = schedule.times
    if times is None:
        return True
    within = not times.between or any(
        start <= clock < end if start < end else clock >= start or clock < end for start, end in times.between
    )
    if times.at:
        return within and clock in times.at
    return within and (every or (clock.minute in (times.minutes or (0,)) and clock.hour in (times.hours or range(24))))


def runs_on(schedule: Schedule, day: date) -> bool:
    """Whether the schedule fires on the day, with holidays."""
    calendar = schedule.calendar
    if calendar is None:
        return day_named(schedule, day)
    if day_named(schedule, day) and not is_holiday(schedule, day):
        return True
    if calendar.on_holiday == "skip":
        return False
    step = DAY if calendar.on_holiday == "next" else -DAY
    for number in range(1, 10):
        other = target = day - step * number
        if day_named(schedule, other) and is_holiday(schedule, other):
            while is_holiday(schedule, target) or target.weekday() > 4:
                target += step
            if target == day:
                return True
    return False


def is_holiday(schedule: Schedule, day: date) -> bool:
    dates = schedule.calendar.dates if schedule.calendar else ()
    return any(day == own or (day.month, day.day) == own for own in dates)


def day_named(schedule: Schedule, day: date) -> bool:
    if schedule.cron:
        _, _, days, months, weekdays = cron_sets(schedule.cron)
        of_month, of_week = day.day in days, day.isoweekday() % 7 in weekdays
        both = any(field.startswith("*") for field in (schedule.cron.split()[2], schedule.cron.split()[4]))
        return day.month in months and (of_month and of_week if both else of_month or of_week)
    dates = schedule.dates
    if dates is None:
        return True
    last = monthrange(day.year, day.month)[1]
    workdays = [number for number in range(1, last + 1) if date(day.year, day.month, number).weekday() < 5]
    here = f"{day:%m/%d}"
    spans = [[f"{edge.month:02}/{edge.day:02}" for edge in span] for span in dates.between]
    return all(
        (
            not dates.days_of_week or day.isoweekday() in dates.days_of_week,
            not dates.days_of_month or day.day in [last if n == "last" else n for n in dates.days_of_month],
            not dates.on or here in [f"{month:02}/{number:02}" for month, number in dates.on],
            not spans or any(a <= here <= b if a <= b else here >= a or here <= b for a, b in spans),
            not dates.weekdays
            or ("first" in dates.weekdays and day.day == workdays[0])
            or ("last" in dates.weekdays and day.day == workdays[-1])
            or ("weekday" in dates.weekdays and day.day in workdays)
            or ("weekend" in dates.weekdays and day.day not in workdays),
            not dates.nth or any(day.day in ordinal_days(day, *entry) for entry in dates.nth),
            dates.every is None or dates.since is None or counted(day, *dates.every, dates.since),
        )
    )


def ordinal_days(day: date, number: int, kind: int | str) -> list[int]:
    """The n-th (-1: the last) day of a kind in the month, if there is one."""
    month = [date(day.year, day.month, n) for n in range(1, monthrange(day.year, day.month)[1] + 1)]
    kinds = {"day": range(1, 8), "weekday": range(1, 6), "weekend": (6, 7)}
    wanted = (kind,) if isinstance(kind, int) else kinds[kind]
    same = [one.day for one in month if one.isoweekday() in wanted]
    return same[-1:] if number == -1 else same[number - 1 : number]


def counted(day: date, number: int, unit: str, since: date) -> bool:
    """Whether the day is in one of the counted units: each is walked to, one after the other."""
    if unit == "months":
        month = since.replace(day=1)
        step = 1 if day >= month else -1
        passed = 0
        while (month.year, month.month) != (day.year, day.month):
            month = (month + 31 * DAY).replace(day=1) if step == 1 else (month - DAY).replace(day=1)
            passed += 1
        return passed % number == 0
    length = number * (1 if unit == "days" else 7)
    first = since
    while first > day:
        first -= length * DAY
    while first + length * DAY <= day:
        first += length * DAY
    return day < first + (1 if unit == "days" else 7) * DAY


def in_blackout(schedule: Schedule, wall: datetime) -> bool:
    """Whether a daily or weekly window contains the wall-clock time."""

    def position(day: object, clock: time) -> float:
        return (day if isinstance(day, int) else 0) * 1440 + clock.hour * 60 + clock.minute

    for window in schedule.blackout:
        start, end = (position(edge.day, edge.time) for edge in window)
        here = position(None if window.kind == "daily" else wall.isoweekday(), wall.time())
        if start <= here < end if start < end else here >= start or here < end:
            return True
    return False


@cache
def cron_sets(text: str) -> tuple[set[int], ...]:
    """Return the numbers that the five fields match; days of the week from 0 (Sunday) to 6."""
    fields = [cron_field(field, *limits) for field, limits in zip(text.lower().split(), FIELDS, strict=True)]
    return (*fields[:4], {number % 7 for number in fields[4]})


def cron_field(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        numbers, _, step = part.partition("/")
        first, _, last = ("*" if numbers == "*" else numbers).partition("-")
        if first == "*":
            start, end = low, high
        else:
            start = cron_number(first)
            end = cron_number(last) if last else high if step else start
        found |= set(range(start, end + 1, int(step or 1)))
    return found


def cron_number(word: str) -> int:
    return NAMES[word] if word in NAMES else int(word)
