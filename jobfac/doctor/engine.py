"""How the database itself is set up: SQLite's file, or SQL Server's database and the rights in it."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from jobfac.database.tables import SCHEMA, metadata
from jobfac.doctor.disk import room
from jobfac.doctor.finding import Finding, State

NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse.", "glusterfs", "lustre", "gpfs", "beegfs")
"""How the kinds of file systems begin that other machines may have a hand in."""

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""What jobfac's own programs do to each of their tables."""


# SQLite


def sqlite_file(path: Path) -> Iterator[Finding]:
    """Whether the file may be written, and lies where its write-ahead log works."""
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            remedy = f"Let the user who runs jobfac write {place}; SQLite writes beside the file, too."
            yield Finding("database file", State.PROBLEM, f"{place} cannot be written", remedy)
    yield from open_files(path)
    kind = file_system(path, [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)])
    if kind.startswith(NETWORK):
        remedy = "Move it to a local disk: the write-ahead log needs memory shared by all who use the file."
        yield Finding("database file", State.PROBLEM, f"{path} lies on a network file system ({kind})", remedy)
    yield room("database file", path.parent, "Make room, or `jobfac purge` old runs.")


def open_files(path: Path) -> Iterator[Finding]:
    """Whether other users of this machine can read payloads, outputs and keys in the file or its log."""
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if name.exists() and (mode := stat.S_IMODE(name.stat().st_mode)) & 0o077:
            remedy = f"`chmod 600 {name}`: it holds payloads and outputs."
            yield Finding("database file", State.WARNING, f"{name} is open to other users (mode {mode:04o})", remedy)


def file_system(path: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """The kind of file system that holds ``path``, of ``mounts`` as folder and kind."""
    around = [(len(folder), kind) for folder, kind in mounts if path.is_relative_to(folder)]
    return max(around, default=(0, ""))[1]


def sqlite_modes(conn: sa.Connection) -> list[Finding]:
    """Whether commits are durable and readers do not stop writers."""
    journal = conn.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    synchronous = conn.exec_driver_sql("PRAGMA synchronous").scalar_one()
    return judge_sqlite(str(journal), int(synchronous))


def judge_sqlite(journal: str, synchronous: int) -> list[Finding]:
    """What follows from the modes in force."""
    found = f"journal_mode {journal}, synchronous {synchronous}"
    if journal != "wal":
        remedy = "Put the file on a local disk that may be written, where a write-ahead log is possible."
        return [Finding("durability", State.PROBLEM, found, remedy)]
    if synchronous < 2:
        return [Finding("durability", State.PROBLEM, found, "Set synchronous to FULL: a lost commit runs a job twice.")]
    return [Finding("durability", State.OK, found)]


# SQL Server

SNAPSHOT = "READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE"
"""What an ALTER DATABASE sets; it ends the transactions of all other sessions."""

_OPTIONS = sa.text(
    "SELECT is_read_committed_snapshot_on AS snapshot, delayed_durability_desc AS durability, "
    "is_auto_close_on AS auto_close, compatibility_level AS level, is_parameterization_forced AS forced "
    "FROM sys.databases WHERE name = DB_NAME()"
)
# By name: in Azure SQL Database the two numbers of a database may differ. Source: Microsoft, "DB_ID".


def mssql_options(conn: sa.Connection) -> list[Finding]:
    """How the database is set up."""
    return judge_options(conn.execute(_OPTIONS).mappings().one())


def lacks_snapshot(conn: sa.Connection) -> bool:
    """Whether READ_COMMITTED_SNAPSHOT is off, as far as this login may know."""
    try:
        return not conn.execute(_OPTIONS).mappings().one()["snapshot"]
    except sa.exc.DBAPIError:
        return False


def judge_options(row: Mapping[Any, Any]) -> list[Finding]:
    """What follows from the database's options, as ``_OPTIONS`` names them."""
    change = "ALTER DATABASE CURRENT SET"
    found = []
    if not row["snapshot"]:
        remedy = f"{change} {SNAPSHOT}: without it, readers and claims wait for each other, and may deadlock."
        found.append(Finding("options", State.PROBLEM, "READ_COMMITTED_SNAPSHOT is off", remedy))
    if row["forced"]:
        remedy = f"{change} PARAMETERIZATION SIMPLE: forced parameters keep SQL Server from using filtered indexes."
        found.append(Finding("options", State.PROBLEM, "PARAMETERIZATION is FORCED", remedy))
    if row["durability"] == "FORCED":
        remedy = f"{change} DELAYED_DURABILITY = DISABLED: a lost commit runs a job twice."
        found.append(Finding("options", State.PROBLEM, "DELAYED_DURABILITY is FORCED", remedy))
    if row["auto_close"]:
        remedy = f"{change} AUTO_CLOSE OFF."
        found.append(Finding("options", State.WARNING, "AUTO_CLOSE is on: whoever comes first waits", remedy))
    if row["level"] < 130:
        remedy = f"{change} COMPATIBILITY_LEVEL = 130, or higher."
        found.append(Finding("options", State.PROBLEM, f"the compatibility level is {row['level']}", remedy))
    good = f"READ_COMMITTED_SNAPSHOT on, DELAYED_DURABILITY {row['durability']}, level {row['level']}"
    return found or [Finding("options", State.OK, good)]


def rights_query() -> sa.TextClause:
    """One row for each of jobfac's tables: its name, and for each right 1, 0, or NULL where it cannot be told."""
    tables = ", ".join(f"(N'{SCHEMA}.{table.name}')" for table in metadata.sorted_tables)
    asked = ", ".join(f"HAS_PERMS_BY_NAME(t.name, N'OBJECT', N'{right}') AS may_{right.lower()}" for right in RIGHTS)
    return sa.text(f"SELECT t.name, {asked} FROM (VALUES {tables}) AS t(name)")


def mssql_rights(conn: sa.Connection) -> list[Finding]:
    """Whether this login may do what jobfac's programs do."""
    return judge_rights(conn.execute(rights_query()).all())


def judge_rights(rows: Sequence[Sequence[Any]]) -> list[Finding]:
    """What follows from the rows of ``rights_query``."""
    lacks = {right: [row[0] for row in rows if not row[1 + place]] for place, right in enumerate(RIGHTS)}
    told = []
    for right, tables in lacks.items():
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        told += [f"{right} on {', '.join(tables[:3])}{more}"] if tables else []
    if not told:
        return [Finding("rights", State.OK, f"{', '.join(RIGHTS)} on all {len(rows)} tables")]
    remedy = f"ALTER ROLE {SCHEMA}_worker ADD MEMBER [the user of this login]."
    return [Finding("rights", State.PROBLEM, f"this login may not {'; '.join(told)}", remedy)]
