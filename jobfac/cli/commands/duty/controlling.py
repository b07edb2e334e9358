"""`stop`, `retry` and `ack`: some runs, or all runs that a filter finds."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jobfac.cli import completion
from jobfac.cli.client import Backend, backend
from jobfac.cli.commands.start import SetFileOption, SetOption
from jobfac.cli.common import MAX_ID, UNSUCCESSFUL, USAGE, Json, Yes, confirm, fail, is_terminal, refuse_denied
from jobfac.cli.parameters import read_settings
from jobfac.cli.rendering.printing import Columns, note, print_json, print_list
from jobfac.cli.selection import selecting
from jobfac.cli.streams import escaped, reader_may_leave
from jobfac.errors import Interrupted, JobfacError
from jobfac.states import FINAL, JobKind
from jobfac.views import serialization
from jobfac.views.results.many import ManyView, Result

if TYPE_CHECKING:
    from jobfac.store.history.search import Filter

BATCH = 100
"""The maximum number of runs in one request."""

OneRun = Annotated[
    int | None,
    typer.Argument(
        min=1,
        max=MAX_ID,
        metavar="[RUN]",
        help="The run's id; or select runs with options.",
        autocompletion=completion.runs,
    ),
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of selected runs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the selected runs.")]


@selecting
def stop(
    run: OneRun = None,
    now: Annotated[bool, typer.Option("--now", help="Kill the program, without its grace period.")] = False,
    wait_for: Annotated[float, typer.Option("--patience", help="Seconds to wait for the end of one run.")] = 60.0,
    all_active: Annotated[bool, typer.Option("--all", help="Stop all selected runs that have not ended.")] = False,
    *,
    wanted: "Filter",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Stop a run and wait for its end, or stop many.

    Options say which, such as --job J --all; on a terminal the command shows them and asks.
    """
    with backend() as factory:
        if not _is_many(run, wanted, all_active or dry_run):
            assert run is not None
            _stop_one(factory, run, now, wait_for, as_json)
            return
        if not (all_active or wanted.states or dry_run):
            fail(USAGE, "Select the runs to stop: --all for all that have not ended, or --state.")
        shown = factory.choose_to_stop(wanted, limit)
        _act(shown, "stop", dry_run, yes, as_json, lambda ids: factory.stop_many(ids, now), limit)


@selecting
def retry(
    run: OneRun = None,
    from_failed: Annotated[
        bool,
        typer.Option(
            "--from-failed", help="Continue a sequence from the step that failed, without what succeeded there."
        ),
    ] = False,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    *,
    wanted: "Filter",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Run a finished run again, or many.

    A new run has the arguments, payload and parameters of the former; `--set` changes a parameter.
    Options say which, such as --state failed --since 2h.

    Of many runs each is retried at most once, oldest first, so the command may be repeated.
    """
    changes = read_settings(set_ or [], set_file)
    with backend() as factory:
        if not _is_many(run, wanted, dry_run):
            assert run is not None
            new = factory.retry(run, from_failed, changes)
            with reader_may_leave():
                print_json(serialization.as_json(new)) if as_json else typer.echo(new.id)
            refuse_denied([new])
            return
        if from_failed or changes:
            fail(USAGE, "--from-failed, --set and --set-file are for one run; give its id.")
        shown = factory.choose_to_retry(wanted, limit)
        _act(shown, "retry", dry_run, yes, as_json, factory.retry_many, limit)


@selecting
def acknowledge(
    runs: Annotated[
        list[int] | None,
        typer.Argument(
            min=1, max=MAX_ID, metavar="[RUN]...", help="Runs that failed; or say which runs by options.",
            autocompletion=completion.runs,
        ),
    ] = None,
    *,
    wanted: "Filter",
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Acknowledge failures, so that `top` and v_failures no longer show them first.

    Options say which, such as --job J --since 12h; they choose failures that nobody has acknowledged.
    """
    with backend() as factory:
        if not _is_many(runs[0] if runs else None, wanted, dry_run):
            found = factory.acknowledge(runs or [])
            if as_json:
                print_json(serialization.all_as_json(found))
                return
            for run in found:
                typer.echo(f"run {run.id} of job '{run.job}' is acknowledged by {escaped(run.acknowledged_by or '')}")
            return
        shown = factory.choose_to_acknowledge(wanted, limit)
        _act(shown, "acknowledge", dry_run, yes, as_json, factory.acknowledge_many, limit)


def _is_many(run: int | None, wanted: "Filter", more: bool) -> bool:
    """Whether the options choose the runs. One run and options exclude each other."""
    by_options = more or any(wanted)
    if run is None and not by_options:
        fail(USAGE, "Give the id of a run, or options that select runs, such as --job.")
    if run is not None and by_options:
        fail(USAGE, "The id of a run and options that select runs exclude each other; give one of them.")
    return run is None


def _act(
    shown: Sequence[ManyView],
    verb: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    act: Callable[[Sequence[int]], list[ManyView]],
    limit: int,
) -> None:
    """Show the runs, ask a person, and act on exactly these, batch by batch."""
    more = f" There may be more than these {limit:,}: raise --limit." if len(shown) >= limit else ""
    chosen = [line.id for line in shown if line.result is Result.CHOSEN]
    if dry_run:
        _print(shown, as_json)
        if not as_json or more:
            runs = "1 run" if len(chosen) == 1 else f"{len(chosen)} runs"
            note(f"{runs} to {verb}, {len(shown) - len(chosen)} skipped; nothing was changed.{more}")
        return
    if is_terminal() and not yes and chosen:
        _print(shown, as_json=False)
        confirm(f"{verb.capitalize()} these {len(chosen)} runs?", yes)
    lines = [line for line in shown if line.result is not Result.CHOSEN]
    interrupted: JobfacError | KeyboardInterrupt | None = None
    for first in range(0, len(chosen), BATCH):
        try:
            lines += act(chosen[first : first + BATCH])
        except (JobfacError, KeyboardInterrupt) as error:
            interrupted = error
            more = f" The other {len(shown) - len(lines)} are in doubt; repeat the command.{more}"
            break
    with reader_may_leave():
        _print(lines, as_json)
    number = {result: sum(line.result is result for line in lines) for result in Result}
    if not as_json or more:
        word = {"stop": "stopped", "retry": "retried", "acknowledge": "acknowledged"}[verb]
        if ending := _ending(lines):
            word, more = "asked to stop", f" Not ended yet: {ending}, see `jobfac runs list --state stopping`.{more}"
        counts = f"{number[Result.DONE]} {word}, {number[Result.SKIPPED]} skipped, {number[Result.REFUSED]} refused."
        note(counts + more)
    if interrupted:
        raise interrupted
    if number[Result.REFUSED]:
        raise typer.Exit(UNSUCCESSFUL)


def _ending(lines: Sequence[ManyView]) -> int:
    """Return how many of the runs have been asked to stop and have not ended: nobody waits for them."""
    return sum(line.result is Result.DONE and line.reason is not None for line in lines)


def _print(lines: Sequence[ManyView], as_json: bool) -> None:
    columns: Columns[ManyView] = {
        "RUN": "id",
        "JOB": "job",
        "STATE": "state",
        "RESULT": "result",
        "NEW RUN": "new_run",
        "WHY": "reason",
    }
    print_list(lines, columns, "no runs match", as_json)


def _stop_one(factory: Backend, run: int, now: bool, wait_for: float, as_json: bool) -> None:
    stopped = factory.stop(run, now)
    try:
        current = factory.wait(run, wait_for)
    except JobfacError as error:
        raise error.with_more(f"Run {run} was asked to stop; `jobfac runs show {run}` shows how it ends.") from error
    except KeyboardInterrupt:
        asked = f"Interrupted: run {run} was asked to stop; `jobfac runs show {run}` shows how it ends."
        raise Interrupted(asked) from None
    if as_json:
        print_json(serialization.as_json(current))
    elif stopped.before in FINAL:
        note(f"Run {run} had already ended: {stopped.before}.")
    elif current.state in FINAL:
        reason = f": {escaped(current.reason)}" if current.reason else ""
        with reader_may_leave():
            typer.echo(f"run {run} was {stopped.before} and is now {current.state}{reason}")
    if current.state not in FINAL:
        when = "its worker stops it, or when another worker or a scheduler finds the lease of that one over"
        if current.kind is JobKind.SEQUENCE:
            when = "the runs that it has started have ended"
        fail(
            UNSUCCESSFUL,
            f"Run {run} was asked to stop and is still {current.state} after {wait_for:g} s; it ends when {when}.",
        )
