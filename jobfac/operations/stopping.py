"""Stop runs."""

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact, visible_run
from jobfac.states import FINAL
from jobfac.store import audit, sequences
from jobfac.store.runs import Stopped


def stop(db: Database, by: Caller, run_id: int, *, now: bool = False) -> Stopped:
    """Stop a run, or a sequence with all its jobs. Returns the states before and after.

    A waiting run ends at once. The worker stops a running program; with ``now`` it does so without the grace period.
    May be repeated: a second call finds the state that the first one left.

    Raises:
        NotFound: there is no such run, or the caller may not see it.
    """

    def work(conn: sa.Connection) -> Stopped:
        if by.categories is not None:
            visible_run(conn, by, run_id)
        stopped = sequences.stop(conn, run_id, now=now, by=by.name)
        if stopped.before not in FINAL:
            audit.note(conn, by.name, "stop", f"run {run_id}", stopped.before, stopped.after)
        return stopped

    return transact(db, by, work)
