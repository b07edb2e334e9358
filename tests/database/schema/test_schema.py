"""The migrations make the schema that the tables describe, on every engine."""

import io
import re
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from jobfac.database import tables
from jobfac.database.engine import Database


def _statements(text: str) -> set[str]:
    """The CREATE TABLE and CREATE INDEX statements of a script, the order of a table's constraints aside, with the
    columns that later statements add."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--") and line.strip() != "GO")
    plain = [re.sub(r"\s+", " ", one).strip() for one in text.split(";")]
    added = [found.groups() for one in plain if (found := re.match(r"ALTER TABLE (\S+) ADD (?:COLUMN )?(.*)", one))]
    made = (one for one in plain if re.match(r"CREATE (UNIQUE )?(TABLE|INDEX)", one))
    return {_sorted(_with_columns(one, added)) for one in made}


def _with_columns(statement: str, added: Sequence[tuple[str, ...]]) -> str:
    for table, column in added:
        if statement.startswith(f"CREATE TABLE {table} ("):
            statement = statement.replace(", CONSTRAINT ", f", {column}, CONSTRAINT ", 1)
    return statement


def _sorted(statement: str) -> str:
    if "CREATE TABLE" not in statement:
        return statement
    head, _, body = statement.partition("(")
    parts = re.split(r", (?=CONSTRAINT )", body.strip().removesuffix(")").strip())
    return f"{head.strip()} ({', '.join([parts[0], *sorted(parts[1:])])})"


@pytest.mark.parametrize(
    ("url", "dialect", "schema"),
    [
        ("sqlite:///unused.db", sqlite.dialect(), None),
        ("mssql+pyodbc://", mssql.dialect(deprecate_large_types=True), tables.SCHEMA),
    ],
)
def test_the_migrations_make_the_tables(url: str, dialect: sa.Dialect, schema: str | None) -> None:
    script = io.StringIO()
    Database(url).script(script)
    wanted = sa.MetaData(naming_convention=tables.metadata.naming_convention)
    text = []
    for table in tables.metadata.sorted_tables:
        copy = table.to_metadata(wanted, schema=schema)
        text.append(str(CreateTable(copy).compile(dialect=dialect)))
        text += [str(CreateIndex(index).compile(dialect=dialect)) for index in copy.indexes]
    made = {one for one in _statements(script.getvalue()) if "alembic_version" not in one}
    assert made == _statements(";\n".join(text))


def test_every_table_and_index_is_there_after_an_upgrade(db: Database) -> None:
    schema = tables.SCHEMA if db.dialect.name == "mssql" else None
    with db.read() as conn:
        inspector = sa.inspect(conn)
        assert {t.name for t in tables.metadata.sorted_tables} <= set(inspector.get_table_names(schema=schema))
        for table in tables.metadata.sorted_tables:
            found = {index["name"] for index in inspector.get_indexes(table.name, schema=schema)}
            assert {index.name for index in table.indexes} <= found
            columns = {column["name"] for column in inspector.get_columns(table.name, schema=schema)}
            assert columns == set(table.c.keys())


def test_a_state_that_does_not_exist_is_refused(db: Database) -> None:
    values = {"job": "a", "job_version": 1, "kind": "program", "state": "runing", "queue": "default", "priority": 0}
    values |= {"created_by": "me", "restartable": True, "already_running": "start"}
    with pytest.raises(sa.exc.IntegrityError), db.begin() as conn:
        conn.execute(tables.run.insert().values(**values, created_at=sa.func.current_timestamp()))


def test_the_version_needed_is_that_of_the_last_migration() -> None:
    from alembic.script import ScriptDirectory

    from jobfac.database.engine import MIGRATIONS

    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [Database("sqlite:///unused.db").head()]
