"""SQLite's statistics for its planner, which ANALYZE and PRAGMA optimize make: there are to be none."""

import sqlalchemy as sa

from jobfac.database.engine import Database

_TABLES = sa.text("SELECT name FROM sqlite_master WHERE name IN ('sqlite_stat1', 'sqlite_stat4')")


def drop(db: Database) -> bool:
    """Drop the statistics that somebody has made, on SQLite. Returns whether there were some.

    Nothing renews them. Those of a young file say that it is cheap to read the whole table ``run``, and then each batch
    of ends does so. Without statistics the statements use their indexes. All other connections notice the change; the
    one that drops them would keep what it has read of them, so it is closed.

    Raises:
        Unreachable: the database does not answer.
    """
    if db.dialect.name != "sqlite":
        return False
    found = db.query(lambda conn: conn.execute(_TABLES).scalars().all())
    for name in found:
        db.transact(_drop, name, retry_for=2.0)
    return bool(found)


def _drop(conn: sa.Connection, name: str) -> None:
    conn.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    conn.detach()
