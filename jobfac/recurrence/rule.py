"""A schedule's rule: the instants at which it fires, before blackouts are applied."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from jobfac.definitions.schedule import Calendar, Dates, Schedule, Times
from jobfac.recurrence import cron
from jobfac.recurrence.days import DayTest, day_test, every_day
from jobfac.recurrence.times import (
    Fixed,
    FromMidnight,
    FromSpans,
    Moment,
    Running,
    Span,
    TimesOfDay,
    Wildcard,
    first_after,
    moments_after,
    narrowed,
    second_of_day,
)
from jobfac.recurrence.workdays import Workdays
from jobfac.recurrence.zones import ONE_DAY, day_start, local, steady_midnight

HORIZON = 50 * 366
"""The maximum number of days to search for the next due time. The rarest rule, a February 29 on a certain day of the
week, may need 40 years."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9990, 1, 1, tzinfo=UTC)
"""The latest due time. Zones, blackouts and holidays are calculated ahead of it, and dates end with the year 9999."""


@dataclass(frozen=True)
class Rule:
    """The days and the times of day of a schedule in its zone. `only` is the day of a rule that fires once.

    `overnight` are the times after the midnight that a day's spans cross: they belong to that day and come on the next
    one.
    """

    zone: ZoneInfo
    matches: DayTest
    times: TimesOfDay
    workdays: Workdays | None = None
    only: date | None = None
    overnight: TimesOfDay | None = None

    def next_time(self, after: datetime) -> datetime | None:
        """Return the first instant (UTC) later than `after`, or None if there is none within the horizon."""
        found = self._next_of_day(after)
        if self.overnight is None:
            return found
        later = self._next_overnight(self.overnight, after)
        return min((one for one in (found, later) if one is not None), default=None)

    def _next_overnight(self, times: TimesOfDay, after: datetime) -> datetime | None:
        for day in self._firing_days(local(self.zone, after).date() - 2 * ONE_DAY):
            found = first_after(times, self.zone, day + ONE_DAY, after)
            if found is not None:
                return found
        return None

    def _next_of_day(self, after: datetime) -> datetime | None:
        # Begin one day earlier: clocks that go back over midnight show the previous day again.
        for day in self._firing_days(local(self.zone, after).date() - ONE_DAY):
            found = first_after(self.times, self.zone, day, after)
            if found is None:
                continue
            if steady_midnight(self.zone, day) is None and self._fires_on(day + ONE_DAY):
                # When the clocks go back over midnight, the times of the two days interleave.
                tomorrow = first_after(self.times, self.zone, day + ONE_DAY, after)
                return min(found, tomorrow or found)
            return found
        return None

    def moments(self, after: datetime, only_firing_days: bool = False) -> Iterator[Moment]:
        """Yield all moments later than `after` in order, including those that do not fire, with their reasons.

        ``only_firing_days``: leave out those of days that do not fire.
        """
        waiting: list[Moment] = []
        chosen = self._with_moments if only_firing_days else self._days
        for day in chosen(local(self.zone, after).date() - ONE_DAY):
            if waiting:
                start = day_start(self.zone, day)
                ready = [moment for moment in waiting if moment.instant < start]
                yield from ready
                waiting = waiting[len(ready) :]
            if not waiting and self.overnight is None and steady_midnight(self.zone, day) is not None:
                yield from self._moments_of(day, self.times, day, after)  # in order; a dense day is not read to its end
                continue
            found: list[Moment] = []
            if not only_firing_days or self._fires_on(day):
                found += self._moments_of(day, self.times, day, after)
            if self.overnight is not None and (not only_firing_days or self._fires_on(day - ONE_DAY)):
                found += self._moments_of(day - ONE_DAY, self.overnight, day, after)
            if found:
                waiting = sorted(waiting + found)
        yield from waiting

    def _days(self, first: date) -> Iterator[date]:
        if self.only is None:
            days = min(HORIZON, (END.date() - first).days)
            return (first + timedelta(days=number) for number in range(days))
        moved = self.workdays.substitute(self.only) if self.workdays and self.workdays.holiday(self.only) else None
        return iter(sorted(day for day in {self.only, moved} if day is not None and day >= first))

    def _firing_days(self, first: date) -> Iterator[date]:
        return filter(self.matches if self.workdays is None else self._fires_on, self._days(first))

    def _with_moments(self, first: date) -> Iterator[date]:
        """Yield the days on which a time of a day that fires comes."""
        if self.overnight is None:
            return self._firing_days(first)
        return (day for day in self._days(first) if self._fires_on(day) or self._fires_on(day - ONE_DAY))

    def _fires_on(self, day: date) -> bool:
        if self.workdays is None:
            return self.matches(day)
        if self.matches(day) and self.workdays.holiday(day) is None:
            return True
        return any(map(self.matches, self.workdays.replaced(day)))

    def _moments_of(self, day: date, times: TimesOfDay, shown: date, after: datetime) -> Iterator[Moment]:
        """Yield the moments of a day that come on the local day `shown` later than `after`, including those that do not
        fire."""
        if not self.workdays:
            if self.matches(day):
                yield from moments_after(times, self.zone, shown, after)
            return
        holiday = self.workdays.holiday(day)
        if self.matches(day) and holiday:
            moved = self.workdays.substitute(day)
            reason = holiday + (f"; moved to {moved}" if moved else "")
            for moment in moments_after(times, self.zone, shown, after):
                yield moment._replace(fires=False, reason=reason)
        elif self.matches(day):
            yield from moments_after(times, self.zone, shown, after)
        elif origin := next(filter(self.matches, self.workdays.replaced(day)), None):
            reason = f"moved from {origin}, {self.workdays.holiday(origin)}"
            for moment in moments_after(times, self.zone, shown, after):
                yield moment._replace(reason=moment.reason or reason)


def rule_of(schedule: Schedule) -> Rule:
    """Return the rule of a schedule. Rules are cached, so schedules with equal rules share one object."""
    starts = schedule.first_instant if schedule.every else None
    return _rule(
        schedule.cron_fields, schedule.every, schedule.at, schedule.dates, schedule.times, schedule.timezone,
        starts, schedule.gap, schedule.overlap, schedule.calendar,
    )  # fmt: skip


@lru_cache(maxsize=16_384)
def _rule(
    cron_fields: str | None,
    every: float | None,
    at: datetime | None,
    dates: Dates | None,
    times: Times | None,
    timezone: str,
    starts: datetime | None,
    gap: str,
    overlap: str,
    calendar: Calendar | None,
) -> Rule:
    zone = ZoneInfo(timezone)
    workdays = Workdays(calendar) if calendar else None
    if cron_fields is not None:
        parsed = cron.parse(cron_fields)
        clock = Wildcard(parsed.seconds) if parsed.wildcard else Fixed(parsed.seconds, gap, overlap)
        return Rule(zone, parsed.matches, clock, workdays)
    if every is not None:
        return Rule(zone, every_day, Running(int(every), starts or EPOCH), workdays)
    if at is not None:
        return _once(zone, at, gap, overlap, workdays)
    assert times is not None
    return Rule(zone, day_test(dates), times_of_day(times, gap, overlap), workdays, overnight=overnight(times))


def overnight(times: Times) -> TimesOfDay | None:
    """Return the times after midnight that belong to the day before, as ``Rule`` has them; None: there are none."""
    return FromSpans(int(times.every or 0), _spans(times), overnight=True) if _crosses_midnight(times) else None


def times_of_day(times: Times, gap: str, overlap: str) -> TimesOfDay:
    """Return the rule for the times of day that `times` defines."""
    spans = _spans(times)
    if times.every is not None and times.count_from == "span":
        return FromSpans(int(times.every), spans)
    if times.every is not None:
        return FromMidnight(int(times.every), spans)
    if times.at:
        seconds = {second_of_day(clock) for clock in times.at}
    else:
        hours, minutes = times.hours or range(24), times.minutes or (0,)
        seconds = {hour * 3600 + minute * 60 for hour in hours for minute in minutes}
    chosen = tuple(sorted(seconds))
    if spans:
        chosen = narrowed(chosen, spans)
    if times.at or times.hours:
        return Fixed(chosen, gap, overlap)
    return Wildcard(chosen)


def _spans(times: Times) -> tuple[Span, ...]:
    return tuple(Span(second_of_day(start), second_of_day(end)) for start, end in times.between)


def _crosses_midnight(times: Times) -> bool:
    """Whether times that are counted from their spans go on after midnight."""
    return times.count_from == "span" and any(end <= start and end > 0 for start, end in _spans(times))


def _once(zone: ZoneInfo, at: datetime, gap: str, overlap: str, workdays: Workdays | None) -> Rule:
    if at.tzinfo:
        wall = at.astimezone(zone)
        which = "second" if wall.fold else "first"
    else:
        wall = at
        which = "first" if overlap == "both" else overlap
    return Rule(
        zone, lambda day: day == wall.date(), Fixed((second_of_day(wall.time()),), gap, which), workdays, wall.date()
    )
