"""The files under ``sql/``: views for both engines, procedures, roles and maintenance for SQL Server.

They can be run at any time, any number of times. ``Database.upgrade`` runs them after the migrations.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

_BEGINNING = """\
-- The whole schema of jobfac for SQL Server 2016 and newer and Azure SQL Database, as `jobfac db script` prints it.
-- Run it as db_owner with sqlcmd -b, which stops at the first error. If the tables exist already, it only creates or
-- alters the views, procedures and roles.
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
"""


def folder(engine: str) -> Path:
    """The folder of the files for ``mssql`` or ``sqlite``: in an installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "sql"
    return (installed if installed.is_dir() else here.parent / "sql") / engine


def texts(engine: str) -> list[str]:
    """The files' contents, in the order in which to run them."""
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


def script(engine: str, tables: str) -> str:
    """The script that creates a new database; ``tables`` is the part from the migrations."""
    tables = re.sub(r"[ \t]+$", "", tables, flags=re.MULTILINE).strip() + "\n"
    parts = [_BEGINNING, tables, _TABLES_DONE] if engine == "mssql" else [tables]
    return "\n".join([*parts, *texts(engine)])
