"""Draw a sequence as a Mermaid flowchart or as SVG."""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from jobfac.definitions import Go, Step
from jobfac.definitions import Sequence as Definition
from jobfac.states import StepResult
from jobfac.store.sequences.decide import leave

COLOURS = {
    StepResult.SUCCESS: "#2e7d32",
    StepResult.FAILURE: "#c62828",
    StepResult.MIXED: "#b26a00",
    StepResult.SKIPPED: "#757575",
    StepResult.AT_ONCE: "#1565c0",
}


class Edge(NamedTuple):
    """An edge from one node to another, with the results of the step that lead along it."""

    source: int
    target: int
    results: list[StepResult]

    @property
    def label(self) -> str:
        return ", ".join(result.replace("_", " ") for result in self.results)


def edges(sequence: Definition) -> list[Edge]:
    """Return all edges. Nodes are numbered: the steps in order, then ``end``, then ``end_failed``."""
    numbers = {Go(kind="step", step=step.name): number for number, step in enumerate(sequence.steps)}
    numbers |= {Go(kind="end"): len(numbers), Go(kind="end_failed"): len(numbers) + 1}
    found: list[Edge] = []
    for number, step in enumerate(sequence.steps):
        ways: dict[int, Edge] = {}
        for result in _results(step):
            target = numbers[leave(sequence, step, result).to]
            ways.setdefault(target, Edge(number, target, [])).results.append(result)
        found += ways.values()
    return found


def _results(step: Step) -> Iterator[StepResult]:
    """Yield the results that a visit of the step can have. A single program is never mixed."""
    if step.proceed == "at_once":
        yield StepResult.AT_ONCE
    else:
        yield StepResult.SUCCESS
        if step.wait is None or not step.wait.is_for_time:
            yield StepResult.FAILURE
        if step.for_each or (len(step.jobs) > 1 and step.proceed == "when_all") or "on_mixed" in step.model_fields_set:
            yield StepResult.MIXED
    if step.start_if is not None:
        yield StepResult.SKIPPED


def mermaid(sequence: Definition) -> str:
    """Return the sequence as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for number, step in enumerate(sequence.steps):
        lines.append(f'    n{number}["<b>{step.name}</b><br/>{"<br/>".join(_notes(step))}"]')
    ways = edges(sequence)
    for number, words in _ends(sequence, ways).items():
        lines.append(f'    n{number}(["{words}"])')
    lines += [f"    n{edge.source} -->|{edge.label}| n{edge.target}" for edge in ways]
    lines += [f"    linkStyle {place} stroke:{COLOURS[edge.results[0]]}" for place, edge in enumerate(ways)]
    return "\n".join(lines) + "\n"


def _notes(step: Step) -> list[str]:
    waits = [] if step.proceed == "when_all" else [f"({step.proceed.replace('_', ' ')})"]
    if step.for_each:
        waits.append(f"(for each {', '.join(step.for_each)})")
    if step.approve is not None:
        waits.append(f"(approval by {step.approve.by})")
    if step.wait is not None:
        waits.append(f"(waits for {'a file' if step.wait.file else 'an answer' if step.wait.http else 'a time'})")
    return [*step.jobs, *waits]


def _ends(sequence: Definition, ways: list[Edge]) -> dict[int, str]:
    """Return the labels of the ends that an edge reaches, by node number."""
    words = {len(sequence.steps): "end", len(sequence.steps) + 1: "end failed"}
    reached = {edge.target for edge in ways}
    return {number: word for number, word in words.items() if number in reached}


LINE, PADDING, GAP, LANE, LETTER = 18, 10, 46, 26, 7.2
"""Sizes in pixels: the height of a line of text, the padding of a box, the gap between two nodes, the distance between
two lanes of edges, and the width of a letter."""


class Box(NamedTuple):
    """A node: its lines of text, the first of which is the name, and its place in pixels."""

    lines: list[str]
    top: int
    height: int


class DrawnEdge(NamedTuple):
    """An edge as an SVG path, and the position of its label."""

    edge: Edge
    path: str
    x: int
    y: int
    anchor: str


class Layout(NamedTuple):
    """Where everything is drawn, in pixels. ``boxes``: by node number; all begin at ``left`` and are ``wide``."""

    boxes: dict[int, Box]
    drawn_edges: list[DrawnEdge]
    left: int
    wide: int
    width: int
    height: int


def layout(sequence: Definition) -> Layout:
    """Return the layout: steps are stacked, with jumps ahead on the right and back on the left."""
    ways = edges(sequence)
    boxes = _boxes(sequence, ways)
    order = {number: place for place, number in enumerate(boxes)}
    straight = [edge for edge in ways if order[edge.target] == order[edge.source] + 1]
    ahead = [edge for edge in ways if order[edge.target] > order[edge.source] + 1]
    back = [edge for edge in ways if order[edge.target] <= order[edge.source]]
    longest = max(len(edge.label) for edge in ways) * LETTER
    left = int(LANE * len(back) + (longest if back else 0)) + PADDING * 2
    wide = int(max(len(line) for box in boxes.values() for line in box.lines) * LETTER) + 4 * PADDING
    width = left + wide + int(LANE * len(ahead) + longest) + PADDING * 2
    height = max(box.top + box.height for box in boxes.values()) + PADDING * 2
    drawn_edges: list[DrawnEdge] = []
    for edge in straight:
        source, target, x = boxes[edge.source], boxes[edge.target], left + wide // 2
        start, end = source.top + source.height, target.top
        drawn_edges.append(DrawnEdge(edge, f"M{x},{start} V{end - 1}", x + 6, (start + end) // 2 + 4, "start"))
    for side, group in ((1, ahead), (-1, back)):
        x = left + wide if side > 0 else left
        group = sorted(group, key=lambda way: abs(order[way.target] - order[way.source]))
        heights = _heights(boxes, group, side)
        for lane, edge in enumerate(group):
            start, end = heights[lane, True], heights[lane, False]
            far = x + side * LANE * (lane + 1)
            path, anchor = f"M{x},{start} H{far} V{end} H{x + side}", "start" if side > 0 else "end"
            drawn_edges.append(DrawnEdge(edge, path, far + 5 * side, start + (end - start) // 3, anchor))
    return Layout(boxes, drawn_edges, left, wide, width, height)


def svg(title: str, sequence: Definition) -> str:
    """Return the sequence as an SVG document."""
    found = layout(sequence)
    nodes = [_node(box, found.left, found.wide, number < len(sequence.steps)) for number, box in found.boxes.items()]
    lines = [_line(drawn.edge, drawn.path) for drawn in found.drawn_edges]
    labels = [_label(drawn.edge, drawn.x, drawn.y, drawn.anchor) for drawn in found.drawn_edges]
    marks = "".join(
        f'<marker id="{result}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for result, colour in COLOURS.items()
    )
    width, height = found.width, found.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13" role="img">\n<title>{escape(title)}</title>\n<defs>{marks}</defs>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(nodes + lines + labels) + "\n</svg>\n"
    )


def _boxes(sequence: Definition, ways: list[Edge]) -> dict[int, Box]:
    texts = {number: [step.name, *_notes(step)] for number, step in enumerate(sequence.steps)}
    texts |= {number: [words] for number, words in _ends(sequence, ways).items()}
    boxes: dict[int, Box] = {}
    top = PADDING * 2
    for number, lines in texts.items():
        boxes[number] = Box(lines, top, LINE * len(lines) + PADDING * 2)
        top += boxes[number].height + GAP
    return boxes


def _heights(boxes: dict[int, Box], lanes: list[Edge], side: int) -> dict[tuple[int, bool], int]:
    """Return the heights at which the edge of each lane leaves its box (True) and meets the other box (False).

    All heights differ, and outer lanes lie around inner ones, so the edges of a box do not cross.
    """
    heights: dict[tuple[int, bool], int] = {}
    for number, box in boxes.items():
        meeting = [(lane, False) for lane, edge in enumerate(lanes) if edge.target == number]
        leaving = [(lane, True) for lane, edge in enumerate(lanes) if edge.source == number]
        ends = [*meeting, *reversed(leaving)][::side]
        for place, end in enumerate(ends, start=1):
            heights[end] = box.top + box.height * place // (len(ends) + 1)
    return heights


def _node(box: Box, left: int, wide: int, is_step: bool) -> str:
    round_by = 6 if is_step else box.height // 2
    shape = (
        f'<rect x="{left}" y="{box.top}" width="{wide}" height="{box.height}" rx="{round_by}" fill="#f5f7fa" '
        f'stroke="#455a64"/>'
    )
    texts = [
        f'<text x="{left + wide // 2}" y="{box.top + PADDING + LINE * place + 13}" text-anchor="middle" '
        f'fill="#102027" font-weight="{"normal" if place else "bold"}">{escape(line)}</text>'
        for place, line in enumerate(box.lines)
    ]
    return shape + "".join(texts)


def _line(edge: Edge, path: str) -> str:
    first = edge.results[0]
    return f'<path d="{path}" fill="none" stroke="{COLOURS[first]}" stroke-width="1.5" marker-end="url(#{first})"/>'


def _label(edge: Edge, x: int, y: int, anchor: str) -> str:
    """Return a label with a halo in the background colour, because lines pass below it."""
    return (
        f'<text x="{x}" y="{y}" font-size="11" text-anchor="{anchor}" fill="{COLOURS[edge.results[0]]}" '
        f'stroke="#ffffff" stroke-width="3" paint-order="stroke">{edge.label}</text>'
    )
