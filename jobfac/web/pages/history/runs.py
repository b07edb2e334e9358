"""`/runs`: history with every filter in the URL; retry and stop of one run. `/search` finds the page."""

from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.database.dialects import current_time
from jobfac.errors import Invalid, NotFound
from jobfac.operations import starting, stopping
from jobfac.operations.caller import visible_job, visible_run
from jobfac.states import FINAL, WAITING, RunState
from jobfac.store.api_keys import Role
from jobfac.store.history import directory, search, waiting
from jobfac.web import commands, run_filter
from jobfac.web.page import Page, act, get
from jobfac.web.pages.history import many
from jobfac.web.templating import with_query
from jobfac.web.visit import Notice, Visit, read_number

LIMIT = 40
"""Runs on one page."""


def runs(visit: Visit) -> Response:
    """List runs."""

    def read(conn: sa.Connection) -> dict[str, Any]:
        found, wanted, problem = search.Found([], None, False), search.ANY_RUN, ""
        try:
            wanted = run_filter.read(visit, current_time(conn))
            found = search.search(conn, wanted, LIMIT)
        except Invalid as error:
            problem = str(error)
        limited = visit.caller.categories
        waits = waiting.reasons(conn, [one.id for one in found.runs if one.state in WAITING], limited)
        waits |= waiting.at_steps(conn, found.runs)
        categories, names = directory.categories(conn, limited), directory.names(conn, limited)
        shown = {"found": found, "wanted": wanted, "waits": waits, "problem": problem}
        return {**shown, "categories": categories, "names": names}

    numbers, listed = visit.together(read)
    query, wanted = visit.query, listed["wanted"]
    is_narrow = any(wanted._replace(states=(), unacknowledged=False, categories=None, below=None))
    return visit.render(
        "history/runs.html", active="runs", counts=numbers, query=query, chosen=query["state"],
        groups=[(value, title) for value, title, _ in run_filter.GROUPS], line=commands.runs_list(query, wanted),
        acts=many.possible(wanted) if visit.may() and listed["found"].runs else [], is_narrow=is_narrow, **listed,
    )  # fmt: skip


def find(visit: Visit) -> Response:
    """Go to the run or job of this name, or list what contains the text."""
    text = visit.query.get("q", "")

    def place(conn: sa.Connection) -> str:
        number = read_number(text.removeprefix("#"))
        if number is not None:
            try:
                return f"/runs/{visible_run(conn, visit.caller, number).id}"
            except NotFound:
                pass
        try:
            return f"/jobs/{visible_job(conn, visit.caller, text).id}"
        except NotFound:
            pass
        if directory.matching(conn, text, visit.caller.categories):
            return "/jobs" + with_query({"q": text})
        return "/runs" + with_query({"q": text})

    return visit.go(visit.read(place) if text else "/runs")


def retry(visit: Visit) -> Response:
    """Start a run again."""
    from_failed = bool(visit.field("from_failed"))
    run_id = visit.path("run")
    key = visit.key and visit.key + "-failed" * from_failed
    row = starting.retry(visit.service.db, visit.by, run_id, from_failed=from_failed, key=key)
    text = f"Run {row.id} of {row.job} is the retry of run {run_id}: {row.state}."
    if row.state == RunState.DENIED:
        text = f"Run {row.id} of {row.job} was denied: {row.reason}."
    return visit.go(f"/runs/{row.id}", Notice(text, commands.retry(run_id, from_failed), row.state == RunState.DENIED))


def stop(visit: Visit) -> Response:
    """Stop a run."""
    run_id, now = visit.path("run"), bool(visit.field("now"))
    job = visit.read(visible_run, visit.caller, run_id).job
    stopped = stopping.stop(visit.service.db, visit.by, run_id, now=now)
    if stopped.before in FINAL:
        return visit.back(Notice(f"Run {run_id} of {job} had already ended: {stopped.before}.", bad=True))
    text = f"Run {run_id} of {job} was {stopped.before} and is now {stopped.after}."
    return visit.back(Notice(text, commands.stop(run_id, now)))


PAGES: tuple[Page, ...] = (
    get("/runs", runs),
    get("/search", find),
    act("/runs/{run:id}/retry", retry, Role.OPERATOR),
    act("/runs/{run:id}/stop", stop, Role.OPERATOR),
)
