"""`start`: start runs, with overrides of the definition."""

import errno
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from jobfac.cli.client import Backend, backend
from jobfac.cli.commands.monitoring.logs import follow_run
from jobfac.cli.common import (
    UNSUCCESSFUL,
    USAGE,
    Failure,
    JobId,
    Json,
    fail,
    instant,
    read_stdin,
    refuse_denied,
    seconds,
)
from jobfac.cli.parameters import read_settings
from jobfac.cli.rendering.printing import note, print_json
from jobfac.cli.rendering.text import printable
from jobfac.cli.streams import NO_ROOM, discard_output, reader_may_leave
from jobfac.cli.times import describe
from jobfac.errors import JobfacError
from jobfac.states import FINAL, RunState
from jobfac.views import serialization
from jobfac.views.runs import RunView

NAMED = 10
"""How many runs that did not succeed `--wait` names."""

Argument = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="An argument that replaces those of the definition; may be repeated."),
]
ArgumentsOf = Annotated[
    list[str] | None,
    typer.Option(metavar="JOB=JSON", help="For a sequence: the arguments of a job; may be repeated."),
]
PayloadOf = Annotated[
    list[str] | None,
    typer.Option(metavar="JOB=TEXT", help="For a sequence: the payload of a job; may be repeated."),
]
FromStep = Annotated[str | None, typer.Option(metavar="STEP", help="For a sequence: the step to begin with.")]
Priority = Annotated[int | None, typer.Option(min=-1000, max=1000, help="Runs with a higher priority start first.")]
Follow = Annotated[bool, typer.Option("--follow", help="Wait and show the output; with --json on standard error.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated. The same name again makes a list."),
]
SetFileOption = Annotated[
    str | None,
    typer.Option("--set-file", metavar="FILE", help="Parameters from a YAML or JSON file; `-` reads standard input."),
]
NotifyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="EVENT,...=CHANNEL:ADDRESS",
        help="A notification for this run only, such as failed,lost=email:ops@example.org; may be repeated. "
        "`jobfac help notifications` lists the channels.",
    ),
]


def start(
    job: JobId,
    argument: Argument = None,
    payload: Annotated[str | None, typer.Option(help="Text for the program; `-` reads standard input.")] = None,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    priority: Priority = None,
    delay: Annotated[str | None, typer.Option("--in", metavar="10m", help="Start after this duration.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Start at this time.")] = None,
    key: Annotated[str | None, typer.Option(help="Repeated starts with the same key return the same runs.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="The number of runs to start.")] = 1,
    arguments_of: ArgumentsOf = None,
    payload_of: PayloadOf = None,
    from_step: FromStep = None,
    notify: NotifyOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end. Exit code 0: it succeeded.")] = False,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Start a job and print the run's id, or those of all workers if it runs on each worker."""
    if delay is not None and at is not None:
        fail(USAGE, "--in and --at exclude each other; give one of them.")
    if count > 1 and follow:
        fail(USAGE, "--count cannot be combined with --follow; start one run at a time.")
    if key is not None and not key.strip():
        fail(USAGE, "--key must not be blank: all starts with a blank key would return the same run.")
    options: dict[str, Any] = {"arguments": argument or None, "priority": priority}
    options["payload"] = read_stdin() if payload == "-" else payload
    options["parameters"] = read_settings(set_ or [], set_file) or None
    options["delay"] = None if delay is None else seconds(delay, "--in")
    options["at"] = None if at is None else _understood(at)
    options["overrides"] = _overrides(arguments_of or [], payload_of or [], notify or [], from_step)
    with backend() as factory:
        runs = factory.start(job, options, key, count)
        several = count > 1 or runs[0].for_worker is not None
        if follow and len(runs) > 1:  # only now it is known; to fail would invite a second start
            note("The job runs on each worker; `jobfac logs -f RUN` shows the output of one. This waits for all.")
            follow, wait = False, True
        if not as_json and not follow:
            with reader_may_leave():
                typer.echo("\n".join(str(run.id) for run in runs))
        if follow or wait:
            runs = _finish(factory, runs, follow, as_json)
        if as_json:
            with reader_may_leave():
                print_json(serialization.all_as_json(runs) if several else serialization.as_json(runs[0]))
        unsuccessful = _note_unsuccessful(runs) if wait or follow else False
        refuse_denied(runs, has_key=key is not None)
        if unsuccessful:
            raise typer.Exit(UNSUCCESSFUL)


def _understood(at: str) -> datetime:
    """Parse the time of a start, and say on standard error how it was understood."""
    moment = instant(at, "--at")
    note(f"--at {at} is {describe(moment, datetime.now(UTC))}.")
    return moment


def _overrides(
    arguments_of: list[str], payload_of: list[str], notify: list[str], from_step: str | None
) -> dict[str, Any] | None:
    overrides: dict[str, Any] = {} if from_step is None else {"first_step": from_step}
    for pair in arguments_of:
        job, _, text = pair.partition("=")
        try:
            arguments = json.loads(text)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            fail(
                USAGE,
                f"--arguments-of must be JOB=JSON with a list of texts, such as extract='[\"--full\"]', not '{pair}'.",
            )
        overrides.setdefault("arguments", {})[job] = arguments
    for pair in payload_of:
        job, separator, text = pair.partition("=")
        if not separator:
            fail(USAGE, f"--payload-of must be JOB=TEXT, not '{pair}'.")
        overrides.setdefault("payloads", {})[job] = text
    if notify:
        overrides["notify"] = [_notify(text) for text in notify]
    return overrides or None


def _notify(text: str) -> dict[str, Any]:
    """Parse an option into an entry of ``notify`` of a definition."""
    from jobfac.definitions import DefinitionError, Recipient, read_notify

    events, _, to = text.partition("=")
    channel, _, address = to.partition(":")
    if channel not in Recipient.channels() or not address:
        fail(
            USAGE,
            "--notify must be EVENT,...=CHANNEL:ADDRESS, such as failed,lost=email:ops@example.org, with one of "
            f"{', '.join(Recipient.channels())}, not '{text}'.",
        )
    try:
        entry = read_notify([{"on": events.split(","), "to": {channel: address}}])[0]
    except DefinitionError as error:
        message = re.sub(r"^notify\[0\]\S*", "it", error.problems[0].message)
        fail(USAGE, f"--notify {text}: {message}" + ("" if message.endswith("?") else "."))
    return entry.model_dump(mode="json", exclude_defaults=True)


def _finish(factory: Backend, runs: list[RunView], follow: bool, as_json: bool) -> list[RunView]:
    """Wait for the end of those runs that were not denied. Returns all of them, as they are then."""
    admitted = [run for run in runs if run.state != RunState.DENIED]
    if not admitted:
        return runs
    with _continuing(admitted):
        done = [_follow(factory, admitted[0], as_json)] if follow else _wait(factory, admitted)
    ended = {run.id: run for run in done}
    return [ended.get(run.id, run) for run in runs]


def _wait(factory: Backend, runs: list[RunView]) -> list[RunView]:
    """Wait until all runs are final, with a line of progress on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    done: list[RunView] = []
    with console.status("waiting") as status:
        for run in runs:
            hold: str | None = None
            while run.state not in FINAL:
                details = f" {printable(run.message)}" if run.message else ""
                details += f" {run.progress:.0%}" if run.progress is not None else ""
                if run.held != hold:
                    hold = run.held
                    note(f"Run {run.id} waits: {hold}." if hold else f"Run {run.id} is no longer held.")
                status.update(Text(f"run {run.id} is {run.state}, {len(done)} of {len(runs)} done{details}"))
                run = factory.wait(run.id, 1.0)
            done.append(run)
    return done


def _follow(factory: Backend, run: RunView, as_json: bool) -> RunView:
    """Show the output of a run, and wait for its end even if nobody reads the output any more."""
    try:
        return follow_run(factory, run, aside=as_json)
    except OSError as error:  # who repeats a start that seems to have failed does all again
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        discard_output(sys.stderr if as_json else sys.stdout)
        why = NO_ROOM if error.errno == errno.ENOSPC else "Nobody reads the output any more."
        note(f"{why} Run {run.id} continues, and this command waits for its end.")
    return _wait(factory, [run])[0]


@contextmanager
def _continuing(runs: list[RunView]) -> Iterator[None]:
    """At Ctrl-C, and if the database or the API goes away, say that the runs continue."""
    first, last = runs[0].id, runs[-1].id
    try:
        yield
    except KeyboardInterrupt:
        many = f"{len(runs)} runs continue ({first} to {last}); `jobfac stop RUN` stops one"
        note(f"Interrupted; {many if len(runs) > 1 else f'run {first} continues; `jobfac stop {first}` stops it'}.")
        raise typer.Exit(130) from None
    except JobfacError as error:
        many = f"{len(runs)} runs were started ({first} to {last}) and continue; `jobfac runs list` shows them."
        one = f"Run {first} was started and continues; `jobfac runs show {first}` shows how it ends."
        raise Failure(error.exit_code, f"{error} {many if len(runs) > 1 else one}") from error


def _note_unsuccessful(runs: list[RunView]) -> bool:
    """Say of each run that was not denied why it has not succeeded. Returns whether there are any."""
    unsuccessful = [run for run in runs if run.state not in (RunState.SUCCEEDED, RunState.DENIED)]
    for run in unsuccessful[:NAMED]:
        note(f"Run {run.id} of job '{run.job}' ended {run.state}: {printable(run.reason or 'no reason was given')}.")
    if len(unsuccessful) > NAMED:
        note(f"And {len(unsuccessful) - NAMED:,} more of these {len(runs):,} runs did not succeed.")
    return bool(unsuccessful)
