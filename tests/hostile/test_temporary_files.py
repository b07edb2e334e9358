"""A full folder for temporary files, which any user of a machine may fill, stops no writer of a SQLite database. What
other threads do with files disturbs no backup."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.sqlite_backup import DESCRIPTORS
from jobfac.errors import Unreachable


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc/self/fd")
def test_a_write_needs_no_file_in_a_folder_that_others_may_fill(sqlite_url: str) -> None:
    with contextlib.closing(Database(sqlite_url)) as db, db.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE large (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        conn.exec_driver_sql("INSERT INTO large (text) SELECT hex(zeroblob(2000)) FROM pragma_compile_options")
        conn.exec_driver_sql("INSERT INTO large (text) SELECT a.text FROM large a, large b LIMIT 500")
        conn.exec_driver_sql("UPDATE large SET text = text || 'x'")
        assert not [one for one in DESCRIPTORS.iterdir() if "etilqs_" in str(one.resolve())]
        conn.rollback()


def test_room_for_temporary_files_is_looked_for_where_they_are(sqlite_url: str) -> None:
    def fill(conn: sa.Connection) -> None:
        conn.exec_driver_sql("PRAGMA max_page_count = 1")
        conn.exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1000000) AS text")

    with (
        contextlib.closing(Database(sqlite_url)) as db,
        pytest.raises(Unreachable, match=r"make room in \$SQLITE_TMPDIR, \$TMPDIR, /var/tmp or /tmp\."),
    ):
        db.transact(fill, retry_for=0)


def test_a_backup_succeeds_while_another_thread_closes_files(sqlite_url: str, tmp_path: Path) -> None:
    """SQLite's descriptor of the new file gets the number of one that is closed at that moment."""
    connect, others = sqlite3.connect, [os.open(os.devnull, os.O_RDONLY) for _ in range(9)]

    def after_a_close(*given: Any, **options: Any) -> sqlite3.Connection:
        os.close(others.pop(0))
        made: sqlite3.Connection = connect(*given, **options)
        return made

    db = Database(sqlite_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", after_a_close)
        db.back_up(tmp_path / "copy.db")
    db.close()
    for other in others:
        os.close(other)
    assert (tmp_path / "copy.db").exists()
