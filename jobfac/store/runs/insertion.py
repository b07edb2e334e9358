"""Insert runs: one statement for any number of them, whose text does not depend on the number."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import rows as input_rows
from jobfac.database.dialects import utcnow
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store.runs import admission
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record

ALL = 2**31 - 1


def insert(conn: sa.Connection, rows: Sequence[Mapping[str, Any]], state: RunState, ready_at: Any = None) -> list[int]:
    """Insert runs that all begin in ``state``, with ``ready_at`` if given. Returns their ids in order.

    ``rows``: values by column, of the same columns in each.
    """
    if len(rows) == 1:
        statement = _ONE[state] if ready_at is None else _one(state, ready_at=ready_at)
        ids = [int(conn.execute(statement, {**rows[0], "state": state}).scalar_one())]
    else:
        given = input_rows.rows_parameter({**_plain(row), "place": place} for place, row in enumerate(rows))
        statement = _several(conn.dialect.name, tuple(rows[0]), state, ready_at)
        ids = sorted(int(found) for found in conn.execute(statement, given).scalars())
    pairs = zip(ids, rows, strict=True)
    record(conn, [Event(found, 0, state, row["created_by"], notify=row["notify"]) for found, row in pairs])
    return ids


def _one(state: RunState, **more: Any) -> sa.Executable:
    """Return the statement that inserts a run in this state."""
    return run.insert().values({"created_at": utcnow(), **admission.on_entry(state), **more}).returning(run.c.id)


_ONE = {state: _one(state) for state in (RunState.QUEUED, RunState.BLOCKED, RunState.DENIED)}


def _several(engine: str, names: Sequence[str], state: RunState, ready_at: Any) -> sa.Executable:
    """Return the statement that inserts runs, with ids in the order of the rows."""
    table = input_rows.rows_table(engine, **{name: run.c[name].type for name in names}, place=sa.Integer())
    values: dict[str, Any] = {name: table.c[name] for name in names}
    values |= {"state": sa.literal_column(f"'{state}'"), "created_at": utcnow(), **admission.on_entry(state)}
    if ready_at is not None:
        values["ready_at"] = ready_at
    chosen: list[Any] = [
        sa.literal(value, run.c[name].type) if not isinstance(value, sa.ClauseElement) else value
        for name, value in values.items()
    ]
    # SQL Server respects ORDER BY in an INSERT only together with a limit.
    select = sa.select(*chosen).order_by(table.c.place).limit(ALL)
    return run.insert().from_select(list(values), select, include_defaults=False).returning(run.c.id)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
