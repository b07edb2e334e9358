"""Pause and resume schedules."""

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.store import schedules

Target = int | tuple[str, str | None]
"""A schedule's id, or a job's id with a schedule's name. Name None: every schedule of the job."""


def pause(db: Database, by: Caller, target: Target) -> list[str]:
    """Pause schedules until they are resumed. Returns the names of the newly paused schedules.

    May be repeated: a second call pauses nothing more.

    Raises:
        NotFound: there is no such schedule, or the caller may not see its job.
    """
    return _switch(db, by, target, True)


def resume(db: Database, by: Caller, target: Target) -> list[str]:
    """Resume schedules. Returns the names of the resumed schedules. Due times during the pause count as missed.

    May be repeated: a second call resumes nothing more.

    Raises:
        NotFound: there is no such schedule, or the caller may not see its job.
    """
    return _switch(db, by, target, False)


def _switch(db: Database, by: Caller, target: Target, paused: bool) -> list[str]:
    def work(conn: sa.Connection) -> list[str]:
        job, name = target if isinstance(target, tuple) else _names(conn, by, target)
        if by.categories is not None:
            visible_job(conn, by, job)
        return (schedules.pause if paused else schedules.resume)(conn, job, name, by.name)

    return transact(db, by, work)


def _names(conn: sa.Connection, by: Caller, schedule_id: int) -> tuple[str, str]:
    view = schedules.get(conn, schedule_id, by.categories)
    return view.job, view.name
