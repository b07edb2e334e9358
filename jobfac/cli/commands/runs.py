"""`runs list / show`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import Json, RunId, group
from jobfac.cli.parameters import read_pairs
from jobfac.cli.rendering.printing import Columns, print_drawn, print_fields, print_json, print_list, print_table
from jobfac.cli.rendering.text import changed_value, duration, memory_text
from jobfac.cli.selection import selecting
from jobfac.states import HELD
from jobfac.views.runs import AttemptView, RunView, history_as_json

if TYPE_CHECKING:
    from jobfac.store.history.search import Filter

T = TypeVar("T")

NEWEST = 100
"""The maximum number of events and of notes that `runs show` prints as a table."""

app = group("List and show runs.")


@app.command("list")
@selecting
def list_runs(
    *,
    wanted: "Filter",
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only runs with this value of a parameter; may be repeated."),
    ] = None,
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only failures that nobody has acknowledged.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of runs.")] = 50,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    values = tuple((name, str(value)) for name, value in read_pairs(parameter or [], "--parameter").items())
    with backend() as factory:
        views = factory.runs(wanted._replace(parameters=values, unacknowledged=unacknowledged), limit)
    columns: Columns[RunView] = {
        "RUN": "id",
        "JOB": "job",
        "STATE": "state",
        "TRY": "attempt",
        "STARTED": "started_at",
        "TOOK": duration,
        "EXIT": "exit_code",
        "WORKER": "worker",
        "WHY": _why,
    }
    print_list(views, columns, "no runs", as_json, limit)


def _why(run: RunView) -> str:
    if run.state in HELD and run.progress is not None:
        return f"{run.progress:.0%} {run.message or ''}"
    if run.waits_for is not None:
        return f"waits: {run.waits_for}"
    return run.held or run.reason or run.exit_message or run.message or ""


@app.command("show")
def show_run(run: RunId, as_json: Json = False) -> None:
    """Show a run with its attempts, events and steps."""
    with backend() as factory:
        history = factory.run(run)
    if as_json:
        print_json(history_as_json(history))
        return
    print_fields(history.run._asdict())
    typer.echo("")
    columns: Columns[AttemptView] = {
        "TRY": "number",
        "STATE": _attempt_state,
        "STARTED": "started_at",
        "TOOK": duration,
        "CPU": _cpu,
        "MEMORY": _memory,
        "PID": "pid",
        "WORKER": "worker",
        "EXIT": "exit_code",
        "SIGNAL": "signal",
        "WHY": "reason",
    }
    if history.attempts:
        print_table(history.attempts, columns, "")
        typer.echo("")
    events = _newest(history.events, "events")
    print_table(events, {"WHEN": "at", "TRY": "attempt", "WHAT": "event", "BY": "by", "DETAIL": "detail"}, "")
    if history.notes:
        typer.echo("")
        print_table(_newest(history.notes, "notes"), {"WHEN": "at", "BY": "by", "NOTE": "text"}, "")
    if history.changes:
        typer.echo(f"\nSince version {history.run.job_version}, which this run used, the job has changed:")
        for change in history.changes:
            typer.echo(f"  {change.path}: {changed_value(change.before)} -> {changed_value(change.after)}")
    if history.path:
        from jobfac.cli.rendering.tree import history_tree

        typer.echo("")
        print_drawn(history_tree(history.run, history.path))


def _newest(rows: Sequence[T], what: str) -> Sequence[T]:
    """Return the newest rows, and say how many there are if there are more."""
    if len(rows) > NEWEST:
        typer.echo(f"These are the newest {NEWEST} of {len(rows):,} {what}; --json shows all.")
    return rows[-NEWEST:]


def _cpu(attempt: AttemptView) -> str:
    return "" if attempt.cpu_seconds is None else f"{attempt.cpu_seconds:.2f}s"


def _memory(attempt: AttemptView) -> str:
    return "" if attempt.peak_memory is None else memory_text(attempt.peak_memory)


def _attempt_state(attempt: AttemptView) -> object:
    return attempt.state or "running"
