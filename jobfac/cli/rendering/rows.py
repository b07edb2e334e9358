"""The rows and columns of the lists of `jobfac top`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from jobfac.cli.rendering.text import STYLES, printable
from jobfac.states import FAILED
from jobfac.store.jobs import SEQUENCE_QUEUE
from jobfac.views.durations import short_duration
from jobfac.views.overview import DueSchedule, RunLine, WaitingRuns
from jobfac.views.workers import WorkerView

Columns = Sequence[Mapping[str, Any]]
"""The options of ``Table.add_column`` for each column."""


def _since(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else (now - moment).total_seconds()


_FIXED: Mapping[str, Any] = {"overflow": "crop"}
_RIGHT: Mapping[str, Any] = {"justify": "right", "overflow": "crop"}
_REST: Mapping[str, Any] = {"ratio": 1}
FLEET: Columns = (_FIXED, _REST, _FIXED, _RIGHT, _RIGHT)
QUEUE: Columns = (_REST, _RIGHT, _RIGHT)
FAILURE: Columns = (_RIGHT, {"max_width": 32}, _REST, _RIGHT)
DUE: Columns = (_RIGHT, {}, _REST)


def run_columns(wide: bool, reporting: bool) -> Columns:
    """The columns of running runs. ``reporting``: with the columns of progress, because one of the runs reports it."""
    progress = (_FIXED, _RIGHT) if reporting else ()
    return (_RIGHT, {"max_width": 40 if wide else 20}, *progress, _REST, {"max_width": 24 if wide else 12}, _RIGHT)


def end_columns(wide: bool) -> Columns:
    """The columns of ended runs."""
    return (_FIXED, _RIGHT, {"max_width": 32 if wide else 14}, _REST, *((_RIGHT, _RIGHT) if wide else (_RIGHT,)))


def worker(worker: WorkerView, now: datetime, wide: bool) -> list[RenderableType]:
    """The row of a worker: a coloured sign, its name, its slots, and the time since its last heartbeat."""
    silent = _since(worker.seen_at, now)
    left = -_since(worker.lease_until, now)
    about = _plain(f"{worker.host}  {', '.join(worker.pools)}") if wide else ""
    name = Text.assemble((_plain(worker.name), "bold" if worker.busy else ""), "  ", (about, "dim"))
    full = worker.busy >= worker.slots
    style = "yellow" if full else "cyan"
    bar = _bar(worker.busy, worker.slots, 16 if wide else 8, style)
    colour, word = STYLES["active"], f"seen {short_duration(silent)}"
    if worker.state == "draining":
        colour, word = "yellow", "draining"
    elif worker.message:
        colour, word = "yellow", "claims nothing"
    if left < 0:
        colour, word = "red", f"silent {short_duration(silent)}"
    elif left < silent:
        colour = "yellow"
    return [
        Text("●", style=colour),
        name,
        bar,
        Text(f"{worker.busy}/{worker.slots}"),
        Text(word, style="dim" if colour == "green" else colour),
    ]


def queue(waiting: WaitingRuns, taken: bool, claimed: bool) -> list[RenderableType]:
    """The row of a pool with queued runs. ``taken``: a live worker serves the pool; ``claimed``: and one claims now."""
    return [
        Text("sequences" if waiting.pool == SEQUENCE_QUEUE else waiting.pool),
        Text(f"{waiting.number:,}", style=f"bold {wait_style(waiting.seconds) if taken and claimed else 'red'}"),
        _state_of_queue(waiting, taken, claimed),
    ]


def _state_of_queue(waiting: WaitingRuns, taken: bool, claimed: bool) -> Text:
    if waiting.hold is not None:
        return Text("held", style="yellow")
    if taken and not claimed:
        return Text("not claimed", style="red")
    return Text(f"for {short_duration(waiting.seconds)}", style="dim") if taken else Text("no worker", style="red")


def wait_style(seconds: float) -> str:
    """The colour of a waiting time: red from five minutes, yellow from one."""
    return "red" if seconds >= 300 else "yellow" if seconds >= 60 else "cyan"


def running(run: RunLine, now: datetime, wide: bool, reporting: bool) -> list[RenderableType]:
    """The row of a running run."""
    row: list[RenderableType] = [Text(str(run.id), style="dim"), _job(run)]
    if reporting and run.progress is not None:
        row += [_bar(run.progress, 1.0, 24 if wide else 10, "green"), Text(f"{min(run.progress, 1.0):.0%}")]
    elif reporting:
        row += [Text(), Text()]
    message = Text()
    if run.state == "stopping":
        message.append("stopping  ", "yellow")
    if run.attempt > 1:
        message.append(f"attempt {run.attempt}  ", "yellow")
    message.append(_plain(run.message))
    where = "sequence" if run.kind == "sequence" else _plain(run.worker)
    return [*row, message, Text(where, style="dim"), Text(short_duration(_since(run.started_at, now)))]


def ended(run: RunLine, now: datetime, wide: bool) -> list[RenderableType]:
    """The row of an ended run."""
    colour = STYLES.get(run.state, "")
    sign = "✔" if run.state == "succeeded" else "✘" if run.state in FAILED else "●"
    reason = _plain(run.reason or run.exit_message)
    if run.state not in ("succeeded", "failed"):
        reason = f"{run.state.replace('_', ' ')}{': ' if reason else ''}{reason}"
    took = short_duration(_since(run.started_at, run.ended_at)) if run.started_at and run.ended_at else "-"
    return [
        Text(sign, style=colour),
        Text(str(run.id), style="dim"),
        _job(run),
        Text(reason, style=colour if run.state in FAILED else "dim"),
        *([Text(f"took {took}", style="dim")] if wide else []),
        Text(f"{short_duration(_since(run.ended_at, now))} ago", style="dim"),
    ]


def failure(run: RunLine, now: datetime) -> list[RenderableType]:
    """A failure that nobody has acknowledged."""
    why = _plain(run.reason or run.exit_message) or run.state.replace("_", " ")
    return [
        Text(str(run.id), style="bold"),
        _job(run),
        Text(why, style="red"),
        Text(f"{short_duration(_since(run.ended_at, now))} ago", style="dim"),
    ]


def due(schedule: DueSchedule, now: datetime) -> list[RenderableType]:
    """The row of a schedule: the time until it fires, its job and its name."""
    left = -_since(schedule.fire_at, now)
    when = (
        Text(f"in {short_duration(left)}")
        if left >= 0
        else Text(f"late {short_duration(-left)}", style="red" if left < -60 else "")
    )
    return [when, Text(schedule.job), Text(schedule.name, style="dim")]


def _bar(part: float, whole: float, width: int, style: str) -> ProgressBar:
    return ProgressBar(whole, part, width, complete_style=style, finished_style=style, style="grey35")


def _job(run: RunLine) -> Text:
    return Text(run.job, style="bold" if run.state in ("running", "stopping") else "")


def _plain(text: str | None) -> str:
    """Return the text on one line, without control characters and repeated spaces."""
    return " ".join(printable(text or "").split())
