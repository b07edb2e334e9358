"""The step history of a sequence as a tree: the visits, and under each the runs of its jobs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from jobfac.cli.rendering.text import duration, printable, styled
from jobfac.cli.times import write_short, write_time
from jobfac.states import FAILURES
from jobfac.views.runs import RunView
from jobfac.views.sequences import StepRunView, StepVisitView

if TYPE_CHECKING:
    from jobfac.store.sequences.plans.simulate import Walk


MANY = 20
"""How many runs of a simulated step the tree shows."""

FEW = 10
"""How many failures of a step with ``for_each`` the tree shows."""


def history_tree(run: RunView, path: Sequence[StepVisitView]) -> Tree:
    """Return the tree of a sequence run."""
    top = Tree(_run(run))
    _add_visits(top, path)
    return top


def walk_tree(job: str, walk: "Walk") -> Tree:
    """Return the tree of a simulated sequence, which has no runs and no times."""
    top = Tree(Text.assemble(job, " ", styled(walk.state), _reason(walk.reason, "  ")))
    for stop in walk.stops:
        following = None if stop.visit.to is None else stop.visit.to.step or stop.visit.to.kind
        branch = top.add(_visit(stop.visit.step, stop.number, stop.visit.result, following, stop.reason))
        if stop.visit.decision is not None:
            branch.add(Text(str(stop.visit.decision)))
        for step_job, state in list(stop.jobs.items())[:MANY]:
            branch.add(Text.assemble(step_job, " ", styled(state)))
        if len(stop.jobs) > MANY:
            branch.add(f"and {len(stop.jobs) - MANY} more")
    return top


def _add_visits(tree: Tree, path: Sequence[StepVisitView]) -> None:
    for visit in path:
        branch = tree.add(_visit(visit.step, visit.number, visit.result, visit.next, visit.reason))
        if visit.waits_for is not None:
            branch.add(_waiting(visit))
        if visit.counts is not None:
            of_all = "" if sum(visit.counts.values()) == visit.children else f", of {visit.children}"
            states = [Text.assemble(f"{number} ", styled(state)) for state, number in visit.counts.items()]
            branch.add(Text.assemble(Text(", ").join(states) or "no runs", of_all, _taken(visit)))
        for run in visit.runs if visit.counts is None else [run for run in visit.runs if run.state in FAILURES][:FEW]:
            _add_visits(branch.add(_run(run)), run.path or ())


def _taken(visit: StepVisitView) -> str:
    return f", {visit.taken} of them taken over from earlier runs" if visit.taken else ""


def _waiting(visit: StepVisitView) -> Text:
    if visit.decision is not None:
        by = f" by {visit.decided_by}" if visit.decided_by else ""
        given = ", ".join(f"{name}={_written(value)}" for name, value in (visit.parameters or {}).items())
        return Text(printable(f"{visit.decision}{by}{f' with {given}' if given else ''}"))
    until = "" if visit.wake_at is None else f" until {write_time(visit.wake_at)}"
    return Text(printable(f"waits for {visit.wanted}{until}"))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _visit(step: str, number: int, result: str | None, following: str | None, reason: str | None) -> Text:
    visit = f" (visit {number})" if number > 1 else ""
    outcome = (f" {result}" if result else "", "bold")
    arrow = f" -> {following}" if following else ""
    return Text.assemble(step, visit, outcome, arrow, _reason(reason, ": "))


def _run(run: RunView | StepRunView) -> Text:
    number = f"  run {run.id}" if run.id else ""
    taken = duration(run)
    times = "" if run.started_at is None else f"  {write_short(run.started_at, datetime.now(UTC))}"
    times += f" for {taken}" if taken else ""
    source = run.taken_from if isinstance(run, StepRunView) else None
    taken_over = "" if source is None else f"  taken over from run {source}"
    more = f"{number}{times}{taken_over}{_reason(run.reason, '  ')}"
    return Text.assemble(run.job, " ", styled(run.state), more)


def _reason(reason: str | None, before: str) -> str:
    return f"{before}{printable(reason)}" if reason else ""
