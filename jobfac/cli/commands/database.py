"""`db upgrade / check / script / backup`, `config` and `purge`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import USAGE, Json, Yes, confirm, database, fail, group
from jobfac.cli.rendering.printing import note, print_json, print_table

if TYPE_CHECKING:
    from jobfac.database.engine import Database

app = group("Upgrade, check and back up the database.")


@app.command()
def upgrade() -> None:
    """Upgrade the schema to the version that this program needs."""
    with database() as db:
        before = db.version()
        db.upgrade()
        typer.echo(f"schema {before or 'none'} -> {db.version()}")
        if db.dialect.name == "mssql":
            _offer_snapshot(db)


def _offer_snapshot(db: "Database") -> None:
    """Print the statement that a DBA should run if READ_COMMITTED_SNAPSHOT is off."""
    from jobfac.doctor.engine import SNAPSHOT, lacks_snapshot

    if db.query(lacks_snapshot):
        typer.echo("READ_COMMITTED_SNAPSHOT is off: readers and claims may deadlock. Ask a DBA to run at a quiet time:")
        typer.echo(f"  ALTER DATABASE CURRENT SET {SNAPSHOT};")


@app.command()
def check(as_json: Json = False) -> None:
    """Compare the schema with the one that this program needs.

    It compares the version, the tables, their columns and their indexes, and says whether the views and procedures
    are those of another version of jobfac. Roles work with these, so the exit code is 0 then.
    """
    from jobfac.database import sql_files
    from jobfac.database.metadata import missing_parts
    from jobfac.errors import incomplete_schema

    with database() as db:
        found, needed = db.version(), db.head()
        missing = db.query(missing_parts) if found == needed else []
        views = db.query(sql_files.views) if found == needed else None
        if as_json:
            current = found == needed and not missing
            print_json({"found": found, "needed": needed, "current": current, "missing": missing, "views": views})
        db.check_schema()
        if missing:
            raise incomplete_schema(", ".join(missing))
        if not as_json:
            typer.echo(f"schema {found} is current{_VIEWS[views or sql_files.Views.CURRENT]}")


_VIEWS = {
    "current": "",
    "later": "; its views and procedures are those of a later version of jobfac, and this version works with them",
    "other": ", but its views and procedures are those of another version of jobfac: `jobfac db upgrade` of the newest "
    "version in use replaces them, while roles work",
}
"""What `db check` says about the views and procedures."""


@app.command()
def script(
    dialect: Annotated[str, typer.Option(help="mssql or sqlite.")] = "mssql",
    since: Annotated[
        str | None, typer.Option("--from", metavar="VERSION", help="Upgrade from this version; default: from nothing.")
    ] = None,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Print the SQL that removes jobfac.")] = False,
) -> None:
    """Print the SQL that creates or upgrades the schema.

    It is for a DBA to run. The database is not accessed. `jobfac db check` shows the version that a database has.
    """
    from jobfac.database import sql_files
    from jobfac.database.engine import versions, write_script
    from jobfac.database.tables import metadata

    if dialect not in ("mssql", "sqlite"):
        fail(USAGE, f"--dialect must be mssql or sqlite, not '{dialect}'.")
    if uninstall:
        if since is not None or dialect != "mssql":
            fail(USAGE, "--uninstall is for SQL Server, without --from; a SQLite database is a file: delete it.")
        sys.stdout.write(sql_files.uninstall_script(metadata.tables))
        return
    begin = None if since is None else since.zfill(4)
    if begin is not None and begin not in versions():
        fail(USAGE, f"--from must be one of {', '.join(sorted(versions()))}, not '{since}'.")
    write_script(dialect, sys.stdout, begin)


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="The new file, which must not exist.")]) -> None:
    """Copy a SQLite database to a new file while it is in use. A plain copy of the file would miss recent changes."""
    with database() as db:
        db.back_up(file)
    typer.echo(f"the database was copied to {file}")


class ShownSetting(NamedTuple):
    """A setting for display, without secrets. ``origin``: where its value comes from."""

    name: str
    value: object
    origin: str
    help: str


def config(as_json: Json = False) -> None:
    """Show the settings and where each comes from."""
    import dataclasses

    from rich.console import Console

    from jobfac.settings import Settings, SettingsError, sources
    from jobfac.settings.passwords import without_password

    try:
        loaded = sources()
    except SettingsError as error:
        fail(USAGE, str(error))
    secret = {field.name for field in dataclasses.fields(Settings) if field.metadata.get("secret")}
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(Settings)}
    rows = []
    for name, source in loaded.items():
        value = source.value
        if name in secret and value:
            value = "***"
        if name.endswith(("_url", "_host")):
            value = without_password(value)
        rows.append(ShownSetting(name, value, source.origin, helps[name]))
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    if Console().is_terminal:
        print_table(rows, {"SETTING": "name", "VALUE": "value", "FROM": "origin", "WHAT": "help"}, "")
        return
    # In a pipe nothing is cut, and one long value must not make every line as long.
    for row in [ShownSetting("SETTING", "VALUE", "FROM", "WHAT"), *rows]:
        typer.echo(f"{row.name:<22} {'' if row.value is None else row.value!s:<24} {row.origin:<12} {row.help}")


def purge(yes: Yes = False) -> None:
    """Remove finished runs that are older than their job's retention.

    On a terminal the command asks before it does so with the settings of this machine.
    """
    with backend() as factory:
        if kept := factory.kept_by_purge():
            note(f"The settings of this machine keep {kept}. The schedulers may have others.")
            confirm("Remove what is older?", yes)
        count = factory.purge()
    typer.echo(f"{count} runs were removed")
