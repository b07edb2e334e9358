"""`/runs`: history with every filter in the URL, and what is done with many runs at once. `/search` finds the page."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.definitions.values import read_duration
from jobfac.errors import Invalid, JobfacError, NotFound
from jobfac.operations import notes, starting, stopping
from jobfac.operations.caller import visible_job, visible_run
from jobfac.states import FAILED, FINAL, HELD, WAITING, RunState
from jobfac.store.api_keys import Role
from jobfac.store.history import counts, directory, search, waiting
from jobfac.web import commands
from jobfac.web.page import Page, act, get
from jobfac.web.templating import with_query
from jobfac.web.visit import Notice, Visit, read_number

LIMIT = 50
"""Runs on one page."""

SELECTED = 200
"""Runs that one act may concern."""

GROUPS = (
    ("", "All", ()),
    ("failed", "Failed", tuple(sorted(FAILED))),
    ("running", "Running", tuple(sorted(HELD))),
    ("waiting", "Waiting", tuple(sorted(WAITING))),
    ("succeeded", "Succeeded", (RunState.SUCCEEDED,)),
    ("mixed", "Mixed", (RunState.MIXED,)),
    ("stopped", "Stopped", (RunState.STOPPED,)),
    ("denied", "Denied", (RunState.DENIED,)),
)
"""What can be chosen: the word in the URL, its title, the states that it stands for."""


def states_of(word: str) -> tuple[RunState, ...]:
    """Return the states that a word of the URL stands for: a group, or a state.

    Raises:
        Invalid: it is neither.
    """
    for value, _, states in GROUPS:
        if value == word:
            return states
    if word in list(RunState):
        return (RunState(word),)
    raise Invalid(f"There is no state '{word}'.")


def read_moment(visit: Visit, name: str, now: datetime) -> datetime | None:
    """Return the time of a filter: so long ago (2h), or a local time.

    Raises:
        Invalid: it is neither.
    """
    text = visit.query.get(name, "")
    if not text:
        return None
    if re.fullmatch(r"([0-9.]+(ms|s|m|h|d))+", text):
        try:
            return now - timedelta(seconds=float(read_duration(text)))
        except (ValueError, OverflowError):
            raise Invalid(f"'{text}' is too long ago.") from None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=visit.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"'{text}' is no time: write 2h for two hours ago, or 2027-01-31 22:00.") from None


DONE = {"stop": "asked to stop", "retry": "started again", "acknowledge": "acknowledged"}
"""What was done to the runs, by the word of the button."""


class Listed(NamedTuple):
    """What the page shows."""

    found: search.Found
    waits: dict[int, str]
    categories: Sequence[str]
    names: Sequence[str]
    problem: str


def _filter(visit: Visit, now: datetime) -> search.Filter:
    query = visit.query
    return search.Filter(
        job=query.get("job"),
        states=states_of(query.get("state", "")),
        category=query.get("category"),
        worker=query.get("worker"),
        since=read_moment(visit, "since", now),
        until=read_moment(visit, "until", now),
        text=query.get("q"),
        sequence_run_id=visit.number("sequence"),
        categories=visit.caller.categories,
        below=visit.number("below"),
    )


def runs(visit: Visit) -> Response:
    """List runs."""

    def read(conn: sa.Connection) -> Listed:
        found, problem = search.Found([], None, False), ""
        try:
            found = search.search(conn, _filter(visit, counts.now(conn)), LIMIT)
        except Invalid as error:
            problem = str(error)
        limited = visit.caller.categories
        waits = waiting.reasons(conn, [one.id for one in found.runs if one.state in WAITING], limited)
        return Listed(found, waits, directory.categories(conn, limited), directory.names(conn, limited), problem)

    numbers, listed = visit.together(read)
    query = visit.query
    chosen = query.get("state", "")
    line = commands.runs_list(query, [] if listed.problem else states_of(chosen))
    beyond = [name for name in ("q", "category", "worker", "until", "sequence", "below") if query.get(name)]
    groups = [(value, title) for value, title, _ in GROUPS]
    return visit.render(
        "runs.html", active="runs", counts=numbers, query=query, chosen=chosen, groups=groups, line=line,
        beyond=["text" if name == "q" else name for name in beyond], **listed._asdict(),
    )  # fmt: skip


def selected(visit: Visit) -> Response:
    """Retry, stop or acknowledge the selected runs, one by one; each takes effect or not for itself."""
    wanted = [number for text in visit.body.get("run", ()) if (number := read_number(text)) is not None]
    if not wanted:
        return visit.back(Notice("No run is selected.", bad=True), "/runs")
    if len(wanted) > SELECTED:
        return visit.back(Notice(f"Select {SELECTED} runs at most, not {len(wanted)}.", bad=True), "/runs")
    word = visit.field("do")
    done: list[int] = []
    refused: list[str] = []
    for run_id in wanted:
        try:
            if word == "stop":
                if stopping.stop(visit.service.db, visit.by, run_id).before not in FINAL:
                    done.append(run_id)
            elif word == "acknowledge":
                done += [run.id for run in notes.acknowledge(visit.service.db, visit.by, [run_id])]
            elif word == "retry":
                done.append(starting.retry(visit.service.db, visit.by, run_id).id)
        except JobfacError as error:
            refused.append(str(error))
    return visit.back(_told(word, done, refused), "/runs")


def _told(word: str, done: Sequence[int], refused: Sequence[str]) -> Notice:
    number = "1 run was" if len(done) == 1 else f"{len(done)} runs were"
    text = f"{number} {DONE.get(word, 'touched')}."
    if refused:
        text += f" {len(refused)} refused: {refused[0]}"
    return Notice(text, bad=bool(refused))


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
    row = starting.retry(visit.service.db, visit.by, run_id, from_failed=from_failed)
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
    act("/runs/selected", selected),
    act("/runs/{run:id}/retry", retry, Role.OPERATOR),
    act("/runs/{run:id}/stop", stop, Role.OPERATOR),
)
