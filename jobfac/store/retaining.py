"""Which ended runs others still need, so that a purge leaves them: retries under way, and events to be addressed."""

from collections.abc import Collection

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, lists
from jobfac.database.tables import outbox_event, run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, JobKind

# Read without regard to locks: a scheduler locks an event while it looks up its recipients, a worker locks a sequence.
# The columns that lead from run to run never change.
_CONTINUING = (
    sa.select(run.c.retry_of)
    .with_hint(run, DIRTY, "mssql")
    .where(sa.text(f"state IN ({sql_literals(ACTIVE)})"), run.c.kind == JobKind.SEQUENCE, run.c.retry_of.is_not(None))
)
_FIRST_EVENT = sa.select(sa.func.min(outbox_event.c.run_id)).with_hint(outbox_event, DIRTY, "mssql")
_SEQUENCES = (
    sa.select(run.c.sequence_run_id)
    .distinct()
    .join(outbox_event, outbox_event.c.run_id == run.c.id)
    .with_hint(outbox_event, DIRTY, "mssql")
    .with_hint(run, DIRTY, "mssql")
    .where(run.c.sequence_run_id.is_not(None))
)


def needed_elsewhere(conn: sa.Connection) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on an ended run that nothing else needs it. There are none, most of the time."""
    conditions: list[sa.ColumnElement[bool]] = []
    if continued := _above(conn, set(conn.execute(_CONTINUING).scalars()), run.c.retry_of):
        theirs = sa.select(lists.ids("continued").c.value).params(continued=lists.as_list(continued))
        conditions.append(run.c.id.not_in(theirs))
        conditions.append(sa.or_(run.c.sequence_run_id.is_(None), run.c.sequence_run_id.not_in(theirs)))
    if (first := conn.execute(_FIRST_EVENT).scalar()) is not None:
        # The subscribers stand in the row of the run and in those of the sequences around it, which began earlier.
        around = _above(conn, set(conn.execute(_SEQUENCES).scalars()), run.c.sequence_run_id)
        conditions.append(run.c.id < min([first, *around]))
    return conditions


def _above(conn: sa.Connection, run_ids: Collection[int], link: sa.Column[int]) -> set[int]:
    """Return these runs and those that can be reached from them by ``link``."""
    found: set[int] = set()
    level = set(run_ids)
    while level:
        found |= level
        query = sa.select(link).with_hint(run, DIRTY, "mssql").where(lists.by_id(run.c.id, level), link.is_not(None))
        level = set(conn.execute(query).scalars()) - found
    return found
