"""The files under ``sql/``: views for both engines, procedures, roles and maintenance for SQL Server.

They can be run again at any time, and are after every migration.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

_BEGINNING = """\
-- The whole schema of jobfac for SQL Server 2016 and newer and Azure SQL Database, as `jobfac db script` prints it.
-- Run it as db_owner with sqlcmd -b, which stops at the first error and leaves nothing half done. Where the tables are
-- there already, it makes the views, procedures and roles anew and nothing else.
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
    """Where the files for ``mssql`` or ``sqlite`` are: inside an installed package, beside it in a source checkout."""
    here = Path(__file__).parents[1]
    installed = here / "sql"
    return (installed if installed.is_dir() else here.parent / "sql") / engine


def texts(engine: str) -> list[str]:
    """The files' contents, in the order in which they are to be run."""
    return [path.read_text(encoding="utf-8") for path in sorted(folder(engine).glob("[0-9]*.sql"))]


def statements(engine: str) -> Iterator[str]:
    """What is to be sent one by one: the batches between GO on SQL Server, the statements on SQLite."""
    end = r"^GO$" if engine == "mssql" else r";$"
    for text in texts(engine):
        for part in re.split(end, text, flags=re.MULTILINE):
            if re.search(r"^(?!--)\S", part, flags=re.MULTILINE):
                yield part.strip()


def install(conn: sa.Connection) -> None:
    """Make the views, and on SQL Server the procedures and roles, as the files say."""
    for statement in statements(conn.dialect.name):
        conn.exec_driver_sql(statement)


def script(engine: str, tables: str) -> str:
    """All that makes a database from nothing, as one text; ``tables`` is the part that the migrations give."""
    tables = re.sub(r"[ \t]+$", "", tables, flags=re.MULTILINE).strip() + "\n"
    parts = [_BEGINNING, tables, _TABLES_DONE] if engine == "mssql" else [tables]
    return "\n".join([*parts, *texts(engine)])
