"""Whether a job may leave its category: what waits for a hold of the category would start.

A job leaves it when it is deleted, as a deleted job has no category, or when its definition gets another one.
"""

import sqlalchemy as sa

from jobfac.database.dialects import PASS
from jobfac.database.tables import run, start_hold
from jobfac.database.types import sql_literals
from jobfac.errors import Refused
from jobfac.states import ACTIVE, WAITING
from jobfac.store.holds.conditions import is_active


def check_deletion(conn: sa.Connection, job_id: str, category: str | None) -> None:
    """Check that no run of the job waits for a hold of its category.

    Raises:
        Refused: one does.
    """
    if (hold := _hold(conn, category)) is not None:
        _check(conn, job_id, f"hold {hold} of the category '{category}' would not keep it if the job were deleted")


def check_change(conn: sa.Connection, job_id: str, category: str | None, to: str | None) -> None:
    """Check that no run of the job waits for a hold of its category alone, if it is to get the category ``to``.

    Raises:
        Refused: one does.
    """
    hold = None if category == to else _hold(conn, category)
    if hold is not None and _hold(conn, to) is None:
        _check(conn, job_id, f"hold {hold} of the category '{category}' would not keep it if the job left the category")


def _hold(conn: sa.Connection, category: str | None) -> int | None:
    """Return a hold of a category, or None."""
    if category is None:
        return None
    active = sa.select(start_hold.c.id).with_hint(start_hold, PASS, "mssql").where(is_active())
    return conn.execute(active.where(start_hold.c.category == category).limit(1)).scalar()


def _check(conn: sa.Connection, job_id: str, why: str) -> None:
    # Both: the first condition is that of the index by job, the second one chooses among its rows.
    in_states = [sa.text(f"run.state IN ({sql_literals(states)})") for states in (ACTIVE, WAITING)]
    waiting = conn.execute(sa.select(run.c.id).where(run.c.job == job_id, *in_states).limit(1)).scalar()
    if waiting is not None:
        # Perhaps for its time, or for another hold, too.
        raise Refused(f"Run {waiting} of job '{job_id}' waits, and {why}; stop the run, or release the hold first.")
