"""Whether a job has the success that is expected of it. Pure: the clock and the last success are arguments."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from jobfac.definitions.watching import Expect
from jobfac.recurrence.due import next_due

FAR = timedelta(days=36525)
"""Later than anything that a person waits for."""


class Expectation(NamedTuple):
    """What is expected of a job at present.

    Attributes:
        since: only a success that ends later than this counts.
        due_at: when it must have happened.
        overdue_at: since when the job is overdue; None: it is not.
        missed_at: the time that passed without a success; None: the job is not overdue.
    """

    since: datetime
    due_at: datetime
    overdue_at: datetime | None = None
    missed_at: datetime | None = None


Event = Literal["overdue", "on_time_again"]


def begin(expect: Expect, now: datetime) -> Expectation:
    """Return what is expected of a job that is watched from ``now`` on."""
    return Expectation(now, _deadline(expect, now))


def advance(
    expect: Expect, before: Expectation, now: datetime, success: datetime | None, is_enabled: bool = True
) -> tuple[Expectation, Event | None]:
    """Return what is expected at ``now``, and the event that this brings.

    Args:
        success: when the last success ended; None: there is none.
        is_enabled: nothing is expected of a disabled job.
    """
    met = success is not None and success > before.since
    if before.overdue_at is not None:
        if not met and is_enabled:
            return before if before.due_at > now else before._replace(due_at=_deadline(expect, now)), None
        since = success if met and success is not None else now
        return Expectation(since, _deadline(expect, since)), "on_time_again" if met else None
    state = before
    while state.due_at <= now:
        passed = state.due_at
        if success is None or not state.since < success:
            if not is_enabled:
                return begin(expect, now), None
            return Expectation(state.since, max(_deadline(expect, now), now), now, passed), "overdue"
        if expect.every is None and success > passed:  # it came too late, but before anybody looked
            return Expectation(success, _deadline(expect, success)), None
        since = success if expect.every is not None else passed
        state = Expectation(since, _deadline(expect, since))
    return state, None


def _deadline(expect: Expect, after: datetime) -> datetime:
    """Return the first time later than ``after`` by which a success is expected."""
    if expect.every is not None:
        return after + timedelta(seconds=expect.every)
    return next_due(expect.schedule(), after) or after + FAR
