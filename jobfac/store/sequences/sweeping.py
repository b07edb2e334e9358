"""The sweep: whatever else left a sequence standing, here it goes on."""

import sqlalchemy as sa

from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, FINAL, HELD, RunState, Stop
from jobfac.store.runs import Finished
from jobfac.store.sequences.advance import advance_all, lock
from jobfac.store.sequences.steering import lock_to_stop, stop_jobs

BATCH = 50
"""Sequences looked after in one transaction at most."""

_child = run.alias("child")
_is_active = sa.text(f"child.state IN ({sql_literals(ACTIVE)})")
_of_sequence = _child.c.sequence_run_id == run.c.id
_of_visit = _child.c.visit_id == visit.c.id
_FINISHED = ~sa.exists().where(_of_sequence, _is_active)
_UNDECIDED = sa.and_(
    run.c.state == RunState.RUNNING,
    sa.exists()
    .where(visit.c.run_id == run.c.id, visit.c.result.is_(None))
    .where(
        sa.or_(
            ~sa.exists().where(_of_visit, _is_active),
            (visit.c.proceed == "when_any")
            & sa.exists().where(_of_visit, sa.text(f"child.state IN ({sql_literals(FINAL)})")),
        )
    ),
)
_UNHEARD = sa.and_(
    run.c.state == RunState.STOPPING, sa.exists().where(_of_sequence, _is_active, _child.c.stop.is_(None))
)
STANDING = (
    sa.select(run.c.id, run.c.state, run.c.stop, run.c.stop_by)
    # No worker holds a running sequence, and that is how the index of held runs finds them all.
    .where(sa.text(f"run.state IN ({sql_literals(HELD)})"), run.c.worker_id.is_(None))
    .where(sa.or_(_FINISHED, _UNDECIDED, _UNHEARD))
)
"""Running sequences that wait for nothing: no job of theirs is active, or the ends came that decide the visit under way
and nobody decided it, or they are to stop and their jobs have not heard of it."""


def sweep(conn: sa.Connection, by: str) -> list[Finished]:
    """Advance some sequences that wait for nothing; returns those that ended. Safe to be called by anybody, anytime.

    It finds nothing as long as all that ends a run is Python that calls ``settle``. What does not: statements of a DBA
    and the T-SQL procedures, runs that make room for another one (``already_running: replace``), and sequences that
    took their limit of steps in one transaction.
    """
    standing = conn.execute(STANDING.order_by(run.c.id).limit(BATCH)).all()
    lock_to_stop(conn, [one.id for one in standing])
    lock(conn, [one.id for one in standing])
    for one in standing:
        if one.state == RunState.STOPPING:
            stop_jobs(conn, one.id, now=one.stop == Stop.NOW, by=one.stop_by or by)
    return advance_all(conn, [one.id for one in standing], by)
