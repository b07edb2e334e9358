"""What the commands share: settings, errors and exit codes, reading of options."""

import getpass
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobfac.cli.listing import PLAIN
from jobfac.errors import DONE as DONE
from jobfac.errors import NOT_FOUND as NOT_FOUND
from jobfac.errors import REFUSED as REFUSED
from jobfac.errors import UNREACHABLE as UNREACHABLE
from jobfac.errors import UNSUCCESSFUL as UNSUCCESSFUL
from jobfac.errors import USAGE as USAGE
from jobfac.errors import JobfacError
from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.database.engine import Database
    from jobfac.operations.caller import Caller
    from jobfac.settings import Settings
    from jobfac.views.runs import RunView

MOST = 2**63 - 1
"""The greatest id."""

NO_TEXT = "is not text in UTF-8; a program may get bytes as base64, or in a file of its own."
"""What is said of a payload or an argument that no database stores."""

RunId = Annotated[int, typer.Argument(min=1, max=MOST, help="The run's id.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


class Failure(JobfacError):
    """An error of a command itself, with the exit code that it names."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def exit_code(self) -> int:
        return self.code


def fail(code: int, sentence: str) -> NoReturn:
    """End the command with this sentence on standard error."""
    raise Failure(code, sentence)


def refuse_denied(runs: "Iterable[RunView]") -> None:
    """End the command if one of these runs was denied."""
    for run in runs:
        if run.state == RunState.DENIED:
            fail(REFUSED, f"Run {run.id} of job '{run.job}' was denied: {run.reason}.")


def group(help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help_text, **PLAIN)


def settings(**overrides: Any) -> "Settings":
    """The settings that hold here, the command's own options first."""
    from jobfac.settings import SettingsError, load

    try:
        return load(**overrides)
    except SettingsError as error:
        fail(USAGE, str(error))


@contextmanager
def database(program: str = "jobfac") -> "Iterator[Database]":
    """The configured database, closed at the end; ``program`` is what a DBA sees of it in the list of sessions."""
    from jobfac.database.engine import Database

    found = settings()
    _check_place(found)
    db = Database(found.database_url, program, found.sequence_limit)
    try:
        yield db
    finally:
        db.close()


def _check_place(found: "Settings") -> None:
    """Fail if no database can be there, without waiting for one to come."""
    from jobfac.settings import Settings, sqlite_path

    url = found.database_url
    path = sqlite_path(url)
    if path is not None and os.path.isdir(path):  # noqa: PTH112 - false, too, for a name that no file can have
        fail(UNREACHABLE, f"The database {url} cannot be reached: {path} is a folder. Check JOBFAC_DATABASE_URL.")
    if path is None:
        return
    if os.path.exists(path):  # noqa: PTH110 - as above
        if not os.access(path, os.R_OK):
            fail(UNREACHABLE, f"The database {url} cannot be reached: {caller()} may not read {path}; allow it.")
        return
    if found.api_url and url == Settings.database_url:
        fail(
            USAGE,
            "This command does not go through JOBFAC_API_URL, it needs the database itself: set JOBFAC_DATABASE_URL, "
            "or unset JOBFAC_API_URL.",
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112 - as above
        fail(
            UNREACHABLE,
            f"The database {url} cannot be reached: there is no folder {path.parent}. Check JOBFAC_DATABASE_URL.",
        )


def caller() -> str:
    """Who types: the name that events and the audit show."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def local_caller() -> "Caller":
    """Who types, for operations on the database: a person with access to the database, whom no category limits."""
    from jobfac.operations.caller import Caller

    return Caller(caller())


def seconds(text: str, option: str) -> float:
    """A duration such as 10m, in seconds."""
    from jobfac.definitions import read_duration

    try:
        return read_duration(text if not re.fullmatch(r"\d+(\.\d+)?", text) else float(text))
    except ValueError as error:
        fail(USAGE, f"{option} {error}.")


def instant(text: str, option: str, back: bool = False) -> datetime:
    """A moment: RFC 3339, or local time without an offset; with ``back`` also a duration before now, such as 2h."""
    if back and re.fullmatch(r"[\d.]+[a-z]+.*", text):
        return datetime.now(UTC) - timedelta(seconds=seconds(text, option))
    try:
        # By way of UTC, which the ends of the calendar do not have in every zone.
        return datetime.fromisoformat(text).astimezone(UTC).astimezone()
    except (ValueError, OverflowError):
        fail(USAGE, f"{option} must be a time such as 2027-01-31T22:00:00+01:00 or '2027-01-31 22:00', not '{text}'.")


def on_signal(act: Callable[[bool], None]) -> None:
    """Call ``act(True)`` at the first TERM or INT, ``act(False)`` at later ones. Handlers only set flags."""
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        act(count == 1)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def prepare_streams() -> None:
    """A standard stream that whoever started us has closed is there and empty; a letter that standard output cannot
    spell is escaped instead of an error."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as we live
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def piped() -> str:
    """All of standard input."""
    try:
        text = sys.stdin.read()
        text.encode()
    except UnicodeError:
        fail(USAGE, f"Standard input {NO_TEXT}")
    return text
