"""`import crontab`: tables of users and of the system."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jobfac.cli.commands.importing.zones import Zone, zone_of
from jobfac.cli.common import NOT_FOUND, USAGE, Failure, fail, stdin_text
from jobfac.cli.rendering.printing import note, print_text
from jobfac.machine.bounded import read_text

if TYPE_CHECKING:
    from jobfac.importers.crontab import Table


SPOOLS = ("/var/spool/cron", "/etc/crontabs")
"""Where cron, and in Alpine busybox, keeps the tables of users, or in a folder of it, each in a file with the name of
its user."""

NO_TABLE = re.compile(r"^[.#]|~$|\.(rpm(save|orig|new)|dpkg-\w+)$|^cron\.update$")
"""The names of files that no cron reads."""


ENVIRONMENT = Path("/etc/environment")
"""Variables for all commands of cron on this machine, by PAM. Not ``PATH``: cron has its own."""

VARIABLE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=\S", re.MULTILINE)


class _Found(NamedTuple):
    name: str
    table: "Table"
    system: bool
    user: str | None


def crontab(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Crontabs, or folders such as /etc/cron.d; `-` reads standard input.", show_default=False),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Read the crontab of this user instead.")] = None,
    system: Annotated[
        bool | None,
        typer.Option(
            "--system/--no-system",
            help="Whether each line names a user; default: yes below /etc, not in /etc/crontabs.",
        ),
    ] = None,
    timezone: Zone = None,
) -> None:
    """Print crontabs as definitions. Lines that cannot be converted cause warnings."""
    from jobfac import definitions as d
    from jobfac.importers.crontab import from_table

    if bool(files) == (user is not None):
        fail(USAGE, "Give either files or --user.")
    zone = zone_of(timezone)
    jobs: dict[str, Any] = {}
    taken: dict[str, int] = {}
    of_machine = False
    for found in _tables(files or [], user, system):
        of_machine |= found.system or found.user is not None
        read, warnings = from_table(found.table, system=found.system, name=found.name, timezone=zone, user=found.user)
        for name, body in read.items():
            jobs[free_name(name, taken)] = body
        if read and not found.system and found.user is None:
            warnings.append(
                f"{found.name} names no user: its jobs run as the worker's, even if that is root, and in its "
                "directory, not in a home; add 'user' and 'directory'"
            )
        for warning in warnings:
            note(f"warning: {warning}")
    if jobs:
        note("warning: cron goes on with these lines; comment them out there when you apply the jobs, or both run them")
    if jobs and of_machine and (names := _variables()):
        note(
            f"warning: cron gives its commands the variables of {ENVIRONMENT}, too: {', '.join(names)}; add those that "
            "the jobs need to their 'environment'"
        )
    try:
        print_text(d.dump(d.from_data({"jobs": jobs})))
    except d.DefinitionError as error:
        raise Failure(USAGE, "\n".join(str(problem) for problem in error.problems)) from None


def _tables(files: list[Path], user: str | None, system: bool | None) -> Iterator[_Found]:
    from jobfac.importers.crontab import CrontabError, Table, user_table

    if user is not None:
        try:
            yield _Found(user, user_table(user), False, user)
        except CrontabError as error:
            fail(NOT_FOUND, f"{error}.")
    for file in files:
        for path in _inside(file):
            text = stdin_text() if str(path) == "-" else _text(path)
            below_etc = path.absolute().is_relative_to("/etc") and not _is_of_user(path)
            names_users = below_etc if system is None else system
            name = "crontab" if str(path) == "-" else str(path)
            owner = path.name if not names_users and _is_of_user(path) else None
            yield _Found(name, Table(tab=text, user=False if names_users else None), names_users, owner)


def _inside(file: Path) -> list[Path]:
    """The file, or the tables of a folder. A warning names each file that some crons read and others do not."""
    if not file.is_dir():
        return [file]
    names_are_users = _is_of_user(file)
    found = []
    for path in sorted(path for path in file.iterdir() if path.is_file() and not NO_TABLE.search(path.name)):
        if names_are_users or re.fullmatch(r"[A-Za-z0-9_-]+", path.name):
            found.append(path)
        else:
            note(f"warning: {path} was left out: cronie reads it, Debian's cron does not; name the file to import it")
    if not found:
        note(f"warning: {file} holds no table itself; name the folder or the files that do")
    return found


def _is_of_user(path: Path) -> bool:
    return any(path.absolute().is_relative_to(spool) for spool in SPOOLS)


def _variables() -> list[str]:
    """Return the names of the variables that this machine gives to all commands of cron."""
    try:
        text = read_text(ENVIRONMENT, errors="surrogateescape")
    except OSError:
        return []
    return [name for name in dict.fromkeys(VARIABLE.findall(text)) if name != "PATH"]


def _text(file: Path) -> str:
    try:
        return read_text(file, errors="surrogateescape")
    except OSError as error:
        fail(NOT_FOUND, f"{file} cannot be read: {error.strerror}.")


def free_name(name: str, taken: dict[str, int]) -> str:
    """Return the name, or the name with the first free number.

    ``taken``: by name in lower case, the number that the last name made of it has.
    """
    found, number = name, taken.get(name.lower(), 1)
    while found.lower() in taken:
        number += 1
        found = f"{name}-{number}"
    taken[name.lower()] = number
    taken.setdefault(found.lower(), 1)
    return found
