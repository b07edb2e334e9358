"""Remove finished runs and other records after their retention."""

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import audit, retention
from jobfac.store.retention import Keep, Removed


def purge(db: Database, by: Caller, keep: Keep) -> int:
    """Remove finished runs and other records that ``keep`` no longer retains. Returns the number of removed runs.

    Works in many small transactions with pauses between them. May be repeated: a second call continues.
    """
    return _purge(db, by, keep, None).removed


def purge_for(db: Database, by: Caller, keep: Keep, seconds: float) -> Removed:
    """As ``purge``, for at most about so many seconds. May be repeated: a second call continues."""
    return _purge(db, by, keep, seconds)


def _purge(db: Database, by: Caller, keep: Keep, seconds: float | None) -> Removed:
    done = retention.purge_for(db, keep, seconds)
    transact(db, by, lambda conn: audit.note(conn, by.name, "purge", f"{done.removed} runs"))
    return done
