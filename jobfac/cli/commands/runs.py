"""stop, retry, and `runs list / show`."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.client.protocol import RunFilter
from jobfac.cli.commands.start import SetFileOption, SetOption
from jobfac.cli.common import UNSUCCESSFUL, USAGE, Json, RunId, fail, group, instant, refuse_denied
from jobfac.cli.parameters import read_pairs, read_settings
from jobfac.cli.rendering.printing import Columns, note, print_drawn, print_fields, print_json, print_table
from jobfac.cli.rendering.text import cell, lasted
from jobfac.states import FINAL, HELD, RunState
from jobfac.views import serialization
from jobfac.views.runs import AttemptView, RunView, history_as_json

app = group("What ran, runs, and will run.")


def stop(
    run: RunId,
    now: Annotated[bool, typer.Option("--now", help="Kill at once, without the job's grace.")] = False,
    patience: Annotated[float, typer.Option("--patience", help="Seconds to wait for its end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Stop a run, wait for its end, and say what happened."""
    with backend() as factory:
        asked = factory.stop(run, now)
        ended = factory.wait(run, patience)
        if as_json:
            print_json(serialization.as_json(ended))
        elif asked.before in FINAL:
            note(f"Run {run} had already ended: {asked.before}.")
        elif ended.state in FINAL:
            typer.echo(f"run {run} was {asked.before} and is now {ended.state}: {ended.reason or ''}".rstrip(": "))
        if ended.state not in FINAL:
            fail(
                UNSUCCESSFUL,
                f"Run {run} was asked to stop and is still {ended.state} after {patience:g} s; its worker obeys "
                "when it can, or its lease's expiry settles it.",
            )


def retry(
    run: RunId,
    from_failed: Annotated[bool, typer.Option("--from-failed", help="Of a sequence: go on from what failed.")] = False,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    as_json: Json = False,
) -> None:
    """Run a finished run again, with the same arguments, payload and parameters: a new run.

    `--set` changes a parameter.
    """
    changes = read_settings(set_ or [], set_file)
    with backend() as factory:
        new = factory.retry(run, from_failed, changes)
    print_json(serialization.as_json(new)) if as_json else typer.echo(new.id)
    refuse_denied([new])


@app.command("list")
def list_runs(
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    states: Annotated[list[str] | None, typer.Option("--state", help="Only runs in this state; repeat.")] = None,
    since: Annotated[str | None, typer.Option(help="Only runs started since this time, or so long ago (2h).")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only runs with this value of a parameter; repeat."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> None:
    """Runs, newest first."""
    for word in states or []:
        if word not in list(RunState):
            fail(USAGE, f"--state must be one of {', '.join(RunState)}, not '{word}'.")
    moment = None if since is None else instant(since, "--since", back=True)
    values = {name: str(value) for name, value in read_pairs(parameter or [], "--parameter").items()}
    with backend() as factory:
        found = factory.runs(RunFilter(job, [RunState(word) for word in states or []], moment, limit, values))
    if as_json:
        print_json(serialization.all_as_json(found))
        return
    columns: Columns[RunView] = {
        "RUN": "id",
        "JOB": "job",
        "STATE": "state",
        "TRY": "attempt",
        "STARTED": "started_at",
        "TOOK": lasted,
        "EXIT": "exit_code",
        "WORKER": "worker",
        "WHY": _why,
    }
    print_table(found, columns, "no runs")


def _why(run: RunView) -> str:
    if run.state in HELD and run.progress is not None:
        return cell(f"{run.progress:.0%} {run.message or ''}")
    return cell(run.reason or run.exit_message or run.message)


@app.command("show")
def show_run(run: RunId, as_json: Json = False) -> None:
    """One run with its attempts and everything that happened to it; of a sequence the path that it took."""
    with backend() as factory:
        found = factory.run(run)
    if as_json:
        print_json(history_as_json(found))
        return
    print_fields(found.run._asdict())
    typer.echo("")
    columns: Columns[AttemptView] = {
        "TRY": "number",
        "STATE": _attempt_state,
        "STARTED": "started_at",
        "TOOK": lasted,
        "PID": "pid",
        "WORKER": "worker",
        "EXIT": "exit_code",
        "SIGNAL": "signal",
        "WHY": "reason",
    }
    if found.attempts:
        print_table(found.attempts, columns, "")
        typer.echo("")
    print_table(found.events, {"WHEN": "at", "TRY": "attempt", "WHAT": "event", "BY": "by", "DETAIL": "detail"}, "")
    if found.path:
        from jobfac.cli.rendering.tree import history_tree

        typer.echo("")
        print_drawn(history_tree(found.run, found.path))


def _attempt_state(attempt: AttemptView) -> str:
    return cell(attempt.state) or "running"
