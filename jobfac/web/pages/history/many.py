"""`/runs/all`: what would be retried, stopped or acknowledged by a filter; `/runs/selected` does it to these runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.responses import Response

from jobfac.database.dialects import current_time
from jobfac.errors import Invalid, JobfacError
from jobfac.operations.bulk import many
from jobfac.states import ACTIVE, FINAL, TO_ACKNOWLEDGE, RunState
from jobfac.store.api_keys import Role
from jobfac.store.history import counts
from jobfac.store.history.search import Filter
from jobfac.views.results.many import ManyView, Result
from jobfac.web import commands, run_filter
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Query, Visit, read_number

LIMIT = 500
"""Runs that one act may concern."""

IN_NOTICE = 20
"""Runs that the command of a notice names at most."""


class Act(NamedTuple):
    """What can be done to many runs.

    Attributes:
        states: those of which it may be.
        done: what was done to them, in words.
        about: what it means, in one sentence.
    """

    do: Callable[..., list[ManyView]]
    states: frozenset[RunState]
    done: str
    about: str


ACTS = {
    "retry": Act(
        many.retry, FINAL, "started again", "Each starts again as a new run with the same arguments and payload."
    ),
    "stop": Act(many.stop, ACTIVE, "asked to stop", "Those that wait end at once; those that run are asked to end."),
    "acknowledge": Act(
        many.acknowledge, TO_ACKNOWLEDGE, "acknowledged", "They are no longer shown as failures that wait for a person."
    ),
}
"""The acts, by the word of the button."""


def possible(wanted: Filter) -> list[str]:
    """Return the words of the acts that are possible for the runs of a filter. No command acts on them by parameter."""
    return [word for word, one in ACTS.items() if one.states.issuperset(wanted.states) and not wanted.parameters]


def _act(word: str) -> Act:
    if word not in ACTS:
        raise Invalid(f"Many runs can be retried, stopped or acknowledged; '{word}' is none of these.")
    return ACTS[word]


def show(visit: Visit) -> Response:
    """Show what an act would do to the runs that match the filter. Changes nothing."""
    word, query = visit.query["do"], Query({name: text for name, text in visit.query.items() if name != "do"})
    chosen = _act(word)
    numbers = visit.read(counts.read, visit.caller.categories)
    wanted, problem, lines, below = run_filter.read(visit, numbers.now), "", [], None
    try:
        if wanted.parameters:
            raise Invalid("Runs with a value of a parameter cannot be chosen all at once; select them in the list.")
        wanted = wanted._replace(unacknowledged=wanted.unacknowledged or word == "acknowledge")
        found = many.choose(visit.service.db, visit.by, wanted, LIMIT, chosen.states)
        do = chosen.do if chosen.do is many.acknowledge else partial(chosen.do, wanted=wanted)
        lines, below = do(visit.service.db, visit.by, found.runs, dry_run=True), found.below
    except JobfacError as error:
        problem = str(error)
    return visit.render(
        "history/many.html", active="runs", counts=numbers, query=query, word=word, about=chosen.about, problem=problem,
        lines=sorted(lines, key=lambda one: -one.id), below=below, line=commands.many(word, query, wanted),
        ids=[one.id for one in lines if one.result is Result.CHOSEN],
    )  # fmt: skip


def selected(visit: Visit) -> Response:
    """Retry, stop or acknowledge the runs of the form, one by one; each takes effect or not for itself."""
    wanted = [number for text in visit.body.get("run", ()) if (number := read_number(text)) is not None]
    if not wanted:
        return visit.back(Notice("No run is selected.", bad=True), "/runs")
    if len(wanted) > LIMIT:
        return visit.back(Notice(f"Select {LIMIT} runs at most, not {len(wanted)}.", bad=True), "/runs")
    word = visit.field("do")
    lines = _act(word).do(visit.service.db, visit.by, many.find(visit.service.db, visit.by, wanted))
    return visit.back(_told(word, lines, _command(visit, word, wanted)), "/runs")


def _command(visit: Visit, word: str, run_ids: Sequence[int]) -> str:
    """Return the command that does the same: by the filter that chose the runs, or by their ids."""
    if text := visit.field("filter"):
        query = Query(parse_qsl(text))
        return commands.many(word, query, run_filter.of(visit, query, visit.read(current_time)))
    return commands.each(word, run_ids) if len(run_ids) <= IN_NOTICE else ""


def _told(word: str, lines: Sequence[ManyView], command: str) -> Notice:
    number = Counter(line.result for line in lines)
    done = number[Result.DONE]
    text = f"{'1 run was' if done == 1 else f'{done} runs were'} {ACTS[word].done}."
    for result in (Result.SKIPPED, Result.REFUSED):
        if number[result]:
            first = next(line for line in lines if line.result is result)
            text += f" {number[result]} {result}: run {first.id}, {(first.reason or '').rstrip('.')}."
    return Notice(text, command, bad=bool(number[Result.REFUSED]) or not done)


PAGES: tuple[Page, ...] = (
    get("/runs/all", show, Role.OPERATOR),
    act("/runs/selected", selected),
)
