"""Shared by the commands: settings, the database, errors and exit codes, parsing of options."""

import getpass
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from jobfac.cli import completion
from jobfac.cli.listing import PLAIN
from jobfac.cli.streams import NOT_UTF8 as NOT_UTF8
from jobfac.cli.streams import note
from jobfac.errors import DONE as DONE
from jobfac.errors import NOT_FOUND as NOT_FOUND
from jobfac.errors import REFUSED as REFUSED
from jobfac.errors import UNREACHABLE as UNREACHABLE
from jobfac.errors import UNSUCCESSFUL as UNSUCCESSFUL
from jobfac.errors import USAGE as USAGE
from jobfac.errors import JobfacError, denied
from jobfac.machine.bounded import MOST
from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.database.engine import Database
    from jobfac.operations.caller import Caller
    from jobfac.settings import Settings
    from jobfac.views.runs import RunView

T = TypeVar("T")

MAX_ID = 2**63 - 1
"""The greatest id."""

MAX_VERSION = 2**31 - 1
"""The greatest version of a job."""

RunId = Annotated[int, typer.Argument(min=1, max=MAX_ID, help="The run's id.", autocompletion=completion.runs)]
JobId = Annotated[str, typer.Argument(help="The job's id.", autocompletion=completion.jobs)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


class Failure(JobfacError):
    """An error of a command, with its exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def exit_code(self) -> int:
        return self.code


def fail(code: int, sentence: str) -> NoReturn:
    """End the command with an exit code and a sentence on standard error."""
    raise Failure(code, sentence)


def refuse_denied(runs: "Iterable[RunView]", *, has_key: bool = False) -> None:
    """Fail if one of these runs was denied. ``has_key``: they were started with a key."""
    every = list(runs)
    refused = [run for run in every if run.state == RunState.DENIED]
    for run in refused:
        more = f" Denied: {len(refused)} of {len(every)} runs." if len(every) > 1 else ""
        fail(REFUSED, denied(run.id, run.job, run.reason, has_key=has_key) + more)


def group(help_text: str) -> typer.Typer:
    """Create a group of commands."""
    return typer.Typer(help=help_text, **PLAIN)


def settings(**overrides: Any) -> "Settings":
    """Load the settings. ``overrides``: options of the command; None: not given."""
    from jobfac.settings import SettingsError, load

    warn_of_misspelt()
    try:
        return load(**overrides)
    except SettingsError as error:
        fail(USAGE, str(error))


@cache
def warn_of_misspelt() -> None:
    """Say once on standard error which variables are no settings but nearly spelt like one."""
    from jobfac.settings.misspelt import misspelt

    if "_JOBFAC_COMPLETE" in os.environ:  # the shell asks for completions, and a note would garble the line
        return
    for name, meant in misspelt(os.environ).items():
        note(f"Nothing reads {name}. Did you mean {meant}?")


@contextmanager
def database(program: str = "jobfac", lock_wait: float | None = None) -> "Iterator[Database]":
    """Open the configured database.

    Args:
        program: the program name of its sessions on the server.
        lock_wait: as in ``Database``.
    """
    from jobfac.database.engine import Database

    loaded = settings()
    _check_file(loaded)
    db = Database(loaded.database_url, program, lock_wait, loaded.sequence_limit)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def role_database(loaded: "Settings", program: str, lock_wait: float | None = None) -> "Iterator[Database]":
    """Do what ``database`` does, and say in the log if other users may read the database's file."""
    from jobfac.settings import sqlite_path
    from jobfac.settings.ownership import open_to_others
    from jobfac.telemetry.logs import logger

    with database(program, lock_wait) as db:
        path = sqlite_path(loaded.database_url)
        for name, mode in open_to_others(path) if path is not None else ():
            said = f"the database's file is open to other users (mode {mode:04o}); `chmod 600 {name}`"
            logger("jobfac.database").warning(said, action="database_open")
        yield db


def upgrade_file(loaded: "Settings") -> None:
    """Upgrade the schema of a SQLite database. A missing one is made, as the log says: perhaps its disk is away."""
    from jobfac.settings import sqlite_path
    from jobfac.telemetry.logs import logger

    path = sqlite_path(loaded.database_url)
    if path is None:
        return
    is_missing = not os.path.exists(path) or os.path.getsize(path) == 0  # noqa: PTH110, PTH202
    with database() as db:
        db.upgrade()
    if is_missing:
        logger("jobfac.database").warning("a new, empty database was made", action="database_made", path=str(path))


def _check_file(loaded: "Settings") -> None:
    """Fail at once if the file of a SQLite database cannot exist or be read, instead of retrying."""
    from jobfac.settings import Settings, sqlite_path

    url = loaded.database_url
    path = sqlite_path(url)
    if path is not None and os.path.isdir(path):  # noqa: PTH112 - returns False for an impossible name
        fail(UNREACHABLE, f"The database {url} cannot be reached: {path} is a folder. Check JOBFAC_DATABASE_URL.")
    if loaded.api_url and url == Settings.database_url:
        fail(
            USAGE,
            "This command needs the database and does not work through JOBFAC_API_URL: set JOBFAC_DATABASE_URL, "
            "or unset JOBFAC_API_URL.",
        )
    if path is None:
        return
    if os.path.exists(path):  # noqa: PTH110 - as above
        if not os.access(path, os.R_OK):
            fail(UNREACHABLE, f"The database {url} cannot be reached: {caller()} may not read {path}; allow it.")
        return
    if not os.path.isdir(path.parent):  # noqa: PTH112 - as above
        fail(
            UNREACHABLE,
            f"The database {url} cannot be reached: there is no folder {path.parent} for this user. Check "
            "JOBFAC_DATABASE_URL.",
        )


def caller() -> str:
    """Return the name of the user for events and the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def local_caller() -> "Caller":
    """Return the user as the caller of operations. A user with access to the database may access all categories."""
    from jobfac.operations.caller import Caller

    return Caller(caller())


def seconds(text: str, option: str) -> float:
    """Return the seconds of a duration such as 10m; a number is in seconds."""
    from jobfac.definitions import read_duration

    try:
        return read_duration(text if not re.fullmatch(r"\d+(\.\d+)?", text) else float(text))
    except ValueError as error:
        fail(USAGE, f"{option} {error}.")


def instant(text: str, option: str, back: bool = False, zone: tzinfo | None = None) -> datetime:
    """Parse a time as ``times.read_time`` does. ``back``: also a duration before now (2h), or a word for a day."""
    from jobfac.times import read_time

    return _time(option, lambda now: read_time(text, now, back=back, zone=zone))


def period_end(text: str, option: str, zone: tzinfo | None = None) -> datetime:
    """Parse the end of a period. The end of a day is meant by a day."""
    from jobfac.times import read_end

    return _time(option, lambda now: read_end(text, now, zone))


def utc_day(text: str, option: str) -> date:
    """Parse a day in UTC: a date, a word for a day, or a time or duration in it."""
    from jobfac.times import read_day

    return _time(option, lambda now: read_day(text, now))


def _time(option: str, read: Callable[[datetime], T]) -> T:
    try:
        return read(datetime.now(UTC))
    except ValueError as error:
        fail(USAGE, f"{option} {error}.")
    except OverflowError:
        fail(USAGE, f"{option} is too far away; give a time in the years 1 to 9998.")


def is_terminal() -> bool:
    """Whether a person types the answers."""
    return sys.stdin.isatty()


def confirm(question: str, yes: bool) -> None:
    """Ask a person before something is removed. ``yes``: the command line answered. Does not ask in a script.

    Raises:
        typer.Abort: the answer is no.
    """
    if not yes and is_terminal():
        typer.confirm(question, abort=True, err=True)


def read_stdin() -> str:
    """Read all of standard input as text that can be stored."""
    try:
        text = stdin_text()
        text.encode()
    except UnicodeError:
        fail(USAGE, f"Standard input {NOT_UTF8}")
    return text


def stdin_text() -> str:
    """Read all of standard input. Fails if it is larger than a file may be."""
    if len(text := sys.stdin.read(MOST + 1)) > MOST:
        fail(USAGE, f"Standard input has more than {MOST // 1024 // 1024} MiB, which is the most.")
    return text
