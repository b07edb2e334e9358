"""`import agent`: the jobs of SQL Server Agent."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from jobfac.cli.commands.importing.zones import Zone, zone_of
from jobfac.cli.common import NOT_FOUND, UNREACHABLE, USAGE, Failure, fail
from jobfac.cli.rendering.printing import Columns, note, print_table, print_text
from jobfac.cli.rendering.text import coloured
from jobfac.machine.bounded import read_bytes

if TYPE_CHECKING:
    from jobfac.importers.agent import Agent, Defined


class Compared(NamedTuple):
    """The next run of a schedule in Agent and in jobfac; None: there is none."""

    job: str
    schedule: str
    agent: str | None
    ours: str | None


def agent(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Scripts of jobs, as SSMS and dbatools write them.", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Read msdb of this server instead; a secret such as env:NAME, too."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With --url: print Agent's next run times beside ours, no definitions.")
    ] = False,
    connection: Annotated[
        str, typer.Option(metavar="SECRET", help="Where workers find the URL for T-SQL steps.")
    ] = "env:SQL_AGENT_URL",
    timezone: Zone = None,
) -> None:
    """Print the jobs of SQL Server Agent as definitions.

    All of them are disabled. What has no counterpart causes a warning that says where it was and what to do.
    """
    from jobfac import definitions as d
    from jobfac.importers.agent import Converter, Options, write

    if bool(files) == (url is not None) or (compare and url is None):
        fail(USAGE, "Give either files or --url; --compare needs --url, since scripts hold no run times.")
    try:
        secret = d.Secret(secret=connection).secret
    except ValueError:
        fail(USAGE, "--connection must be env:NAME, file:/path or keyring:service/user.")
    zone = zone_of(timezone)
    found = _from_msdb(url) if url is not None else _from_files(files or [])
    converter = Converter(found, Options(zone, secret))
    defined = converter.convert()
    for remark in dict.fromkeys(map(str, converter.remarks)):
        note(f"warning: {remark}")
    if not defined:
        fail(USAGE, "It contains no job of SQL Server Agent that can be imported.")
    if compare:
        _compare(defined)
        return
    if timezone is None:
        note(f"warning: schedules are in this machine's time zone, {zone}; name the server's with --timezone")
    if any("sql" in body for one in defined for body in one.bodies.values()):
        note(f"warning: T-SQL steps connect with the URL in {secret}; set it where workers run, or use --connection")
    try:
        print_text(write(defined))
    except d.DefinitionError as error:
        raise Failure(USAGE, "\n".join(str(problem) for problem in error.problems)) from None


def _from_files(files: Iterable[Path]) -> "Agent":
    from jobfac.importers.agent import read_scripts

    def scripts() -> Iterator[tuple[str, bytes]]:
        for file in files:
            try:
                yield str(file), read_bytes(file)
            except OSError as error:
                fail(NOT_FOUND, f"{file} cannot be read: {error.strerror}.")

    return read_scripts(scripts())


def _from_msdb(url: str) -> "Agent":
    import sqlalchemy as sa

    from jobfac.database.engine import Database
    from jobfac.errors import Unreachable
    from jobfac.importers.agent.msdb import read_msdb
    from jobfac.secret_references import resolve_setting

    resolved = resolve_setting(url)
    if not resolved.startswith("mssql+"):
        fail(USAGE, "--url must name a SQL Server, such as mssql+pyodbc://user:password@host/msdb, or a secret.")
    try:
        database = Database(resolved, "jobfac import")
    except Unreachable as error:
        fail(UNREACHABLE, str(error).replace("JOBFAC_DATABASE_URL", "--url"))
    try:
        with database.read() as conn:
            return read_msdb(conn)
    except sa.exc.DBAPIError as error:
        why = " ".join(str(error.orig).split())
        fail(UNREACHABLE, f"msdb cannot be read: {why}. The login needs the role db_datareader there.")
    finally:
        database.close()


def _compare(defined: "Iterable[Defined]") -> None:
    """Agent's next run of each schedule beside ours. Agent has none for a disabled job or schedule."""
    from jobfac import definitions as d
    from jobfac.recurrence import next_due

    rows = []
    now = datetime.now(UTC)
    for one in defined:
        job = d.from_data({"jobs": one.bodies}).jobs[one.id]
        for source, schedule in zip(one.schedules, job.schedules, strict=True):
            due = next_due(schedule, now)
            ours = None if due is None else f"{due.astimezone(schedule.zone):%Y-%m-%d %H:%M:%S}"
            rows.append(Compared(one.id, source.name, source.next_run, ours))
    columns: Columns[Compared] = {
        "JOB": "job",
        "SCHEDULE": "schedule",
        "AGENT": "agent",
        "JOBFAC": "ours",
        "SAME": lambda row: "yes" if row.agent == row.ours else coloured("no", "yellow"),
    }
    print_table(rows, columns, "no schedules")
