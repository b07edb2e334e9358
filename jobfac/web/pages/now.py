"""`/`: what needs attention now."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.states import WAITING, WorkerState
from jobfac.store import overview
from jobfac.store.history import waiting
from jobfac.views.holds import HoldView
from jobfac.views.jobs import OverdueView
from jobfac.views.overview import DueSchedule, RunLine
from jobfac.views.runs import RunRow
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

FAILURES, RUNNING, QUEUE = 20, 50, 15
"""The maximum number of rows in each list."""

LATE = timedelta(seconds=60)
SOON = timedelta(hours=1)


class Situation(NamedTuple):
    """What the page shows."""

    failures: list[RunLine]
    open: int
    holds: list[HoldView]
    more_holds: int
    overdue: list[OverdueView]
    running: list[RunLine]
    slots: int
    busy: int
    late: list[DueSchedule]
    due: list[DueSchedule]
    queue: list[RunRow]
    waits: dict[int, str]


def now(visit: Visit) -> Response:
    """Show failures, late schedules, running and waiting runs, and what is due soon."""
    categories = visit.caller.categories

    def read(conn: sa.Connection) -> Situation:
        seen = overview.read(conn, categories)
        queue = waiting.queue(conn, QUEUE, categories)
        waits = waiting.reasons(conn, [run.id for run in queue if run.state in WAITING], categories)
        late, due = _due(seen.due, seen.now)
        active = [one for one in seen.workers if one.state == WorkerState.ACTIVE]
        return Situation(
            seen.failures[:FAILURES],
            len(seen.failures),
            seen.holds,
            seen.more_holds,
            seen.overdue,
            seen.running[:RUNNING],
            sum(one.slots for one in active),
            sum(one.busy for one in active),
            late,
            due,
            queue,
            waits,
        )

    numbers, found = visit.together(read)
    return visit.render("now.html", active="now", counts=numbers, most=overview.FAILED, **found._asdict())


def _due(due: Sequence[DueSchedule], moment: datetime) -> tuple[list[DueSchedule], list[DueSchedule]]:
    """Return the schedules whose time has passed without a run, and those of the next hour."""
    late = [one for one in due if one.fire_at < moment - LATE]
    return late, [one for one in due if moment - LATE <= one.fire_at < moment + SOON]


PAGES: tuple[Page, ...] = (get("/", now),)
