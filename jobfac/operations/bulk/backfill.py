"""Start runs for due times that have passed."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import InDoubt, Interrupted, NotFound, Refused, Unreachable, so_far
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.states import Role
from jobfac.store import audit, jobs
from jobfac.store.schedules import backfilling
from jobfac.store.schedules.backfilling import DueTime, Period
from jobfac.views.results.backfill import Backfill, BackfillResult, BackfillView

TOGETHER = 100
"""The maximum number of runs that one transaction starts."""

MOST = 1000
"""The maximum number of due times in one call."""


EARLIEST = 1970
"""The year in which a period may begin at the earliest."""


class BackfillRequest(NamedTuple):
    """What to start.

    Attributes:
        name: the name of one schedule; None: all schedules of the job.
        since: the first due time.
        until: the end; due times before it count, and none that has not passed.
        at_most: how many of the runs may run at a time.
        priority: of the runs; None: 100 below that of the job.
    """

    job: str
    since: datetime
    until: datetime
    name: str | None = None
    at_most: int = 1
    priority: int | None = None


def backfill(db: Database, by: Caller, request: BackfillRequest, *, dry_run: bool = False) -> Backfill:
    """Start a run for each due time of a period that has none, at most ``MOST`` due times in one call.

    May be repeated, and so continued: a due time that has a run, by this operation or by a scheduler, gets no other.

    Raises:
        NotFound: there is no such job or schedule, or the caller may not see it.
        Refused: the period is empty or begins before ``EARLIEST``, or the job does not allow the starts (``on_demand:
            false``: only to admins).
    """
    if request.since >= request.until:
        raise Refused("The period is empty: its end must be later than its beginning.")
    if request.since.year < EARLIEST:
        raise Refused(
            f"The period begins in the year {request.since.year}; give a time in the year {EARLIEST} or later."
        )
    period = Period(request.job, request.name, request.since, request.until)

    def read(conn: sa.Connection) -> tuple[list[DueTime], datetime | None]:
        if not visible_job(conn, by, request.job).definition.on_demand and not by.role.allows(Role.ADMIN):
            raise Refused(
                f"Job '{request.job}' may not be started by hand: its definition says on_demand: false. "
                "An admin may start what was missed."
            )
        return backfilling.find(conn, period, MOST + 1), jobs.defined_at(conn, request.job)

    times, defined_at = db.query(read, retry_for=by.retry_for)
    rest = times[MOST].due_at if len(times) > MOST else None
    # A due time that several schedules have stays in one call, so that the next one begins after it.
    times = [one for one in times if rest is None or one.due_at < rest]
    if dry_run:
        return Backfill([_view(one, BackfillResult.CHOSEN) for one in times], rest, defined_at)
    lines = [_view(one, BackfillResult.EXISTS) for one in times if one.run is not None]
    missing = [one for one in times if one.run is None]
    for first in range(0, len(missing), TOGETHER):
        if first:
            time.sleep(db.dialect.pause_between_writes)
        try:
            started = transact(db, by, _insert(by, request, missing[first : first + TOGETHER]))
        except (Unreachable, Refused) as error:
            if not first and not isinstance(error, InDoubt):
                raise
            then = "the same request starts the others."
            raise error.with_more(so_far(first, len(missing), error) + then) from error
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"Interrupted: {so_far(first, len(missing), error)}the same command starts the others."
            ) from None
        lines += [_view(one, BackfillResult.STARTED) for one in started]
    return Backfill(sorted(lines), rest, defined_at)


def _insert(by: Caller, request: BackfillRequest, times: Sequence[DueTime]) -> Callable[[sa.Connection], list[DueTime]]:
    def work(conn: sa.Connection) -> list[DueTime]:
        job = visible_job(conn, by, request.job).definition
        started = backfilling.insert(conn, job, times, request.at_most, request.priority, by.name)
        gone = next((one for one in started if one.run is None), None)
        if gone is not None:
            raise NotFound(f"The schedule '{gone.schedule.name}' of job '{request.job}' was removed; try again.")
        span = f"{times[0].due_at.isoformat()} to {times[-1].due_at.isoformat()} ({len(times)})"
        audit.note(conn, by.name, "backfill", request.job, after=span)
        return started

    return work


def _view(one: DueTime, result: BackfillResult) -> BackfillView:
    result = BackfillResult.EXISTS if one.run is not None and result is BackfillResult.CHOSEN else result
    local = one.due_at.astimezone(one.schedule.rule.zone)
    return BackfillView(one.due_at, one.schedule.name, local, result, one.run)
