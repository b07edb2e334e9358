"""After the database's clock was set back: nothing waits for the times that it showed while it was ahead."""

from jobfac.database.engine import Database
from jobfac.store import outbox, runs, schedulers, schedules, sequences, watching, workers


def follow_clock(db: Database) -> bool:
    """Move what lies in the future now. Returns whether there may be more retries, or ends that schedules wait for.

    There may be many thousands of these, and a transaction that moves all would hold SQLite's lock for seconds.
    """
    for store in (workers, sequences, outbox, watching, schedulers):
        db.transact(store.follow_clock, retry_for=2.0)
    return any(db.transact(store.follow_clock, retry_for=2.0) for store in (runs, schedules))
