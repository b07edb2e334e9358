"""Notifications that were given up."""

from collections.abc import Sequence

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import outbox


def requeue(db: Database, by: Caller, ids: Sequence[int] | None) -> list[int]:
    """Let dead notifications (None: all of them) be tried again; returns the ids of those that were dead.

    May be repeated: a second call requeues nothing more.
    """
    return transact(db, by, lambda conn: outbox.requeue(conn, ids, by.name))
