"""Times on the command line: one way to read them for all commands, and one way to write them.

A time without an offset is local. What is written carries its offset, so that it can be copied into another command.
"""

import re
from datetime import UTC, date, datetime, timedelta

_DURATION = re.compile(r"[\d.]+[a-z]+.*")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
ONE_DAY = timedelta(days=1)
DAYS = {"today": 0, "yesterday": 1}
"""Words for days, by how many days they are before today."""

EXAMPLES = "2027-01-31T22:00:00+01:00, '2027-01-31 22:00' or 22:00"
PAST_EXAMPLES = "2h, yesterday, 2027-01-31, 22:00 or 2027-01-31T22:00:00+01:00"


def read_time(text: str, now: datetime, *, back: bool = False) -> datetime:
    """Return a time in the local zone.

    ``text`` is RFC 3339, a local time or a local day (its beginning) without an offset, or a time of day: the next one,
    with ``back`` the last one. With ``back`` it may also be a duration before ``now``, such as 2h, or a word for a day.

    Raises:
        ValueError: the text is none of these.
    """
    local = now.astimezone()
    if back and text in DAYS:
        return _midnight(local.date() - DAYS[text] * ONE_DAY)
    if back and _DURATION.fullmatch(text):
        from jobfac.definitions import read_duration  # not for every command that writes a time

        return local - timedelta(seconds=read_duration(text))
    if clock := _CLOCK.fullmatch(text):
        return _at_clock(local, int(clock[1]), int(clock[2]), back)
    try:
        # Converted to UTC first: times at the ends of the calendar fail here and not later.
        return datetime.fromisoformat(text).astimezone(UTC).astimezone()
    except (ValueError, OverflowError):
        examples = PAST_EXAMPLES if back else EXAMPLES
        raise ValueError(f"must be a time such as {examples}, not '{text}'") from None


def read_end(text: str, now: datetime) -> datetime:
    """Return the end of a period: a time as ``read_time`` reads it, but a day is meant as a whole, so its end counts.

    Raises:
        ValueError: as ``read_time``.
    """
    end = read_time(text, now, back=True)
    return _midnight(end.date() + ONE_DAY) if _is_day(text) else end


def read_day(text: str, now: datetime) -> date:
    """Return a day in UTC. A duration includes today: 30d is the first of thirty days.

    Raises:
        ValueError: as ``read_time``.
    """
    if text in DAYS:
        return now.astimezone(UTC).date() - DAYS[text] * ONE_DAY
    if _is_day(text):
        return date.fromisoformat(text)
    moment = read_time(text, now, back=True).astimezone(UTC)
    return moment.date() + ONE_DAY if _DURATION.fullmatch(text) else moment.date()


def _is_day(text: str) -> bool:
    if text in DAYS:
        return True
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day).astimezone()


def _at_clock(local: datetime, hour: int, minute: int, back: bool) -> datetime:
    """Return the next, or the last, time at which the local clocks show this time of day."""
    for days in (0, -1) if back else (0, 1):
        day = local.date() + days * ONE_DAY
        moment = datetime(day.year, day.month, day.day, hour, minute).astimezone()
        if moment <= local if back else moment > local:
            break
    return moment


def write_time(moment: datetime) -> str:
    """Return the local time in seconds, with its offset: 2027-01-31 22:00:05+01:00."""
    return moment.astimezone().isoformat(" ", "seconds")


def write_short(moment: datetime, now: datetime) -> str:
    """Return the local time for a narrow table: without its date if that is today's, without its year if it is this
    year's. The offset is always there."""
    local, today = moment.astimezone(), now.astimezone()
    offset = local.isoformat()[-6:]
    if local.date() == today.date():
        return f"{local:%H:%M:%S}{offset}"
    return f"{local:%m-%d %H:%M}{offset}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}{offset}"


def describe(moment: datetime, now: datetime) -> str:
    """Return how a time was understood: with the name of the zone and the time until then."""
    local = moment.astimezone()
    left = int((moment - now).total_seconds())
    span = timedelta(seconds=abs(left))
    return f"{local:%a} {write_time(moment)} ({local.tzname()}), {f'in {span}' if left >= 0 else f'{span} ago'}"
