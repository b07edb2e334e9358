"""Daily statistics: totals of runs by day and job, in a few rows that outlive the runs.

Each ended run is counted once, in the transaction that sets ``run.counted``. So any number of schedulers may count at
the same time, and any of them may be killed at any point. Only counted runs are purged. A run belongs to the day (UTC)
on which it ended. The time of its executions is divided among the days on which they ran.
"""

import functools
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import FOUND_BY_KEY, PASS, SKIP, utcnow
from jobfac.database.dialects.rows import by_primary_key, rows_parameter, rows_table
from jobfac.database.tables import UNCOUNTED, attempt, daily, daily_worker, run
from jobfac.database.types import BigId, sql_literals
from jobfac.states import FINAL, RunState
from jobfac.store import notes
from jobfac.store.history.totals import SUMS, DailyTotals, EndedRun, Execution, Presence, Work, presence, totals, work
from jobfac.store.runs.subscribers import JUDGED

BATCH = 500
"""The maximum number of runs that one transaction counts."""

COLUMNS = tuple(run.c[name] for name in EndedRun._fields)
"""The columns of ``EndedRun``."""

EXECUTION = (attempt.c.worker, attempt.c.started_at, attempt.c.ended_at, run.c.slots)
"""The columns of ``Execution``."""


def uncounted(limit: int | None = None) -> sa.Select[Any]:
    """Return the query of ended runs that are not counted yet, the earliest end first."""
    return sa.select(*COLUMNS).where(sa.text(UNCOUNTED)).order_by(run.c.ended_at).limit(limit)


def uncounted_executions() -> sa.Select[Any]:
    """Return the query of the executions of ended runs that are not counted yet."""
    theirs = attempt.join(run, run.c.id == attempt.c.run_id)
    return sa.select(*EXECUTION).select_from(theirs).where(sa.text(f"run.{UNCOUNTED}"), attempt.c.ended_at.is_not(None))


def count(conn: sa.Connection) -> int:
    """Count up to ``BATCH`` ended runs with their executions. Returns the number of counted runs.

    Fewer than ``BATCH``: there are no more to count.
    """
    _lock(conn)
    rows = [EndedRun(*row) for row in conn.execute(uncounted(BATCH).with_hint(run, SKIP, "mssql"))]
    if rows:
        engine, ids = conn.dialect.name, rows_parameter({"id": row.id} for row in rows)
        _add_runs(conn, totals(rows))
        _add_work(conn, work(Execution(*row) for row in conn.execute(_executions(engine), ids)))
        conn.execute(_mark(engine), ids)
        good = [row for row in rows if row.state == RunState.SUCCEEDED]
        successes = [notes.Success(row.job, row.id, row.ended_at) for row in good]
        notes.acknowledge_recovered(conn, successes)
    return len(rows)


@functools.cache
def _executions(engine: str) -> sa.Select[Any]:
    input_rows = rows_table(engine, id=BigId)
    theirs = attempt.join(input_rows, attempt.c.run_id == input_rows.c.id).join(run, run.c.id == input_rows.c.id)
    found = sa.select(*EXECUTION).select_from(theirs).where(attempt.c.ended_at.is_not(None))
    return found.with_hint(attempt, FOUND_BY_KEY, "mssql").with_hint(run, FOUND_BY_KEY, "mssql")


@functools.cache
def _mark(engine: str) -> sa.Update:
    given = rows_table(engine, id=BigId)
    return by_primary_key(run.update().where(run.c.id == given.c.id).values(counted=True), run)


USUAL, SEARCHED = 30, 300
"""The usual duration is that of so many successes, searched among so many of the job's latest runs that show whether it
works. Hundreds of others may be newer: starts that were denied while it ran, or that wait for it."""

_latest = (
    sa.select(run.c.id, run.c.state, run.c.started_at, run.c.ended_at)
    .with_hint(run, PASS, "mssql")
    .where(run.c.job == sa.bindparam("p_job"), sa.text(f"run.state IN ({sql_literals(JUDGED)})"))
    .order_by(run.c.id.desc())
    .limit(SEARCHED)
    .subquery("latest")
)
_SUCCESSES = (
    sa.select(_latest.c.started_at, _latest.c.ended_at)
    .where(_latest.c.state == RunState.SUCCEEDED, _latest.c.started_at.is_not(None))
    .order_by(_latest.c.id.desc())
    .limit(USUAL)
)


def usual_seconds(conn: sa.Connection, job: str) -> float | None:
    """Return the median duration of a job's last 30 successes in seconds, or None if it has not succeeded lately."""
    found = conn.execute(_SUCCESSES, {"p_job": job}).all()
    return median((row.ended_at - row.started_at).total_seconds() for row in found) if found else None


def count_presence(conn: sa.Connection, workers: Iterable[Presence]) -> None:
    """Add the presence of workers whose rows this transaction removes."""
    _lock(conn)
    _add_work(conn, presence(workers))


def _lock(conn: sa.Connection) -> None:
    """Serialise writers of a day's row: if two insert the same row, one of them fails."""
    locks.take(conn, {locks.DAILY})


_STATES = [state.value for state in sorted(FINAL)]


def _has_key(table: sa.Table) -> list[sa.ColumnElement[bool]]:
    return [column == sa.bindparam(f"p_{column.name}") for column in table.primary_key.columns]


def _adding(table: sa.Table, names: Iterable[str]) -> sa.Update:
    values = {name: _known(table.c[name]) + sa.bindparam(f"p_{name}") for name in names}
    return table.update().where(*_has_key(table)).values(values)


def _known(column: sa.Column[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(column, 0) if column.nullable else column


def _keep_if(condition: sa.ColumnElement[bool], column: str) -> sa.Case[Any]:
    """Return the expression for a column that keeps its value under this condition and else gets the new one."""
    return sa.case((condition, daily.c[column]), else_=sa.bindparam(f"p_{column}", type_=sa.BigInteger))


def _greatest(name: str) -> dict[str, sa.Case[Any]]:
    is_greater = daily.c[f"{name}_ms"] >= sa.bindparam(f"p_{name}_ms", type_=sa.BigInteger)
    return {column: _keep_if(is_greater, column) for column in (f"{name}_ms", f"{name}_run")}


_PEAK = sa.bindparam("p_peak_memory", type_=sa.BigInteger)
_IS_LOWER = sa.or_(_PEAK.is_(None), daily.c.peak_memory >= _PEAK)
_IS_SHORTER = daily.c.shortest_ms < sa.bindparam("p_shortest_ms", type_=sa.BigInteger)
_ADD_RUNS = _adding(daily, (*_STATES, *SUMS))
_EXTREMES = (
    daily.update()
    .where(*_has_key(daily))
    .values(
        shortest_ms=_keep_if(_IS_SHORTER, "shortest_ms"),
        peak_memory=_keep_if(_IS_LOWER, "peak_memory"),
        **_greatest("longest"),
        **_greatest("latest"),
    )
)
_ADD_WORK = _adding(daily_worker, ("attempts", "busy_ms", "slot_ms"))


def _add_runs(conn: sa.Connection, by_day: Mapping[tuple[date, str], DailyTotals]) -> None:
    _make_rows(conn, daily, by_day)
    rows = [
        {"p_day": day, "p_job": job, **_bound(of_day.states), **_bound(vars(of_day))}
        for (day, job), of_day in by_day.items()
    ]
    conn.execute(_ADD_RUNS, rows)
    if executed := [row for row in rows if row["p_ran"]]:
        conn.execute(_EXTREMES, executed)


def _add_work(conn: sa.Connection, by_day: Mapping[tuple[date, str], Work]) -> None:
    if by_day:
        _make_rows(conn, daily_worker, by_day)
        rows = [{"p_day": day, "p_worker": name, **_bound(vars(of_day))} for (day, name), of_day in by_day.items()]
        conn.execute(_ADD_WORK, rows)


def _bound(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"p_{name}": value for name, value in values.items() if not isinstance(value, dict)}


@functools.cache
def _names_of(table: sa.Table) -> sa.Select[Any]:
    day, name = table.primary_key.columns
    return sa.select(day, name).where(day == sa.bindparam("p_day", type_=day.type))


def _make_rows(conn: sa.Connection, table: sa.Table, keys: Iterable[tuple[date, str]]) -> None:
    """Insert the missing rows of these keys, with all counters at zero."""
    day, name = table.primary_key.columns
    # A day's rows are few enough to be read whole, and the statement does not change with the number of names.
    found = [conn.execute(_names_of(table), {"p_day": one}).all() for one in sorted({key[0] for key in keys})]
    known = {tuple(row) for rows in found for row in rows}
    zeros: dict[str, Any] = {column.name: sa.literal_column("0") for column in table.c if not column.nullable}
    new = {**zeros, **{column.name: sa.bindparam(f"p_{column.name}", type_=column.type) for column in (day, name)}}
    # The database decides again, because its collation may treat names as equal that differ in case.
    absent = ~sa.exists().where(*_has_key(table))
    missing = [{f"p_{day.name}": key[0], f"p_{name.name}": key[1]} for key in keys if key not in known]
    if missing:
        conn.execute(table.insert().from_select(list(new), sa.select(*new.values()).where(absent)), missing)


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove the oldest day if it ended more than ``age`` seconds ago. Returns True if there may be more."""
    removed = False
    for table in (daily, daily_worker):
        oldest, now = conn.execute(sa.select(sa.func.min(table.c.day), utcnow())).one()
        if oldest is not None and oldest < (now - timedelta(seconds=age)).date():
            conn.execute(table.delete().where(table.c.day == oldest))
            removed = True
    return removed
