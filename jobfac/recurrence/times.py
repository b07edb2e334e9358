"""The times of day of a rule, and their behaviour when the clocks change.

Europe/Berlin, where clocks go from 02:00 to 03:00 on 2027-03-28 and from 03:00 back to 02:00 on 2027-10-31:

    rule                     on 2027-03-28               on 2027-10-31
    -----------------------  --------------------------  -----------------------------------------------
    02:30, gap: shift        03:00+02:00
    02:30, gap: skip         not at all
    02:00 and 02:30, shift   03:00+02:00, once
    02:30, overlap: first                                02:30+02:00
    02:30, overlap: second                               02:30+01:00
    02:30, overlap: both                                 02:30+02:00 and 02:30+01:00
    30 past every hour       01:30+01:00, 03:30+02:00    01:30+02:00, 02:30+02:00, 02:30+01:00, 03:30+01:00
    every 90m from midnight  00:00, 01:30, 04:00+02:00   00:00, 01:30, 02:00+01:00, 03:30+01:00

The first six are fixed wall-clock times. A time that the clocks skip fires at the instant of the jump, as in Debian's
cron. The last two follow real time: 60 and 90 minutes pass between two firings.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from jobfac.recurrence.zones import ONE_DAY, day_start, first_instant, gap_end, instants, local, steady_midnight

SECONDS_PER_DAY = 86_400


class Moment(NamedTuple):
    """A time of a rule: its instant (UTC), its wall-clock time, whether it fires, and why it does not fire or was
    moved."""

    instant: datetime
    wall: datetime
    fires: bool = True
    reason: str | None = None


class TimesOfDay(Protocol):
    """A rule for the times of one day. It is compared by identity, so that its results can be cached."""

    def __hash__(self) -> int: ...

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        """Return all moments of a local day."""

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        """Return the seconds after `midnight` (UTC) at which a day without a clock change fires, in ascending order."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """Wall-clock times as ascending seconds of the day, with the policies for gaps and overlaps."""

    seconds: tuple[int, ...]
    gap: str
    overlap: str

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        return self.seconds

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        for wall in _walls(day, self.seconds):
            found = instants(zone, wall)
            if len(found) == 1:
                yield Moment(found[0], wall)
            elif found:
                yield from self._repeated(wall, *found)
            else:
                moved = self.gap == "shift"
                reason = f"{wall:%H:%M} does not exist on this day" + ("; moved to when the clocks jump" * moved)
                yield Moment(gap_end(zone, wall), wall, moved, reason)

    def _repeated(self, wall: datetime, first: datetime, second: datetime) -> Iterable[Moment]:
        reason = f"{wall:%H:%M} comes twice on this day; the {self.overlap} one is taken"
        for name, instant in ("first", first), ("second", second):
            fires = self.overlap in (name, "both")
            yield Moment(instant, wall, fires, None if fires else reason)


@dataclass(frozen=True, eq=False)
class Wildcard:
    """Wall-clock times that fire whenever the clocks show them: not at all in a gap, twice in an overlap."""

    seconds: tuple[int, ...]

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        return self.seconds

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        return (Moment(instant, wall) for wall in _walls(day, self.seconds) for instant in instants(zone, wall))


class Span(NamedTuple):
    """Seconds of the day from `start` to before `end`; across midnight if `end` is not after `start`."""

    start: int
    end: int

    def includes(self, second: int) -> bool:
        if self.start < self.end:
            return self.start <= second < self.end
        return second >= self.start or second < self.end


@dataclass(frozen=True, eq=False)
class FromMidnight:
    """Every `step` seconds of real time, counted from each local midnight, if the wall-clock time is in one of the
    spans (no spans: all day)."""

    step: int
    spans: tuple[Span, ...] = ()

    @cached_property
    def _seconds(self) -> Sequence[int]:
        seconds = range(0, SECONDS_PER_DAY, self.step)
        return narrowed(seconds, self.spans) if self.spans else seconds

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        return self._seconds

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        for moment in Running(self.step, day_start(zone, day)).moments(zone, day):
            if not self.spans or narrowed([second_of_day(moment.wall.time())], self.spans):
                yield moment


@dataclass(frozen=True, eq=False)
class FromSpans:
    """Every `step` seconds of real time counted from the start of each span, until the span ends: the part of a span
    up to midnight or, with `overnight`, the part after the midnight that a span of the day before crosses."""

    step: int
    spans: tuple[Span, ...]
    overnight: bool = False

    @cached_property
    def _seconds(self) -> Sequence[int]:
        found: set[int] = set()
        for start, end in self.spans:
            if not self.overnight:
                found.update(range(start, end if start < end else SECONDS_PER_DAY, self.step))
            elif start >= end:
                found.update(range((start - SECONDS_PER_DAY) % self.step, end, self.step))
        return tuple(sorted(found))

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        return self._seconds

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        found: set[Moment] = set()
        for start, end in self.spans:
            if self.overnight and start < end:
                continue
            until = end if self.overnight or start < end else SECONDS_PER_DAY
            began = datetime.combine(day - ONE_DAY * self.overnight, time()) + timedelta(seconds=start)
            for moment in Running(self.step, first_instant(zone, began)).moments(zone, day):
                second = second_of_day(moment.wall.time())
                if second < until and (self.overnight or second >= start):
                    found.add(moment)
        return sorted(found)


@dataclass(frozen=True, eq=False)
class Running:
    """Every `step` seconds of real time, before and after the instant `anchor` (UTC)."""

    step: int
    anchor: datetime

    def seconds_of(self, midnight: datetime) -> Sequence[int]:
        return range(self._to_first(midnight), SECONDS_PER_DAY, self.step)

    def moments(self, zone: ZoneInfo, day: date) -> Iterable[Moment]:
        start, end = day_start(zone, day), day_start(zone, day + ONE_DAY)
        for second in range(self._to_first(start), int((end - start).total_seconds()), self.step):
            instant = start + timedelta(seconds=second)
            yield Moment(instant, local(zone, instant))

    def _to_first(self, start: datetime) -> int:
        return int((self.anchor - start).total_seconds()) % self.step


def _midnight(times: TimesOfDay, zone: ZoneInfo, day: date) -> datetime | None:
    """Return the instant after which `seconds_of` counts, or None if a clock change counts on that day."""
    if isinstance(times, FromSpans) and times.overnight and steady_midnight(zone, day - ONE_DAY) is None:
        return None  # the count began on a day on which the clocks change
    return steady_midnight(zone, day)


def moments_after(times: TimesOfDay, zone: ZoneInfo, day: date, after: datetime) -> Iterator[Moment]:
    """Yield the moments of a local day that are later than `after`; without a clock change one by one and in order."""
    midnight = _midnight(times, zone, day)
    if midnight is None:
        yield from (moment for moment in times.moments(zone, day) if moment.instant > after)
        return
    seconds, wall = times.seconds_of(midnight), datetime.combine(day, time())
    for index in range(bisect_right(seconds, (after - midnight).total_seconds()), len(seconds)):
        second = timedelta(seconds=seconds[index])
        yield Moment(midnight + second, wall + second)


def first_after(times: TimesOfDay, zone: ZoneInfo, day: date, after: datetime) -> datetime | None:
    """Return the first firing instant of the local day that is later than `after`, or None."""
    midnight = _midnight(times, zone, day)
    if midnight is None:
        found = _firing(times, zone, day)
        index = bisect_right(found, after)
        return found[index] if index < len(found) else None
    seconds = times.seconds_of(midnight)
    index = bisect_right(seconds, (after - midnight).total_seconds())
    return midnight + timedelta(seconds=seconds[index]) if index < len(seconds) else None


@lru_cache(maxsize=1024)
def _firing(times: TimesOfDay, zone: ZoneInfo, day: date) -> tuple[datetime, ...]:
    # Cached, because on the day of a clock change every dense schedule needs it every minute.
    return tuple(sorted(moment.instant for moment in times.moments(zone, day) if moment.fires))


def narrowed(seconds: Iterable[int], spans: tuple[Span, ...]) -> tuple[int, ...]:
    """Return the seconds of the day that are in one of the spans."""
    return tuple(second for second in seconds if any(span.includes(second) for span in spans))


def second_of_day(clock: time) -> int:
    return clock.hour * 3600 + clock.minute * 60 + clock.second


def _walls(day: date, seconds: Sequence[int]) -> Iterable[datetime]:
    midnight = datetime.combine(day, time())
    return (midnight + timedelta(seconds=second) for second in seconds)
