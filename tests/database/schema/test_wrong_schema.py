"""A database without a schema, with tables of another program, or of an older version: one sentence says so."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.errors import WrongSchema
from jobfac.store.history import search
from tests.support.engines import ENGINES


def test_a_file_without_a_schema_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    is_reported(Database(f"sqlite:///{tmp_path / 'empty.db'}"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It may have been moved. The sentence for a database without a schema would lead to a second one in its place."""
    db = Database(f"sqlite:///{tmp_path / 'moved.db'}")
    for use in (db.check_schema, lambda: db.query(search.find_all), lambda: db.back_up(tmp_path / "copy.db")):
        with pytest.raises(WrongSchema, match=f"no database file {tmp_path}/moved.db; .* bring it back if it was"):
            use()
    db.close()


@pytest.mark.parametrize("driver", [e for e in ENGINES if e not in ("sqlite", "real")])
def test_a_server_without_a_schema_is_reported(tds: Any, driver: str) -> None:
    from tests.tds_server import harness

    with tds.database(f"empty_{driver}") as name:
        is_reported(Database(harness.url(tds.port, driver, name).render_as_string(hide_password=False)))


def test_tables_of_another_program_and_of_an_older_schema_are_reported(tmp_path: Path) -> None:
    foreign = Database(f"sqlite:///{tmp_path / 'foreign.db'}")
    with sqlite3.connect(tmp_path / "foreign.db") as other:
        other.execute("CREATE TABLE run (number integer)")
    is_reported(foreign)
    with sqlite3.connect(tmp_path / "foreign.db") as other:
        other.execute("CREATE TABLE alembic_version (version_num text)")
        other.execute("INSERT INTO alembic_version VALUES ('0003')")
    with pytest.raises(WrongSchema, match="schema is version 0003 and this program needs"):
        foreign.query(lambda conn: conn.execute(sa.select(run.c.id)).all())
    foreign.close()


def is_reported(db: Database) -> None:
    assert db.version() is None
    with pytest.raises(WrongSchema, match="has no jobfac schema yet; run `jobfac db upgrade`"):
        db.check_schema()
    with pytest.raises(WrongSchema, match="has no jobfac schema yet"):
        db.query(search.find_all)
    db.close()
