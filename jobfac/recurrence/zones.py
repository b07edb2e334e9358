"""Convert between wall-clock times of a zone and instants.

Many zones change their clocks twice a year: some wall-clock times do not exist on that day (a gap), some exist twice
(an overlap). Here wall-clock times are naive datetimes, and instants are aware datetimes in UTC.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)
ONE_SECOND = timedelta(seconds=1)


def local(zone: ZoneInfo, instant: datetime) -> datetime:
    """Return the zone's wall-clock time at an instant, as a naive datetime."""
    return instant.astimezone(zone).replace(tzinfo=None)


def instants(zone: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    """Return the instants at which the zone's clocks show `wall`: none in a gap, two in an overlap, otherwise one."""
    before, after = _offsets(zone, wall)
    if before == after:
        return (_utc(wall - before),)
    if before < after:
        return ()
    return (_utc(wall - before), _utc(wall - after))


def gap_end(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the end of the gap that contains `wall`: the instant at which the clocks jump."""
    before, after = _offsets(zone, wall)
    early, late = _utc(wall - after), _utc(wall - before)
    while late - early > ONE_SECOND:
        middle = early + timedelta(seconds=(late - early) // ONE_SECOND // 2)
        if middle.astimezone(zone).utcoffset() == after:
            late = middle
        else:
            early = middle
    return late


def first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the first instant at which the clocks show `wall` or, in a gap, jump over it."""
    return next(iter(instants(zone, wall)), None) or gap_end(zone, wall)


def last_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the last instant at which the clocks show `wall` or, in a gap, jump over it."""
    return next(reversed(instants(zone, wall)), None) or gap_end(zone, wall)


def day_start(zone: ZoneInfo, day: date) -> datetime:
    """Return the instant at which a local day begins; if midnight is in a gap, the instant of the jump."""
    return first_instant(zone, datetime.combine(day, time()))


@lru_cache(maxsize=4096)
def steady_midnight(zone: ZoneInfo, day: date) -> datetime | None:
    """Return the instant of the local day's midnight, or None if the clocks change on that day."""
    midnight = datetime.combine(day, time())
    offset, _ = _offsets(zone, midnight)
    _, offset_at_end = _offsets(zone, midnight + ONE_DAY)
    return _utc(midnight - offset) if offset == offset_at_end else None


def _offsets(zone: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Return the UTC offsets before and after the clock change at `wall`; they are equal unless `wall` is in one."""
    aware = wall.replace(tzinfo=zone)
    before, after = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


def _utc(naive: datetime) -> datetime:
    return naive.replace(tzinfo=UTC)
