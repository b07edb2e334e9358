"""The visits of a sequence run in the database: one row for every entry into a step."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.definitions import Go, Step
from jobfac.states import ACTIVE, FINAL, RunState, StepResult, StepStart
from jobfac.store.sequences.decide import Leave, Visit


class VisitRow(NamedTuple):
    """A row of a visit. ``refused``: JSON, by job, why it could not be started."""

    id: int
    run_id: int
    step: str
    number: int
    entered_at: datetime
    start: str
    proceed: str
    refused: str | None
    result: str | None
    decided_at: datetime | None
    goes_to: Literal["step", "end", "end_failed"] | None
    next_step: str | None
    reason: str | None

    @property
    def refusals(self) -> dict[str, str]:
        """The jobs that could not be started, with the reasons."""
        return json.loads(self.refused) if self.refused else {}


class StoredVisit(NamedTuple):
    """A visit, and the id of its row."""

    id: int
    visit: Visit


def last(conn: sa.Connection, run_id: int) -> StoredVisit | None:
    """Return the latest visit of a sequence run, or None before the first visit."""
    query = sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id.desc()).limit(1)
    row = conn.execute(query).first()
    return None if row is None else StoredVisit(row.id, _visits(conn, [VisitRow(*row)])[0])


def rows_of(conn: sa.Connection, run_id: int) -> list[VisitRow]:
    """Return the rows of all visits of a sequence run, oldest first."""
    query = sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id)
    return [VisitRow(*row) for row in conn.execute(query)]


def all_of(conn: sa.Connection, run_id: int) -> list[Visit]:
    """Return all visits of a sequence run, oldest first."""
    return _visits(conn, rows_of(conn, run_id))


def _visits(conn: sa.Connection, rows: Sequence[VisitRow]) -> list[Visit]:
    if not rows:
        return []
    states: dict[int, list[RunState]] = {row.id: [RunState.DENIED] * len(row.refusals) for row in rows}
    query = sa.select(run.c.visit_id, run.c.state).order_by(run.c.ended_at, run.c.id)
    if len(rows) == 1:
        query = query.where(run.c.visit_id == rows[0].id)
    else:
        query = query.where(run.c.sequence_run_id == rows[0].run_id)
    for child in conn.execute(query):
        states[child.visit_id].append(RunState(child.state))
    return [_visit(row, states[row.id]) for row in rows]


def _visit(row: VisitRow, states: Sequence[RunState]) -> Visit:
    ended = [state for state in states if state in FINAL]
    result = None if row.result is None else StepResult(row.result)
    to = None if row.goes_to is None else Go(kind=row.goes_to, step=row.next_step)
    return Visit(row.step, ended, len(states) - len(ended), result, to)


def count(conn: sa.Connection, run_id: int, step: str) -> int:
    """Return how often a sequence run has entered a step."""
    query = sa.select(sa.func.max(visit.c.number)).where(visit.c.run_id == run_id, visit.c.step == step)
    return conn.execute(query).scalar() or 0


def is_busy(conn: sa.Connection, run_id: int) -> bool:
    """Whether a job of the sequence run is still active."""
    query = sa.select(run.c.id).where(run.c.sequence_run_id == run_id, sa.text(f"state IN ({sql_literals(ACTIVE)})"))
    return conn.execute(query.limit(1)).first() is not None


def enter(
    conn: sa.Connection,
    run_id: int,
    step: Step,
    number: int,
    start: StepStart,
    left: Leave | None = None,
    reason: str | None = None,
) -> int:
    """Record that the sequence entered a step for the ``number``-th time. Returns the id of the visit.

    ``left``: the result, if the visit is already decided.
    """
    values = {
        "run_id": run_id,
        "step": step.name,
        "number": number,
        "start": start,
        "proceed": step.proceed,
        "reason": None if reason is None else truncate_utf16(reason, 1000),
    }
    times: dict[str, Any] = {"entered_at": utcnow()}
    if left is not None:
        values |= _left(left)
        times["decided_at"] = utcnow()
    return int(conn.execute(visit.insert().values({**values, **times}).returning(visit.c.id)).scalar_one())


def refuse(conn: sa.Connection, visit_id: int, reasons: Mapping[str, str]) -> None:
    """Record which jobs of a visit could not be started, and why."""
    conn.execute(
        visit.update().where(visit.c.id == visit_id).values(refused=json.dumps(dict(reasons), ensure_ascii=False))
    )


def leave(conn: sa.Connection, visit_id: int, left: Leave) -> None:
    """Record a visit's result and where the sequence continues."""
    conn.execute(visit.update().where(visit.c.id == visit_id).values({**_left(left), "decided_at": utcnow()}))


def _left(left: Leave) -> dict[str, Any]:
    return {"result": left.result, "goes_to": left.to.kind, "next_step": left.to.step}


def outputs(conn: sa.Connection, run_ids: Iterable[int], step: str, job: str) -> Mapping[str, Any] | None:
    """Return the outputs of a job of a step, from the first of these sequence runs in which the job has ended.

    The latest visit counts. None: the job has not ended in any of these runs.
    """
    for run_id in run_ids:
        query = (
            sa.select(run.c.outputs)
            .join(visit, visit.c.id == run.c.visit_id)
            .where(visit.c.run_id == run_id, visit.c.step == step, run.c.job == job, run.c.ended_at.is_not(None))
            .order_by(visit.c.id.desc())
            .limit(1)
        )
        row = conn.execute(query).first()
        if row is not None:
            return json.loads(row.outputs) if row.outputs else {}
    return None
