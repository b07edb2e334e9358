"""The survey: what a worker reads about itself and about what it has to know, in one query."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects.clock import utcnow
from jobfac.database.dialects.hints import DIRTY, PASS
from jobfac.database.sequence_tables import LOOKED_FOR
from jobfac.database.tables import WATCHED, queue, run, schedule, start_hold, visit, worker
from jobfac.database.types import sql_literals
from jobfac.states import HELD, RunState, WorkerState

_mine = run.alias("mine")
_HELD = (
    sa.select(sa.func.count())
    .select_from(_mine)
    .with_hint(_mine, DIRTY, "mssql")
    .where(sa.text(f"mine.state IN ({sql_literals(HELD)})"), _mine.c.worker_id == worker.c.id)
    .scalar_subquery()
)
_active = worker.alias("active")
_FLEET = (
    sa.select(sa.func.count())
    .select_from(_active)
    .with_hint(_active, PASS, "mssql")
    .where(sa.text(f"active.state = '{WorkerState.ACTIVE}'"))
    .scalar_subquery()
)
HOLD_WEIGHT = 1_000_000
"""Times the sum of ``hold_number`` of the active holds, plus the number of queues: changes when either does."""


def hold_number(hold_id: str) -> str:
    """Return the SQL expression of a hold's number. The sum of ids alone would not change if hold 3 follows 1 and 2."""
    return f"{hold_id} + 1000000"


_QUEUES = sa.select(sa.func.count()).select_from(queue).with_hint(queue, PASS, "mssql").scalar_subquery()
_HOLDS = (
    sa.select(sa.func.coalesce(sa.func.sum(sa.literal_column(hold_number("start_hold.id"))), sa.literal_column("0")))
    .with_hint(start_hold, PASS, "mssql")
    .where(
        sa.text("start_hold.freed = 0"),
        start_hold.c.released_at.is_(None),
        sa.or_(start_hold.c.until.is_(None), start_hold.c.until > utcnow()),
    )
    .scalar_subquery()
)


def _sum_of_ids(table: sa.Table, condition: str) -> sa.ScalarSelect[Any]:
    total = sa.select(sa.func.coalesce(sa.func.sum(table.c.id), sa.literal_column("0")))
    return total.with_hint(table, PASS, "mssql").where(sa.text(condition)).scalar_subquery()


_WATCHES = _sum_of_ids(schedule, WATCHED) + _sum_of_ids(visit, LOOKED_FOR)
SURVEY = (
    sa.select(
        worker.c.state,
        worker.c.token,
        _FLEET.label("fleet"),
        (_QUEUES + _HOLDS * sa.literal_column(f"{HOLD_WEIGHT}")).label("queues"),
        _HELD.label("held"),
        _WATCHES.label("watches"),
        run.c.id,
        run.c.attempt,
        run.c.stop,
    )
    .with_hint(worker, PASS, "mssql")
    .with_hint(run, PASS, "mssql")
    .select_from(
        worker.outerjoin(
            run,
            sa.text(f"run.state IN ({sql_literals(HELD)})")
            & (run.c.worker_id == worker.c.id)
            & (run.c.state == sa.literal_column(f"'{RunState.STOPPING}'")),
        )
    )
    .where(worker.c.id == sa.bindparam("p_id", type_=sa.BigInteger, literal_execute=True))
)
"""One row for each run that the worker must stop, or one row without a run. No row: the worker does not exist, or its
row is locked."""


class Survey(NamedTuple):
    """The database's information about a worker.

    Attributes:
        state: the worker's state.
        stops: runs to stop, as (run, attempt, how).
        queues: a number that changes with the number of queues and with the active holds, of all workers.
        held: how many runs the worker holds. It is read without locks, so it may include uncommitted changes.
        fleet: how many workers take new runs.
        watches: a number that changes with what workers watch for, of all pools: files of schedules and of steps that
            wait. 0: nothing.
        token: that of the registration.
    """

    state: WorkerState
    stops: list[tuple[int, int, str]]
    queues: int
    held: int
    fleet: int = 1
    watches: int = 0
    token: str = ""


def read_survey(rows: Sequence[Any]) -> Survey | None:
    """Convert the rows of ``SURVEY``; None: there are no rows."""
    if not rows:
        return None
    stops = [(row.id, row.attempt, row.stop) for row in rows if row.id is not None]
    row = rows[0]
    return Survey(WorkerState(row.state), stops, row.queues, row.held, row.fleet, row.watches, row.token)
