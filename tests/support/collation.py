"""A SQLite database that compares names as most SQL Servers do: without regard to the case of letters."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

_NAME = re.compile(r"\bVARCHAR\((128|200|400)\)")


def ignore_case(file: Path) -> None:
    """Give all columns of names in an empty database a collation that ignores case."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
            changed = _NAME.sub(r"\g<0> COLLATE NOCASE", sql)
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ? AND type = 'table'", (changed, name))
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute(f"PRAGMA schema_version = {version + 1}")
        connection.execute("PRAGMA writable_schema = OFF")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("REINDEX")
        connection.commit()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
