"""`stop`, `retry`, and `runs list / show`."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.client.protocol import RunFilter
from jobfac.cli.commands.start import SetFileOption, SetOption
from jobfac.cli.common import UNSUCCESSFUL, USAGE, Json, RunId, fail, group, instant, refuse_denied
from jobfac.cli.parameters import read_pairs, read_settings
from jobfac.cli.rendering.printing import Columns, note, print_drawn, print_fields, print_json, print_table
from jobfac.cli.rendering.text import cell, changed_value, duration, memory_text
from jobfac.states import FINAL, HELD, RunState
from jobfac.views import serialization
from jobfac.views.runs import AttemptView, RunView, history_as_json

app = group("List and show runs.")


def stop(
    run: RunId,
    now: Annotated[bool, typer.Option("--now", help="Kill the program, without its grace period.")] = False,
    wait_for: Annotated[float, typer.Option("--patience", help="Seconds to wait for the end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Stop a run, wait for its end, and say what happened."""
    with backend() as factory:
        stopped = factory.stop(run, now)
        current = factory.wait(run, wait_for)
        if as_json:
            print_json(serialization.as_json(current))
        elif stopped.before in FINAL:
            note(f"Run {run} had already ended: {stopped.before}.")
        elif current.state in FINAL:
            reason = f": {current.reason}" if current.reason else ""
            typer.echo(f"run {run} was {stopped.before} and is now {current.state}{reason}")
        if current.state not in FINAL:
            fail(
                UNSUCCESSFUL,
                f"Run {run} was asked to stop and is still {current.state} after {wait_for:g} s; it ends when its "
                "worker stops it, or when its lease expires.",
            )


def retry(
    run: RunId,
    from_failed: Annotated[
        bool, typer.Option("--from-failed", help="Continue a sequence from the step that failed.")
    ] = False,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    as_json: Json = False,
) -> None:
    """Run a finished run again, with the same values.

    These are its arguments, its payload and its parameters; `--set` changes a parameter.
    """
    changes = read_settings(set_ or [], set_file)
    with backend() as factory:
        new = factory.retry(run, from_failed, changes)
    print_json(serialization.as_json(new)) if as_json else typer.echo(new.id)
    refuse_denied([new])


@app.command("list")
def list_runs(
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    states: Annotated[
        list[str] | None, typer.Option("--state", help="Only runs in this state; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs created since this time, or since a duration ago (2h).")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only runs with this value of a parameter; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of runs.")] = 50,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    for word in states or []:
        if word not in list(RunState):
            fail(USAGE, f"--state must be one of {', '.join(RunState)}, not '{word}'.")
    created_since = None if since is None else instant(since, "--since", back=True)
    values = {name: str(value) for name, value in read_pairs(parameter or [], "--parameter").items()}
    with backend() as factory:
        views = factory.runs(RunFilter(job, [RunState(word) for word in states or []], created_since, limit, values))
    if as_json:
        print_json(serialization.all_as_json(views))
        return
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
    print_table(views, columns, "no runs")


def _why(run: RunView) -> str:
    if run.state in HELD and run.progress is not None:
        return cell(f"{run.progress:.0%} {run.message or ''}")
    if run.waits_for is not None:
        return cell(f"waits: {run.waits_for}")
    return cell(run.held or run.reason or run.exit_message or run.message)


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
    print_table(history.events, {"WHEN": "at", "TRY": "attempt", "WHAT": "event", "BY": "by", "DETAIL": "detail"}, "")
    if history.notes:
        typer.echo("")
        print_table(history.notes, {"WHEN": "at", "BY": "by", "NOTE": "text"}, "")
    if history.changes:
        typer.echo(f"\nSince version {history.run.job_version}, which this run used, the job has changed:")
        for change in history.changes:
            typer.echo(f"  {change.path}: {changed_value(change.before)} -> {changed_value(change.after)}")
    if history.path:
        from jobfac.cli.rendering.tree import history_tree

        typer.echo("")
        print_drawn(history_tree(history.run, history.path))


def _cpu(attempt: AttemptView) -> str:
    return "" if attempt.cpu_seconds is None else f"{attempt.cpu_seconds:.2f}s"


def _memory(attempt: AttemptView) -> str:
    return "" if attempt.peak_memory is None else memory_text(attempt.peak_memory)


def _attempt_state(attempt: AttemptView) -> str:
    return cell(attempt.state) or "running"
