"""`/`: what needs attention now."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.states import WAITING
from jobfac.store import overview, schedulers
from jobfac.store.history import retries, waiting
from jobfac.views.overview import DueSchedule
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

FAILURES, RUNNING, QUEUE = 20, 50, 15
"""The maximum number of rows in each list."""

LATE = timedelta(seconds=60)
SOON = timedelta(hours=1)


def now(visit: Visit) -> Response:
    """Show failures, late schedules, running and waiting runs, and what is due soon."""
    categories = visit.caller.categories

    def read(conn: sa.Connection) -> dict[str, Any]:
        seen = overview.read(conn, categories)
        queue = waiting.queue(conn, QUEUE, categories)
        waits = waiting.reasons(conn, [run.id for run in queue if run.state in WAITING], categories)
        late, due = _due(seen.due, seen.now)
        active = [one for one in seen.workers if one.takes_runs(seen.now)]
        return {
            "retried": retries.running(conn, [run.id for run in seen.failures[:FAILURES]]),
            "failures": seen.failures[:FAILURES],
            "open": len(seen.failures),
            "holds": seen.holds,
            "more_holds": seen.more_holds,
            "overdue": seen.overdue,
            "overdue_number": len(seen.overdue) + seen.more_overdue,
            "running": seen.running[:RUNNING],
            "slots": sum(one.slots for one in active),
            "busy": sum(one.busy for one in active),
            "late": late,
            "schedulers": schedulers.number_alive(conn) if late else 0,
            "due": due,
            "more_due": len(late) + len(due) >= overview.DUE,
            "queue": queue,
            "waits": waits,
        }

    numbers, found = visit.together(read)
    return visit.render("now.html", active="now", counts=numbers, most=overview.FAILED, most_due=overview.DUE, **found)


def _due(due: Sequence[DueSchedule], moment: datetime) -> tuple[list[DueSchedule], list[DueSchedule]]:
    """Return the schedules whose time has passed without a run, and those of the next hour."""
    late = [one for one in due if one.fire_at < moment - LATE]
    return late, [one for one in due if moment - LATE <= one.fire_at < moment + SOON]


PAGES: tuple[Page, ...] = (get("/", now),)
