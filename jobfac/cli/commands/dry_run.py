"""`try`: run one program as a worker would, without a database."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from jobfac.cli.commands.start import SetFileOption, SetOption
from jobfac.cli.common import NOT_FOUND, NOT_UTF8, UNSUCCESSFUL, USAGE, Json, fail, read_stdin, seconds
from jobfac.cli.listing import PLAIN
from jobfac.cli.parameters import read_settings
from jobfac.cli.rendering.printing import note, print_fields, print_json
from jobfac.cli.rendering.text import printable
from jobfac.cli.signals import on_signal
from jobfac.machine.bounded import read_bytes

if TYPE_CHECKING:
    from jobfac.definitions import Job
    from jobfac.worker.dry_run import DryRunResult

app = typer.Typer(**PLAIN)


TriggerPath = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Run as if this file had arrived and started the job.")
]
TriggerRun = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="Run as if the end of this run had started the job, such as "
        '{"job": "extract", "outputs": {"rows": 12}}; also: id, state.',
    ),
]


@app.command("try", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def try_program(
    program: Annotated[
        list[str],
        typer.Argument(
            metavar="PROGRAM", help="The program and its arguments. With --file: the id of a job and its arguments."
        ),
    ],
    payload: Annotated[str | None, typer.Option(help="Text for the program; `-` reads standard input.")] = None,
    payload_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Read the payload from a file.")] = None,
    set_: SetOption = None,
    set_file: SetFileOption = None,
    timeout: Annotated[str | None, typer.Option(metavar="30m", help="Stop the program after this duration.")] = None,
    grace: Annotated[str | None, typer.Option(metavar="10s", help="The time to exit after a stop.")] = None,
    aware: Annotated[
        bool, typer.Option("--aware", help="Use the result that the program reports, not its exit code.")
    ] = False,
    environment: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A variable of the environment; may be repeated.")
    ] = None,
    directory: Annotated[str | None, typer.Option(metavar="PATH", help="Working directory; default: this one.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the job from this file of definitions.")] = None,
    trigger_path: TriggerPath = None,
    trigger_run: TriggerRun = None,
    as_json: Json = False,
) -> None:
    """Run a program as a worker would, without a database, and show what would have been recorded.

    The program has the environment, payload, report file, limits and stops of a run. Its output is shown as it is
    written, its reports on standard error. Exit code 0: the run would have succeeded. Options that both know, such
    as --timeout, belong to `try`; what follows `--` belongs to the program.
    """
    from jobfac.states import Stop
    from jobfac.worker.dry_run import DryRun

    variables = _variables(environment or []) or None
    options: dict[str, Any] = {"aware": aware or None, "directory": directory, "environment": variables}
    for option, value in {"timeout": timeout, "grace": grace}.items():
        options[option] = None if value is None else seconds(value, f"--{option}")
    changes = {name: value for name, value in options.items() if value is not None}
    job, definition, arguments = _definition(program, file, changes)
    texts = _payload(payload, payload_file), _parameters(file, set_, set_file), _trigger(trigger_path, trigger_run)
    with tempfile.TemporaryDirectory(prefix="jobfac-try-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the program may run as another user
        screen = _Screen(quiet=as_json)
        dry_run = DryRun(job, definition, folder, screen, arguments, *texts)
        on_signal(lambda first: dry_run.stop(Stop.POLITE if first else Stop.NOW))
        document = _document(job, dry_run.run())
    print_json({**document, "reports": screen.reports}) if as_json else _print(document)
    raise typer.Exit(0 if document["state"] == "succeeded" else UNSUCCESSFUL)


class _Screen:
    """Shows the output of the program, and reports on standard error. ``quiet``: everything on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.reports: list[dict[str, Any]] = []
        self._out = sys.stderr if quiet else sys.stdout
        self._began = time.monotonic()

    def output(self, stream: str, data: bytes) -> None:
        target = self._out if stream == "stdout" else sys.stderr
        target.buffer.write(data)
        target.flush()

    def report(self, progress: float | None, message: str | None) -> None:
        after = round(time.monotonic() - self._began, 2)
        self.reports.append({"seconds": after, "progress": progress, "message": message})
        words = ([] if progress is None else [f"{progress:.0%}"]) + ([] if message is None else [message])
        note(f"jobfac: {printable(' '.join(words))}")

    def remark(self, sentence: str) -> None:
        note(f"jobfac: {sentence}")


def _trigger(path: Path | None, run: str | None) -> dict[str, Any]:
    """Return what a run knows about the file or the run that started it."""
    if path is not None and run is not None:
        fail(USAGE, "--trigger-path and --trigger-run cannot both have started the job; leave one out.")
    if run is not None:
        return {"run": {"id": 0, "state": "succeeded", "outputs": {}, **_ended(run)}}
    if path is None:
        return {}
    try:
        return {"path": str(path.absolute()), "name": path.name, "size": path.stat().st_size}
    except OSError as error:
        fail(USAGE, f"--trigger-path {path} cannot be read: {error.strerror}.")


def _ended(text: str) -> dict[str, Any]:
    kinds = {"id": int, "job": str, "state": str, "outputs": dict}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or "job" not in found
        or not all(name in kinds and isinstance(value, kinds[name]) for name, value in found.items())
    ):
        fail(USAGE, f'--trigger-run must be JSON such as {{"job": "extract", "outputs": {{"rows": 12}}}}, not {text}.')
    return found


def _variables(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[1]:
            fail(USAGE, f"--environment must be K=V, such as MODE=nightly, not '{pair}'.")
    return dict(pair.partition("=")[::2] for pair in pairs)


def _payload(text: str | None, file: Path | None) -> str | None:
    if text is not None and file is not None:
        fail(USAGE, "--payload and --payload-file exclude each other; give one of them.")
    if file is None:
        return read_stdin() if text == "-" else text
    try:
        return read_bytes(file).decode()
    except OSError as error:
        fail(USAGE, f"--payload-file {file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        fail(USAGE, f"--payload-file {file} {NOT_UTF8}")


def _parameters(file: Path | None, given: list[str] | None, values: str | None) -> dict[str, Any]:
    """Return the parameters that the options give."""
    if file is None and (given or values):
        fail(USAGE, "--set and --set-file need --file, because only the definition of a job has parameters.")
    return read_settings(given or [], values)


def _definition(words: list[str], file: Path | None, changes: dict[str, Any]) -> "tuple[str, Job, list[str] | None]":
    """Return the job's id, its definition with the changes, and the arguments that replace the definition's, if any."""
    from jobfac.definitions import Job, canonical, from_canonical, load

    if file is None:
        name, arguments = Path(words[0]).name, None
        body: dict[str, Any] = {"command": words}
    else:
        name, arguments = words[0], words[1:] or None
        found = load(file)
        jobs = found.jobs
        if name not in jobs:
            fail(NOT_FOUND, f"{file} has no job '{name}'; it has {', '.join(sorted(jobs)) or 'none'}.")
        if not isinstance(jobs[name], Job):
            fail(USAGE, f"'{name}' is a sequence; `jobfac try` runs one program, such as a job of its steps.")
        for warning in (one for one in found.warnings if one.job == name):
            note(f"warning: {warning}")
        body = canonical(jobs[name])
    if "environment" in changes:
        changes["environment"] = {**body.get("environment", {}), **changes["environment"]}
    definition = from_canonical(name, {**body, **changes})
    assert isinstance(definition, Job)
    return name, definition, arguments


def _document(job: str, result: "DryRunResult") -> dict[str, Any]:
    import json

    outcome = result.outcome
    return {
        "job": job,
        "state": str(outcome.state),
        "seconds": round(result.seconds, 3),
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "reason": outcome.reason,
        "exit_message": outcome.exit_message,
        "progress": result.progress,
        "message": result.message,
        "outputs": json.loads(outcome.outputs) if outcome.outputs else None,
        "retry_after": outcome.retry_after,
        "output": {name: stream._asdict() for name, stream in result.streams.items()},
    }


def _print(document: dict[str, Any]) -> None:
    facts = {key: value for key, value in document.items() if value is not None and key not in ("job", "output")}
    facts["seconds"] = f"{document['seconds']:.2f}"
    for name, stream in document["output"].items():
        if stream["path"] or stream["size"]:
            cut = f", {stream['cut']:,} of them removed" if stream["cut"] else ""
            facts[name] = stream["path"] or f"{stream['size']:,} bytes{cut}"
    print_fields(facts, write=lambda line: note(f"jobfac: {line}"))


command = get_command(app)
