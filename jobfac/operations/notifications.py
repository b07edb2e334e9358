"""Requeue dead notifications."""

import time
from collections.abc import Sequence
from functools import partial

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact
from jobfac.store import outbox


def requeue(db: Database, by: Caller, ids: Sequence[int] | None) -> list[int]:
    """Requeue dead notifications (``ids`` None: all). Returns the ids of the requeued notifications.

    May be repeated: a second call requeues nothing more.
    """
    if ids is not None:
        return transact(db, by, lambda conn: outbox.requeue(conn, ids, by.name))
    done: list[int] = []
    above = 0
    # One transaction for all would delay the heartbeats of the fleet on SQLite.
    while found := db.query(outbox.dead_ids, above, retry_for=by.retry_for):
        done += transact(db, by, partial(outbox.requeue, ids=found, by=by.name))
        above = found[-1]
        time.sleep(db.dialect.pause_between_writes)
    return done
