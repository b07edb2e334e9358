"""Remove finished runs and other records after their retention."""

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import audit, retention
from jobfac.store.retention import Keep, Removed


def purge(db: Database, by: Caller, keep: Keep, seconds: float | None = None) -> Removed:
    """Remove finished runs and other records that ``keep`` no longer retains, for about ``seconds`` at most.

    Works in many small transactions with pauses between them. May be repeated: a second call continues.
    """
    done = retention.purge_all(db, keep, seconds)
    transact(db, by, lambda conn: audit.note(conn, by.name, "purge", f"{done.removed} runs"))
    return done
