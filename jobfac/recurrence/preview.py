"""Explain the due times of a schedule: every time of its rule, whether it fires, and why or why not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from jobfac.definitions.patterns.moments import Blackout
from jobfac.definitions.schedule import Schedule
from jobfac.recurrence.blackout import FOREVER, blackout_end, blackout_start
from jobfac.recurrence.due import TICK
from jobfac.recurrence.rule import END, Rule, rule_of
from jobfac.recurrence.times import Moment


class Candidate(NamedTuple):
    """A possible due time of a schedule.

    Attributes:
        due_at: the instant in UTC.
        local: the same instant in the schedule's zone.
        fires: whether the schedule is due then.
        reason: why it does not fire, or why it differs from the time that the rule specifies.
    """

    due_at: datetime
    local: datetime
    fires: bool
    reason: str | None


def explain(schedule: Schedule, start: datetime, count: int, *, only_due: bool = False) -> Iterator[Candidate]:
    """Yield the first `count` candidates later than `start` (aware), in order. Those that fire are the due times.

    Includes only the first of the times before the schedule's start, and only the first of those after its end. Does
    not search further than 50 years from `start`. ``only_due``: leave out the others in a blackout or on a holiday,
    which may be millions.
    """
    rule = rule_of(schedule)
    if start >= END:
        return iter(())
    after = start.astimezone(UTC)
    candidates = (
        Candidate(moment.instant, moment.instant.astimezone(rule.zone), moment.fires, moment.reason)
        for moment in _held_back(schedule, rule, after, only_due)
        if moment.instant > after
    )
    return islice(candidates, count)


def _bounded(schedule: Schedule, rule: Rule, after: datetime, only_due: bool) -> Iterator[Moment]:
    """Yield the rule's moments. Each instant fires once, and none outside the schedule's start and end."""
    starts, ends = schedule.first_instant, schedule.last_instant
    if starts and after < starts:
        first = next(rule.moments(after), None)
        if first and first.instant < starts:
            yield first._replace(fires=False, reason=f"before the schedule starts, {_shown(starts, rule.zone)}")
        after = starts - TICK
    fired = None
    for moment in rule.moments(after, only_due):
        if ends and moment.instant > ends:
            yield moment._replace(fires=False, reason=f"after the schedule ends, {_shown(ends, rule.zone)}")
            return
        if moment.fires and moment.instant == fired:
            yield moment._replace(
                fires=False, reason=f"{moment.wall:%H:%M} falls on the same instant as the one before"
            )
        else:
            yield moment
            fired = moment.instant if moment.fires else fired


def _held_back(schedule: Schedule, rule: Rule, after: datetime, only_due: bool) -> Iterator[Moment]:
    """Yield the moments. Those in a blackout do not fire; a single moment at its end fires in their place."""
    windows: tuple[Blackout, ...] = schedule.blackout
    late = _held_before(schedule, rule, after)
    moments = _bounded(schedule, rule, after, only_due)
    while (moment := next(moments, None)) is not None:
        if late and moment.instant >= late.instant:
            yield late
            if moment.fires and moment.instant == late.instant:
                moment = moment._replace(fires=False, reason="one that was held back is due at the same instant")
            late = None
        end = blackout_end(windows, rule.zone, moment.instant) if moment.fires and windows else None
        if end is None:
            yield moment
        elif end == FOREVER:
            yield moment._replace(fires=False, reason="held back by a blackout that never ends")
            return
        else:
            yield moment._replace(fires=False, reason=f"held back by a blackout until {_shown(end, rule.zone)}")
            late = late or _late(schedule, rule.zone, moment, end)
            if only_due:
                moments = _bounded(schedule, rule, end - TICK, only_due)
    if late:
        yield late


def _held_before(schedule: Schedule, rule: Rule, after: datetime) -> Moment | None:
    """Return the moment that fires at the end of the blackout in which `after` lies, if it held one back by then."""
    end = blackout_end(schedule.blackout, rule.zone, after)
    since = blackout_start(schedule.blackout, rule.zone, after)
    if end is None or end == FOREVER or since is None:
        return None
    held = next((one for one in _bounded(schedule, rule, since - TICK, only_due=True) if one.fires), None)
    return _late(schedule, rule.zone, held, end) if held and held.instant <= after else None


def _late(schedule: Schedule, zone: ZoneInfo, moment: Moment, end: datetime) -> Moment:
    ends = schedule.last_instant
    if ends and end > ends:
        return Moment(end, moment.wall, False, f"after the schedule ends, {_shown(ends, zone)}")
    return Moment(end, moment.wall, True, f"held back by a blackout since {_shown(moment.instant, zone)}")


def _shown(instant: datetime, zone: ZoneInfo) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"
