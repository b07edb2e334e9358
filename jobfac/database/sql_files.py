"""The files under ``sql/``: views for both engines, procedures, roles and maintenance for SQL Server.

They can be run at any time, any number of times. ``Database.upgrade`` runs them after the migrations. The last
statement makes the view ``v_version``, which names the version of jobfac that made the others: versions with the same
schema may have different views and procedures, and SQL Server does not promise to keep their texts as they were.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.metadata import SCHEMA

_BEGINNING = """\
-- The whole schema of jobfac for SQL Server 2016 and newer and Azure SQL Database, as `jobfac db script` prints it.
-- Run it as db_owner with sqlcmd -b, which stops at the first error. If the tables exist already and are of this
-- version, it only creates or alters the views, procedures and roles.
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
SET XACT_ABORT ON;
GO
IF OBJECT_ID(N'jobfac.alembic_version', N'U') IS NOT NULL
    SET NOEXEC ON;
GO
"""
_TABLES_DONE = """\
SET NOEXEC OFF;
GO
IF NOT EXISTS (SELECT 1 FROM jobfac.alembic_version WHERE version_num = '{until}')
BEGIN
    RAISERROR(N'The schema of jobfac is not of version {until}; its views and procedures were not changed.', 16, 1);
    SET NOEXEC ON; -- a client may go on after an error
END;
GO
"""
_END = """\
SET NOEXEC OFF;
GO
"""
_VERSION = {
    "mssql": """\
-- The version of the views and procedures above. It is the last one: if one of them fails, the former version stays.
CREATE OR ALTER VIEW jobfac.v_version AS
-- The version of jobfac that made the views and procedures. `jobfac db check` compares the digest of their texts.
SELECT '{version}' AS version, '{digest}' AS digest;
GO

GRANT SELECT ON jobfac.v_version TO jobfac_operator, jobfac_reader, jobfac_worker;
GO
""",
    "sqlite": """\
DROP VIEW IF EXISTS v_version;
CREATE VIEW v_version AS
-- The version of jobfac that made the views. `jobfac db check` compares the digest of their texts.
SELECT '{version}' AS version, '{digest}' AS digest;
""",
}


def folder(engine: str) -> Path:
    """The folder of the files for ``mssql`` or ``sqlite``: in an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "sql"
    return (installed if installed.is_dir() else here.parent / "sql") / engine


def texts(engine: str) -> list[str]:
    """The files' contents, in the order in which to run them, and the statements that make ``v_version``."""
    files = _read(engine)
    return [*files, _VERSION[engine].format(**_maker(engine, files)._asdict())]


def _read(engine: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder(engine).glob("[0-9]*.sql"))]


def statements(engine: str) -> Iterator[str]:
    """The statements to send one by one: the batches between GO on SQL Server, the statements on SQLite."""
    end = r"^GO$" if engine == "mssql" else r";$"
    for text in texts(engine):
        for part in re.split(end, text, flags=re.MULTILINE):
            if re.search(r"^(?!--)\S", part, flags=re.MULTILINE):
                yield part.strip()


def install(conn: sa.Connection) -> None:
    """Create the views, and on SQL Server the procedures and roles, from the files."""
    for statement in statements(conn.dialect.name):
        conn.exec_driver_sql(statement)


class Maker(NamedTuple):
    """What ``v_version`` says: a version of jobfac, and the digest of its views and procedures."""

    version: str
    digest: str


class Views(StrEnum):
    """How the version of a database's views and procedures compares with that of this program."""

    CURRENT = "current"
    LATER = "later"
    OTHER = "other"  # an earlier version, or another one with the same number


def views(conn: sa.Connection) -> Views:
    """Compare the version of the database's views and procedures with this program's."""
    made = sa.table("v_version", sa.column("version"), sa.column("digest"), schema=_schema(conn))
    is_there = sa.inspect(conn).has_table(made.name, schema=made.schema)  # earlier versions have no such view
    row = conn.execute(sa.select(made)).first() if is_there else None
    return judge_views(None if row is None else Maker(*row), own_maker(conn.dialect.name))


def _schema(conn: sa.Connection) -> str | None:
    return SCHEMA if conn.dialect.name == "mssql" else None


def own_maker(engine: str) -> Maker:
    """Return what this program's ``v_version`` says."""
    return _maker(engine, _read(engine))


def _maker(engine: str, files: Iterable[str]) -> Maker:
    text = "".join([*files, _VERSION[engine]])
    return Maker(version("jobfac"), hashlib.sha256(text.encode()).hexdigest()[:16])


def judge_views(found: Maker | None, own: Maker) -> Views:
    """Judge what ``v_version`` says; ``found`` is None if there is no such view.

    Views of a later version are in order: a fleet whose roles are replaced one by one has them, and an upgrade by this
    program would bring back the old ones.
    """
    if found is None:
        return Views.OTHER
    if found.digest == own.digest:
        return Views.CURRENT
    return Views.LATER if _numbers(found.version) > _numbers(own.version) else Views.OTHER


def _numbers(of: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", of)]


_UPGRADE = """\
-- Brings the schema of jobfac from version {since} to {until}, as `jobfac db script --from {since}` prints it. Stop all
-- workers, schedulers and APIs first. Run it as db_owner with sqlcmd -b, which stops at the first error.
"""
_RIGHT_VERSION = """\
SET QUOTED_IDENTIFIER ON;
SET ANSI_NULLS ON;
SET XACT_ABORT ON;
GO
IF NOT EXISTS (SELECT 1 FROM jobfac.alembic_version WHERE version_num = '{since}')
BEGIN
    RAISERROR(N'The schema of jobfac is not of version {since}; nothing was changed.', 16, 1);
    SET NOEXEC ON;
END;
GO
"""
_REMOVAL = """\
-- Removes jobfac from a SQL Server database: procedures, views, tables, roles and the schema, with everything in them,
-- as `jobfac db script --uninstall` prints it. Stop all workers, schedulers and APIs first, and make a backup: nothing
-- brings the history back. Run it as db_owner with sqlcmd -b, which stops at the first error. It may be run again.
SET XACT_ABORT ON;
GO
"""
_ROLES = """\
DECLARE @leave NVARCHAR(MAX) = N'';
SELECT @leave = @leave + CONCAT(N'ALTER ROLE ', QUOTENAME(r.name), N' DROP MEMBER ', QUOTENAME(m.name), N'; ')
FROM sys.database_role_members AS x
JOIN sys.database_principals AS r ON r.principal_id = x.role_principal_id
JOIN sys.database_principals AS m ON m.principal_id = x.member_principal_id
WHERE r.name IN (N'jobfac_worker', N'jobfac_operator', N'jobfac_reader');
EXEC sys.sp_executesql @leave;
DROP ROLE IF EXISTS jobfac_worker;
DROP ROLE IF EXISTS jobfac_operator;
DROP ROLE IF EXISTS jobfac_reader;
DROP SCHEMA IF EXISTS jobfac;
GO
"""


def upgrade_script(engine: str, tables: str, since: str, until: str) -> str:
    """The script that upgrades a database from the version ``since``; ``tables`` is the part from the migrations."""
    tables = re.sub(r"[ \t]+$", "", tables, flags=re.MULTILINE).strip() + "\n"
    beginning = [_UPGRADE.format(since=since, until=until)]
    if engine == "mssql":
        beginning = [beginning[0] + _RIGHT_VERSION.format(since=since)]
    return "\n".join([*beginning, tables, *_files(engine, until)])


def uninstall_script(tables: Iterable[str]) -> str:
    """The script that removes everything from a SQL Server database, with these ``tables``."""
    made = re.findall(r"CREATE OR ALTER (PROCEDURE|VIEW) (jobfac\.\w+)", "".join(texts("mssql")))
    drops = [f"DROP {kind} IF EXISTS {name};" for kind, name in reversed(made)]
    tables = [f"DROP TABLE IF EXISTS jobfac.{name};" for name in (*sorted(tables), "alembic_version")]
    return "\n".join([_REMOVAL, *drops, "GO", *tables, "GO", _ROLES])


def script(engine: str, tables: str, until: str) -> str:
    """The script that creates a new database of the version ``until``; ``tables`` is the part from the migrations."""
    tables = re.sub(r"[ \t]+$", "", tables, flags=re.MULTILINE).strip() + "\n"
    return "\n".join([*([_BEGINNING] if engine == "mssql" else []), tables, *_files(engine, until)])


def _files(engine: str, until: str) -> list[str]:
    """The files. On SQL Server they are only for tables of the version ``until``."""
    return [_TABLES_DONE.format(until=until), *texts(engine), _END] if engine == "mssql" else texts(engine)
