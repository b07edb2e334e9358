"""Times as people write them: one way to read them for the command line and the pages.

A time without an offset is local: of the given zone, or of the machine if none is given.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path

_DURATION = re.compile(r"[\d.]+[a-z].*")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_POSIX_ZONE = re.compile(r"(UTC|GMT|UCT|(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?\d.*)", re.DOTALL)
ONE_DAY = timedelta(days=1)
DAYS = {"today": 0, "yesterday": 1}
"""Words for days, by how many days they are before today."""

EXAMPLES = "2027-01-31T22:00:00+01:00, '2027-01-31 22:00' or 22:00"
PAST_EXAMPLES = "2h, yesterday, 2027-01-31, 22:00 or 2027-01-31T22:00:00+01:00"


class UnknownZone(ValueError):
    """A local time cannot be read, because TZ names a time zone that this machine does not know."""


def unknown_zone(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the value of TZ if the C library cannot use it, and then silently takes UTC instead; otherwise None."""
    name = (os.environ if environment is None else environment).get("TZ", "").removeprefix(":")
    if not name or _POSIX_ZONE.fullmatch(name):
        return None
    from zoneinfo import TZPATH

    known = any(Path(folder, name).is_file() for folder in ("/usr/share/zoneinfo", *TZPATH))
    return None if known else name


def read_time(text: str, now: datetime, *, back: bool = False, zone: tzinfo | None = None) -> datetime:
    """Return a time in the local zone.

    ``text`` is RFC 3339, a local time or a local day (its beginning) without an offset, or a time of day: the next one,
    with ``back`` the last one. With ``back`` it may also be a duration before ``now``, such as 2h, or a word for a day.

    Raises:
        ValueError: the text is none of these, or local while TZ names no zone (UnknownZone).
    """
    local = now.astimezone(zone)
    if back and text in DAYS:
        return _midnight(local.date() - DAYS[text] * ONE_DAY, zone)
    if back and _DURATION.fullmatch(text):
        from jobfac.definitions import read_duration  # not for every command that reads a time

        return (now - timedelta(seconds=read_duration(text))).astimezone(zone)
    if clock := _CLOCK.fullmatch(text):
        return _at_clock(local, time(int(clock[1]), int(clock[2])), back, zone)
    try:
        # Converted to UTC first: times at the ends of the calendar fail here and not later.
        return _local(datetime.fromisoformat(text), zone).astimezone(UTC).astimezone(zone)
    except UnknownZone:
        raise
    except (ValueError, OverflowError):
        examples = PAST_EXAMPLES if back else EXAMPLES
        raise ValueError(f"must be a time such as {examples}, not '{text}'") from None


def read_end(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """Return the end of a period: a time as ``read_time`` reads it, but a day is meant as a whole, so its end counts.

    Raises:
        ValueError: as ``read_time``.
    """
    end = read_time(text, now, back=True, zone=zone)
    return _midnight(end.date() + ONE_DAY, zone) if _is_day(text) else end


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


def _local(moment: datetime, zone: tzinfo | None) -> datetime:
    """Return a time that has an offset: of the zone, unless it has one.

    Raises:
        UnknownZone: it is local to this machine, and TZ names no zone.
    """
    if moment.tzinfo is None and zone is None and (name := unknown_zone()):
        raise UnknownZone(
            f"is a local time, but this machine does not know the time zone '{name}' that TZ names; correct TZ, or "
            "write the offset, as in 2027-01-31T22:00:00+01:00"
        )
    if moment.tzinfo is None and zone is None:
        shown = moment.astimezone()
        # In the gap of a clock that is set forward, Python takes the offset from behind it, so the time before it.
        return shown if shown.replace(tzinfo=None) == moment else moment.replace(fold=1).astimezone()
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _midnight(day: date, zone: tzinfo | None) -> datetime:
    return _local(datetime(day.year, day.month, day.day), zone).astimezone(zone)


def _at_clock(local: datetime, clock: time, back: bool, zone: tzinfo | None) -> datetime:
    """Return the next, or the last, time at which the local clocks show this time of day."""
    from jobfac.definitions.patterns.moments import shown_at

    _local(datetime.combine(local.date(), clock), zone)  # or TZ names no zone
    now = local.astimezone(UTC)
    found = [one for days in (-1, 0, 1) for one in shown_at(local.date() + days * ONE_DAY, clock, zone)]
    moment = max(one for one in found if one <= now) if back else min(one for one in found if one > now)
    return moment.astimezone(zone)
