"""Requeue dead notifications."""

from collections.abc import Sequence

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import outbox


def requeue(db: Database, by: Caller, ids: Sequence[int] | None) -> list[int]:
    """Requeue dead notifications (``ids`` None: all). Returns the ids of the requeued notifications.

    May be repeated: a second call requeues nothing more.
    """
    return transact(db, by, lambda conn: outbox.requeue(conn, ids, by.name))
