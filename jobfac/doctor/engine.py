"""Checks of the database's configuration: SQLite's file and modes, or SQL Server's options and permissions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import sqlalchemy as sa

from jobfac.database.tables import SCHEMA, metadata
from jobfac.doctor.disk import disk_space, log_size
from jobfac.doctor.finding import Finding, State
from jobfac.machine.disk import why_not_written
from jobfac.settings.ownership import database_fault, open_to_others

NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse.", "glusterfs", "lustre", "gpfs", "beegfs")
"""Prefixes of file system types that other machines may share."""

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""Permissions that jobfac's processes need on each table."""


# SQLite


def sqlite_file(path: Path) -> Iterator[Finding]:
    """Check that the file is writable and private, is on a local disk, and that the disk has space."""
    refused = [place for place in (path, path.parent) if not os.access(place, os.W_OK)]
    for place in refused:
        remedy = f"Let the user who runs jobfac write {place}; SQLite writes beside the file, too."
        yield Finding("database file", State.PROBLEM, f"{place} cannot be written", remedy)
    if not refused and (fault := why_not_written(path.parent, (path, Path(f"{path}-wal")), None)) is not None:
        found, _, remedy = fault.partition("; ")
        yield Finding("database file", State.PROBLEM, found, f"{remedy[0].upper()}{remedy[1:]}.")
    yield from file_modes(path)
    if (fault := database_fault(path)) is not None:
        yield Finding("database file", State.PROBLEM, fault, "A worker does not use it.")
    kind = file_system(path, [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)])
    if kind.startswith(NETWORK):
        remedy = "Move it to a local disk: the write-ahead log needs memory that all processes on the file share."
        yield Finding("database file", State.PROBLEM, f"{path} lies on a network file system ({kind})", remedy)
    yield disk_space("database file", path.parent, "Make room, or `jobfac purge` old runs.")
    yield from log_size("database file", path)


def file_modes(path: Path) -> Iterator[Finding]:
    """Check that other users of this machine cannot read payloads, outputs and keys in the file or its log."""
    for name, mode in open_to_others(path):
        remedy = f"`chmod 600 {name}`: it holds payloads and outputs."
        yield Finding("database file", State.WARNING, f"{name} is open to other users (mode {mode:04o})", remedy)


def file_system(path: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """Return the type of the file system that holds ``path``. ``mounts`` are pairs of folder and type."""
    containing = [(len(folder), kind) for folder, kind in mounts if path.is_relative_to(folder)]
    return max(containing, default=(0, ""))[1]


def sqlite_modes(conn: sa.Connection) -> list[Finding]:
    """Check that commits are durable and that readers do not block writers."""
    journal = conn.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    synchronous = conn.exec_driver_sql("PRAGMA synchronous").scalar_one()
    return judge_sqlite(str(journal), int(synchronous))


def judge_sqlite(journal: str, synchronous: int) -> list[Finding]:
    """Judge SQLite's ``journal_mode`` and ``synchronous``."""
    found = f"journal_mode {journal}, synchronous {synchronous}"
    if journal != "wal":
        remedy = "Put the file on a local disk that may be written, where a write-ahead log is possible."
        return [Finding("durability", State.PROBLEM, found, remedy)]
    if synchronous < 2:
        return [Finding("durability", State.PROBLEM, found, "Set synchronous to FULL: a lost commit runs a job twice.")]
    return [Finding("durability", State.OK, found)]


# SQL Server

SNAPSHOT = "READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"
"""The option for ALTER DATABASE. It rolls back the transactions of all other sessions."""


class Options(NamedTuple):
    """Options of a SQL Server database, as ``_OPTIONS`` reads them from ``sys.databases``."""

    snapshot: bool  # READ_COMMITTED_SNAPSHOT
    durability: str  # DELAYED_DURABILITY: DISABLED, ALLOWED or FORCED
    auto_close: bool
    level: int  # compatibility level
    forced: bool  # PARAMETERIZATION FORCED


_OPTIONS = sa.text(
    "SELECT is_read_committed_snapshot_on AS snapshot, delayed_durability_desc AS durability, "
    "is_auto_close_on AS auto_close, compatibility_level AS level, is_parameterization_forced AS forced "
    "FROM sys.databases WHERE name = DB_NAME()"
)
# By name: in Azure SQL Database, DB_ID may differ from sys.databases.database_id. Source: Microsoft, "DB_ID".


def read_options(conn: sa.Connection) -> Options:
    """Return the options of the current database."""
    return Options(*conn.execute(_OPTIONS).one())


def mssql_options(conn: sa.Connection) -> list[Finding]:
    """Check the options of the current database."""
    return judge_options(read_options(conn))


def lacks_snapshot(conn: sa.Connection) -> bool:
    """Whether READ_COMMITTED_SNAPSHOT is off; False if this login may not read the option."""
    try:
        return not read_options(conn).snapshot
    except sa.exc.DBAPIError:
        return False


def judge_options(options: Options) -> list[Finding]:
    """Judge the options of a SQL Server database."""
    change = "ALTER DATABASE CURRENT SET"
    found = []
    if not options.snapshot:
        remedy = f"{change} {SNAPSHOT}: without it, readers and claims wait for each other, and may deadlock."
        found.append(Finding("options", State.PROBLEM, "READ_COMMITTED_SNAPSHOT is off", remedy))
    if options.forced:
        remedy = f"{change} PARAMETERIZATION SIMPLE: forced parameters keep SQL Server from using filtered indexes."
        found.append(Finding("options", State.PROBLEM, "PARAMETERIZATION is FORCED", remedy))
    if options.durability == "FORCED":
        remedy = f"{change} DELAYED_DURABILITY = DISABLED: a lost commit runs a job twice."
        found.append(Finding("options", State.PROBLEM, "DELAYED_DURABILITY is FORCED", remedy))
    if options.auto_close:
        remedy = f"{change} AUTO_CLOSE OFF."
        found.append(Finding("options", State.WARNING, "AUTO_CLOSE is on: the first connection waits", remedy))
    if options.level < 130:
        remedy = f"{change} COMPATIBILITY_LEVEL = 130, or higher."
        found.append(Finding("options", State.PROBLEM, f"the compatibility level is {options.level}", remedy))
    good = f"READ_COMMITTED_SNAPSHOT on, DELAYED_DURABILITY {options.durability}, level {options.level}"
    return found or [Finding("options", State.OK, good)]


class TableRights(NamedTuple):
    """A table, and for each of ``RIGHTS`` whether this login has it; None if that is unknown."""

    name: str
    rights: tuple[bool | None, ...]


def rights_query() -> sa.TextClause:
    """Return a query with one row a table: its name, and for each of ``RIGHTS`` 1, 0, or NULL if unknown."""
    tables = ", ".join(f"(N'{SCHEMA}.{table.name}')" for table in metadata.sorted_tables)
    columns = ", ".join(f"HAS_PERMS_BY_NAME(t.name, N'OBJECT', N'{right}') AS may_{right.lower()}" for right in RIGHTS)
    return sa.text(f"SELECT t.name, {columns} FROM (VALUES {tables}) AS t(name)")


def mssql_rights(conn: sa.Connection) -> list[Finding]:
    """Check that this login has the permissions that jobfac's processes need."""
    return judge_rights([TableRights(name, tuple(rights)) for name, *rights in conn.execute(rights_query())])


def judge_rights(tables: Sequence[TableRights]) -> list[Finding]:
    """Judge the permissions on each table; an unknown permission counts as missing."""
    missing = []
    for place, right in enumerate(RIGHTS):
        names = [table.name for table in tables if not table.rights[place]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        missing += [f"{right} on {', '.join(names[:3])}{more}"] if names else []
    if not missing:
        return [Finding("rights", State.OK, f"{', '.join(RIGHTS)} on all {len(tables)} tables")]
    remedy = f"ALTER ROLE {SCHEMA}_worker ADD MEMBER [the user of this login]."
    return [Finding("rights", State.PROBLEM, f"this login may not {'; '.join(missing)}", remedy)]
