"""`/jobs`: every job with the strip of its last runs."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.operations import jobs as operations
from jobfac.store.history import directory, latest
from jobfac.views.runs import PastRun
from jobfac.web.drawing import bars, strip
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Visit

LIMIT = 30
"""The number of jobs on one page."""

STATES = (
    ("", "All"), ("failing", "Last run failed"), ("enabled", "Enabled"), ("disabled", "Disabled"),
    ("paused", "Paused schedules"),
)  # fmt: skip


class Line(NamedTuple):
    """A job in the list. Times are in seconds."""

    job: directory.JobRow
    runs: list[PastRun]
    median: float | None
    last: float | None

    @property
    def strip(self) -> str:
        """The last runs as a drawing."""
        return strip.strip(self.runs)


def line(job: directory.JobRow, runs: list[PastRun]) -> Line:
    """Return the job's line of the list."""
    taken = [value for run in runs if (value := strip.seconds(run)) is not None]
    return Line(job, runs, bars.percentile(taken, 0.5), taken[-1] if taken else None)


def jobs(visit: Visit) -> Response:
    """List jobs."""
    query = visit.query
    wanted = directory.Filter(
        text=query.get("q"),
        category=query.get("category"),
        state=query.get("state"),
        categories=visit.caller.categories,
        after=query.get("after"),
    )

    def read(conn: sa.Connection) -> tuple[list[Line], Sequence[str], bool]:
        found = directory.find(conn, wanted, LIMIT + 1)
        page = found[:LIMIT]
        runs = latest.of_jobs(conn, [job.id for job in page], strip.RUNS)
        lines = [line(job, runs.get(job.id, [])) for job in page]
        return lines, directory.categories(conn, visit.caller.categories), len(found) > LIMIT

    numbers, (lines, categories, more) = visit.together(read)
    return visit.render(
        "jobs.html", active="jobs", counts=numbers, query=query, lines=lines, categories=categories, states=STATES,
        after=lines[-1].job.id if more else None,
    )  # fmt: skip


def enable(visit: Visit) -> Response:
    """Allow starts of a job."""
    job = operations.enable(visit.service.db, visit.by, visit.path("job")).id
    return visit.back(Notice(f"Job {job} may start again.", f"jobfac jobs enable {job}"), f"/jobs/{job}")


def disable(visit: Visit) -> Response:
    """Forbid starts of a job."""
    job = operations.disable(visit.service.db, visit.by, visit.path("job")).id
    text = f"Job {job} takes no more starts; its runs that wait or run continue."
    return visit.back(Notice(text, f"jobfac jobs disable {job}"), f"/jobs/{job}")


PAGES: tuple[Page, ...] = (
    get("/jobs", jobs),
    act("/jobs/{job}/enable", enable),
    act("/jobs/{job}/disable", disable),
)
