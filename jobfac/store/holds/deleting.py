"""Whether a job may be deleted: what waits for a hold of its category would start, as a deleted job has no category."""

import sqlalchemy as sa

from jobfac.database.dialects import PASS
from jobfac.database.tables import run, start_hold
from jobfac.database.types import sql_literals
from jobfac.errors import Refused
from jobfac.states import ACTIVE, WAITING
from jobfac.store.holds.conditions import is_active


def check(conn: sa.Connection, job_id: str, category: str | None) -> None:
    """Check that no run of the job waits for a hold of its category.

    Raises:
        Refused: one does.
    """
    if category is None:
        return
    active = sa.select(start_hold.c.id).with_hint(start_hold, PASS, "mssql").where(is_active())
    hold = conn.execute(active.where(start_hold.c.category == category).limit(1)).scalar()
    if hold is None:
        return
    # Both: the first condition is that of the index by job, the second one chooses among its rows.
    in_states = [sa.text(f"run.state IN ({sql_literals(states)})") for states in (ACTIVE, WAITING)]
    waiting = conn.execute(sa.select(run.c.id).where(run.c.job == job_id, *in_states).limit(1)).scalar()
    if waiting is not None:
        raise Refused(
            f"Run {waiting} of job '{job_id}' waits for hold {hold} of the category '{category}', and would start if "
            "the job were deleted; stop the run, or release the hold first."
        )
