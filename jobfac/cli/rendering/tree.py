"""The step history of a sequence as a tree: visits, and under each the runs of its jobs with outcomes and times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.tree import Tree

from jobfac.cli.rendering.text import cell, lasted, printable, styled
from jobfac.states import FAILURES, Waiting
from jobfac.views.runs import RunView
from jobfac.views.sequences import StepRunView, StepVisitView

if TYPE_CHECKING:
    from jobfac.store.sequences.simulate import Walk


MANY = 20
"""How many runs of a simulated step the tree shows."""

FEW = 10
"""How many failures of a step with ``for_each`` the tree shows."""


def history_tree(run: RunView, path: Sequence[StepVisitView]) -> Tree:
    """The tree of a sequence's run."""
    top = Tree(_run(run))
    _add_visits(top, path)
    return top


def walk_tree(job: str, walk: "Walk") -> Tree:
    """The tree of a simulated sequence, which has neither runs nor times."""
    top = Tree(f"{cell(job)} {styled(walk.state)}{_why(walk.reason, '  ')}")
    for stop in walk.stops:
        goes = None if stop.visit.to is None else stop.visit.to.step or stop.visit.to.kind
        twig = top.add(_visit(stop.visit.step, stop.number, stop.visit.result, goes, None))
        if stop.visit.decision is not None:
            twig.add(str(stop.visit.decision))
        for one, state in list(stop.jobs.items())[:MANY]:
            twig.add(f"{cell(one)} {styled(state)}")
        if len(stop.jobs) > MANY:
            twig.add(f"and {len(stop.jobs) - MANY} more")
    return top


def _add_visits(branch: Tree, path: Sequence[StepVisitView]) -> None:
    for visit in path:
        twig = branch.add(_visit(visit.step, visit.number, visit.result, visit.next, visit.reason))
        if visit.waits_for is not None:
            twig.add(_waiting(visit))
        if visit.counts is not None:
            twig.add(", ".join(f"{number} {styled(state)}" for state, number in visit.counts.items()))
        for run in visit.runs if visit.counts is None else [run for run in visit.runs if run.state in FAILURES][:FEW]:
            _add_visits(twig.add(_run(run)), run.path or ())


def _waiting(visit: StepVisitView) -> str:
    if visit.decision is not None:
        return f"{visit.decision}{f' by {cell(printable(visit.decided_by))}' if visit.decided_by else ''}"
    until = "" if visit.wake_at is None else f" until {visit.wake_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"waits for {'an approval' if visit.waits_for == Waiting.APPROVAL else 'its time'}{until}"


def _visit(step: str, number: int, result: str | None, goes: str | None, reason: str | None) -> str:
    again = f" (visit {number})" if number > 1 else ""
    ended = f" [bold]{result}[/]" if result else ""
    leads = f" -> {cell(goes)}" if goes else ""
    return f"{cell(step)}{again}{ended}{leads}{_why(reason, ': ')}"


def _run(run: RunView | StepRunView) -> str:
    number = f"  run {run.id}" if run.id else ""
    times = "" if run.started_at is None else f"  {run.started_at.astimezone():%H:%M:%S} for {lasted(run)}"
    return f"{cell(run.job)} {styled(run.state)}{number}{times}{_why(run.reason, '  ')}"


def _why(reason: str | None, before: str) -> str:
    return f"{before}{cell(printable(reason))}" if reason else ""
