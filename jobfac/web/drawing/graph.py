"""A sequence as a graph in the colours of its steps' results."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from jobfac.definitions import Sequence as Definition
from jobfac.states import ACTIVE
from jobfac.store.sequences.plans.graph import LINE, PADDING, Box, DrawnEdge, layout
from jobfac.views.sequences import StepRunView, StepVisitView


class Progress(NamedTuple):
    """The progress of a step. ``word``: a result, or running or waiting; ``link``: the run to open."""

    word: str
    link: str


def progress(visits: Sequence[StepVisitView]) -> dict[str, Progress]:
    """Return the progress of each visited step, by its last visit."""
    found = {}
    for visit in visits:
        active = any(run.state in ACTIVE for run in visit.runs)
        word = "running" if active or visit.result is None else str(visit.result)
        found[visit.step] = Progress(word, _telling(visit.runs))
    return found


def _telling(runs: Sequence[StepRunView]) -> str:
    """Return the path of the run to open: one that did not succeed, else the first."""
    known = [run for run in runs if run.id is not None]
    bad = [run for run in known if run.state not in ("succeeded", *ACTIVE)]
    return f"/runs/{(bad or known)[0].id}" if known else ""


def taken(visits: Sequence[StepVisitView]) -> set[tuple[str, str]]:
    """Return the edges that the run took, as pairs of a step and its successor."""
    return {(visit.step, visit.next) for visit in visits if visit.next is not None}


def graph(
    title: str,
    sequence: Definition,
    stands: Mapping[str, Progress],
    gone: set[tuple[str, str]],
    job_link: Callable[[str], str] | None = None,
) -> Markup:
    """Return the graph. ``job_link``: the link of a step with jobs and without a run."""
    found = layout(sequence)
    steps = [step.name for step in sequence.steps]
    nodes = []
    for number, box in found.boxes.items():
        name = steps[number] if number < len(steps) else ""
        its = stands.get(name, Progress("waiting" if name else "goal", ""))
        jobs = sequence.steps[number].jobs if name else ()
        link = its.link or (job_link(jobs[0]) if jobs and job_link else "")
        nodes.append(_node(box, found.left, found.wide, its.word, link, bool(name)))
    lines = [_line(drawn, steps, gone) for drawn in found.drawn_edges]
    labels = [
        f'<text class="label" x="{one.x}" y="{one.y}" text-anchor="{one.anchor}">{escape(one.edge.label)}</text>'
        for one in found.drawn_edges
    ]
    mark = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
    )
    return Markup(
        f'<svg width="{found.width}" height="{found.height}" viewBox="0 0 {found.width} {found.height}" role="group" '
        f'aria-label="{escape(title)}">{mark}{"".join(lines)}{"".join(nodes)}{"".join(labels)}</svg>'
    )


def _node(box: Box, left: int, wide: int, word: str, link: str, is_step: bool) -> str:
    radius = 8 if is_step else box.height // 2
    shape = f'<rect x="{left}" y="{box.top}" width="{wide}" height="{box.height}" rx="{radius}"/>'
    texts = "".join(
        f'<text class="{"" if place else "name"}" x="{left + wide // 2}" y="{box.top + PADDING + LINE * place + 13}" '
        f'text-anchor="middle">{escape(line)}</text>'
        for place, line in enumerate(box.lines)
    )
    title = f"{box.lines[0]}: {word.replace('_', ' ')}"
    node = f'<g class="node {word}"><title>{escape(title)}</title>{shape}{texts}</g>'
    return f'<a href="{escape(link)}">{node}</a>' if link else node


def _line(drawn: DrawnEdge, steps: Sequence[str], gone: set[tuple[str, str]]) -> str:
    ends = {len(steps): "end", len(steps) + 1: "end_failed"}
    target = drawn.edge.target
    way = (steps[drawn.edge.source], steps[target] if target < len(steps) else ends[target])
    is_taken = way in gone
    return f'<path class="edge{" taken" if is_taken else ""}" d="{drawn.path}" marker-end="url(#arrow)"/>'
