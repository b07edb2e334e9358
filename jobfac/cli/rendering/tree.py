"""The step history of a sequence as a tree: visits, and under each the runs of its jobs with outcomes and times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.tree import Tree

from jobfac.cli.rendering.text import cell, lasted, printable, styled
from jobfac.views.runs import RunView
from jobfac.views.sequences import StepRunView, StepVisitView

if TYPE_CHECKING:
    from jobfac.store.sequences.simulate import Walk


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
        for one, state in stop.jobs.items():
            twig.add(f"{cell(one)} {styled(state)}")
    return top


def _add_visits(branch: Tree, path: Sequence[StepVisitView]) -> None:
    for visit in path:
        twig = branch.add(_visit(visit.step, visit.number, visit.result, visit.next, visit.reason))
        for run in visit.runs:
            _add_visits(twig.add(_run(run)), run.path or ())


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
