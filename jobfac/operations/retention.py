"""Remove finished runs and other records after their retention."""

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import audit, retention
from jobfac.store.retention import Keep


def purge(db: Database, by: Caller, keep: Keep) -> int:
    """Remove finished runs and other records that ``keep`` no longer retains. Returns the number of removed runs.

    Works in many small transactions with pauses between them. May be repeated: a second call continues.
    """
    removed = retention.purge_all(db, keep)
    transact(db, by, lambda conn: audit.note(conn, by.name, "purge", f"{removed} runs"))
    return removed
