"""Keys of `jobfac top`: which run is chosen, and which run's output is open. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobfac.cli.rendering.text import STYLES, printable
from jobfac.views.runs import RunView

UP, DOWN, OPEN, BACK, QUIT = "up", "down", "open", "back", "quit"

KEYS = {
    b"\x1b[A": UP, b"\x1bOA": UP, b"k": UP, b"\x1b[B": DOWN, b"\x1bOB": DOWN, b"j": DOWN, b"\r": OPEN, b"\n": OPEN,
    b"\x1b[C": OPEN, b"\x1b[D": BACK, b"\x1b": BACK, b"\x7f": BACK, b"b": BACK, b"q": QUIT,
}  # fmt: skip
"""What a key does, by the bytes that a terminal sends for it."""


def read_keys(data: bytes) -> list[str]:
    """Return what the pressed keys do, in order. Unknown keys are ignored."""
    found, at = [], 0
    lower = data.replace(b"Q", b"q").replace(b"J", b"j").replace(b"K", b"k")
    while at < len(data):
        for length in (3, 1):
            if (word := KEYS.get((data if length == 3 else lower)[at : at + length])) is not None:
                found.append(word)
                break
        at += length
    return found


class Selection(NamedTuple):
    """``chosen``: the run that is marked in the lists; ``opened``: the run whose output is shown. None: no run."""

    chosen: int | None = None
    opened: int | None = None


def react(selection: Selection, key: str, runs: Sequence[int]) -> Selection | None:
    """Return the selection after a key; None: quit. ``runs``: the ids of the listed runs, from the top down."""
    if key == QUIT:
        return None
    if key == BACK:
        return selection._replace(opened=None)
    if selection.opened is not None or not runs:
        return selection
    if key == OPEN:
        return selection._replace(opened=selection.chosen)
    if selection.chosen not in runs:
        return selection._replace(chosen=runs[0 if key == DOWN else -1])
    place = runs.index(selection.chosen) + (1 if key == DOWN else -1)
    return selection._replace(chosen=runs[max(0, min(place, len(runs) - 1))])


class Output(NamedTuple):
    """A run and the end of its output. ``lines``: the last ones, the open line included."""

    run: RunView
    lines: Sequence[str]


def draw_output(output: Output | None, run_id: int, height: int, trouble: str = "") -> RenderableType:
    """Draw the end of a run's output; None: it has not been read yet."""
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(no_wrap=True, justify="right")
    what = Text.assemble((f" run {run_id} ", "bold reverse"))
    if output is not None:
        run = output.run
        what.append(f" {printable(run.job)}  ").append(str(run.state), STYLES.get(run.state, ""))
        what.append(f"  {printable(run.reason or run.exit_message or run.message or '')}", "dim")
    line.add_row(what, Text("← back  q quits ", style="dim"))
    top: list[RenderableType] = [line]
    if trouble:
        top.append(Text(f" {trouble}", style="bold white on red", no_wrap=True, overflow="ellipsis"))
    if output is None:
        return Group(*top, Text(" reading its output …", style="dim"))
    if not output.lines:
        return Group(*top, Text(" no output in the database", style="dim"))
    room = max(1, height - len(top) - 1)
    return Group(*top, *(Text(one, no_wrap=True, overflow="ellipsis") for one in output.lines[-room:]))
