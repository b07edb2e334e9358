"""The visits of a sequence run in the database: a row for every time that it came to a step."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.definitions import Go, Step
from jobfac.states import ACTIVE, FINAL, RunState, StepResult, StepStart
from jobfac.store.sequences.decide import Leave, Visit


class Place(NamedTuple):
    """Where a sequence run stands: its latest visit, and the id of its row."""

    id: int
    visit: Visit


def last(conn: sa.Connection, run_id: int) -> Place | None:
    """The latest visit of a sequence run, None before the first."""
    query = sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return None if row is None else Place(row["id"], _visits(conn, [row])[0])


def all_of(conn: sa.Connection, run_id: int) -> list[Visit]:
    """Every visit of a sequence run, oldest first."""
    query = sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id)
    return _visits(conn, conn.execute(query).mappings().all())


def _visits(conn: sa.Connection, rows: Sequence[Mapping[Any, Any]]) -> list[Visit]:
    if not rows:
        return []
    states: dict[int, list[RunState]] = {row["id"]: [RunState.DENIED] * len(refusals(row)) for row in rows}
    query = sa.select(run.c.visit_id, run.c.state).order_by(run.c.ended_at, run.c.id)
    if len(rows) == 1:
        query = query.where(run.c.visit_id == rows[0]["id"])
    else:
        query = query.where(run.c.sequence_run_id == rows[0]["run_id"])
    for child in conn.execute(query):
        states[child.visit_id].append(RunState(child.state))
    return [_visit(row, states[row["id"]]) for row in rows]


def _visit(row: Mapping[Any, Any], states: Sequence[RunState]) -> Visit:
    ended = [state for state in states if state in FINAL]
    result = None if row["result"] is None else StepResult(row["result"])
    to = None if row["goes_to"] is None else Go(kind=row["goes_to"], step=row["next_step"])
    return Visit(row["step"], ended, len(states) - len(ended), result, to)


def refusals(row: Mapping[Any, Any]) -> dict[str, str]:
    """The jobs of a visit that could not be started, with the reasons."""
    return json.loads(row["refused"]) if row["refused"] else {}


def count(conn: sa.Connection, run_id: int, step: str) -> int:
    """How often a sequence run has come to a step."""
    query = sa.select(sa.func.max(visit.c.number)).where(visit.c.run_id == run_id, visit.c.step == step)
    return conn.execute(query).scalar() or 0


def is_busy(conn: sa.Connection, run_id: int) -> bool:
    """Whether a job of the sequence run has not ended."""
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
    """Write down that the sequence came to a step, for the ``number``-th time; ``left``: and is through with it."""
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
    """Write down which jobs of a visit could not be started, and why."""
    conn.execute(
        visit.update().where(visit.c.id == visit_id).values(refused=json.dumps(dict(reasons), ensure_ascii=False))
    )


def leave(conn: sa.Connection, visit_id: int, left: Leave) -> None:
    """Write down a visit's result and where the sequence goes from it."""
    conn.execute(visit.update().where(visit.c.id == visit_id).values({**_left(left), "decided_at": utcnow()}))


def _left(left: Leave) -> dict[str, Any]:
    return {"result": left.result, "goes_to": left.to.kind, "next_step": left.to.step}


def outputs(conn: sa.Connection, run_ids: Iterable[int], step: str, job: str) -> Mapping[str, Any] | None:
    """What a job of a step reported at its last end, in the first of these sequence runs in which it has ended."""
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
