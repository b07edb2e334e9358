"""Whether a job has succeeded by its expected time. Pure: the clock and the successes are arguments."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from jobfac.definitions.execution.watching import Expect
from jobfac.recurrence.due import last_due, next_due

FAR = timedelta(days=36525)
"""A time later than any expectation."""

LONGEST = timedelta(days=8)
"""The longest time between two deadlines of ``success_by``: a week, and a change of the clock."""


TICK = timedelta(milliseconds=1)
"""The time resolution of the database."""


class Success(NamedTuple):
    """A success of a job: its end, and the due time for which it stands; None: it was started by hand."""

    ended: datetime
    due: datetime | None = None


class Expectation(NamedTuple):
    """The current expectation of a job.

    Attributes:
        since: only a success that ends later than this counts.
        due_at: when it must have happened. While the job is overdue: when to check again at the latest.
        overdue_at: since when the job is known to be overdue; None: it is not.
        missed_at: the time that passed without a success; None: the job is not overdue.
    """

    since: datetime
    due_at: datetime
    overdue_at: datetime | None = None
    missed_at: datetime | None = None


class Event(NamedTuple):
    """What has changed.

    ``at``: the time that passed without a success, or the end of the success that came late. ``since``: only a success
    that ended later than this counted.
    """

    kind: Literal["overdue", "on_time_again"]
    at: datetime
    since: datetime


def begin(expect: Expect, since: datetime) -> Expectation:
    """Return what is expected of a job that is watched from ``since`` on, or that succeeded then."""
    return Expectation(since, _deadline(expect, since))


def begin_again(expect: Expect, now: datetime) -> Expectation:
    """Return what is expected of a job after the clock was set back to ``now``.

    With ``success_by`` a success since its last time counts, as it did before.
    """
    return begin(expect, now)._replace(since=_last_deadline(expect, now) or now)


def change(expect: Expect, before: Expectation, now: datetime) -> Expectation:
    """Return what is expected of a job whose definition expects something else from ``now`` on.

    A success before ``now`` counts, and a job that is overdue stays overdue: it has not succeeded meanwhile. With
    ``success_by`` those count that came after its last time. Those that the old definition has counted already count
    again only if they were for the next time and not for the last one: a time that is moved from 06:00 to 07:00 at
    06:30 demands no second success of this morning, and one that is moved back at 07:30 does so on the next morning.
    """
    since, due = before.since, _deadline(expect, now)
    if expect.every is None and before.missed_at is None:
        last = last_due(expect.schedule(), min(since, now - LONGEST), now)
        if last is not None and (since <= last or due - since < since - last):
            since = last
    return before._replace(since=since, due_at=due)


def advance(
    expect: Expect, before: Expectation, now: datetime, successes: Sequence[Success], is_enabled: bool = True
) -> tuple[Expectation, list[Event]]:
    """Return the expectation at ``now``, and the events that this causes: a delay, its end, or both.

    Of several delays since the last check it names the first one that nobody was told of, or the one that lasts.

    Args:
        successes: the latest successes, in the order of their ends.
        is_enabled: nothing is expected of a disabled job.
    """
    state = before
    if not is_enabled:
        due = state.overdue_at is not None or state.due_at <= now
        return (begin(expect, now) if due else state), []
    ended = [one for one in successes if one.ended <= now]  # others ended while the clock was ahead
    events: list[Event] = []
    while True:
        if state.missed_at is not None:
            success = next((one for one in ended if one.ended > state.since and counts(expect, state, one)), None)
            if success is None:
                break
            events.append(Event("on_time_again", success.ended, state.since))
            state = _recovered(expect, success.ended)
        elif state.due_at > now:
            break
        else:
            state = _passed(expect, state, now, ended)
            events += [] if state.missed_at is None else [Event("overdue", state.missed_at, state.since)]
    if state.missed_at is not None and state.due_at <= now:
        state = state._replace(due_at=_deadline(expect, now))
    return state, _to_tell(before, state, events)


def counts(expect: Expect, state: Expectation, success: Success) -> bool:
    """Whether a success is one that is expected: not that of a backfill or a retry of an older run.

    Its due time may not be earlier than the last time of ``success_by`` before the one that it should meet, or with
    ``every`` than so long before the last success: runs that waited for each other may all be late.
    """
    if success.due is None:
        return True
    if expect.every is not None:
        return success.due >= state.since - timedelta(seconds=expect.every)
    last = _last_deadline(expect, (state.missed_at or state.due_at) - TICK)
    return success.due >= (state.since if last is None else min(state.since, last))


def _to_tell(before: Expectation, state: Expectation, events: list[Event]) -> list[Event]:
    """Return the events to send: at most two, even after days without a check."""
    if before.missed_at is None:
        return events[-1:] if state.missed_at is not None else events[:2]
    return [] if state.missed_at is not None else events[:1]


def _recovered(expect: Expect, success: datetime) -> Expectation:
    """Return what is expected of a job that was overdue and then succeeded.

    With ``success_by`` a success that is closer to the next time than to the last one is in time for that one: a job
    that failed in one night, and was not run again before the next night, is not late from then on.
    """
    state, last = begin(expect, success), _last_deadline(expect, success)
    if last is not None and state.due_at - success < success - last:
        return state._replace(since=last)
    return state


def _last_deadline(expect: Expect, until: datetime) -> datetime | None:
    """Return the last time of ``success_by``, up to and including ``until``; None: there is none."""
    return None if expect.every is not None else last_due(expect.schedule(), until - LONGEST, until)


def _passed(expect: Expect, state: Expectation, now: datetime, successes: Sequence[Success]) -> Expectation:
    """Return what is expected after the time ``state.due_at`` has passed."""
    met = [one.ended for one in successes if state.since < one.ended <= state.due_at and counts(expect, state, one)]
    if not met:
        return Expectation(state.since, state.due_at, now, state.due_at)
    return begin(expect, met[-1] if expect.every is not None else state.due_at)


def _deadline(expect: Expect, after: datetime) -> datetime:
    """Return the first time later than ``after`` by which a success is expected."""
    if expect.every is not None:
        return after + timedelta(seconds=expect.every)
    return next_due(expect.schedule(), after) or after + FAR
