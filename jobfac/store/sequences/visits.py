"""The visits of a sequence run in the database: one row for every entry into a step."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.definitions import Go, Step
from jobfac.states import ACTIVE, FINAL, RunState, StepResult, StepStart
from jobfac.store.sequences.decide import Leave, Visit, cause


class Place(NamedTuple):
    """The latest visit of a sequence run, and the id of the visit's row."""

    id: int
    visit: Visit


def last(conn: sa.Connection, run_id: int) -> Place | None:
    """Return the latest visit of a sequence run, or None before the first visit."""
    query = sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return None if row is None else Place(row["id"], _visits(conn, [row])[0])


def all_of(conn: sa.Connection, run_id: int) -> list[Visit]:
    """Return all visits of a sequence run, oldest first."""
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
    """Return the jobs of a visit that could not be started, with the reasons."""
    return json.loads(row["refused"]) if row["refused"] else {}


def first_cause(conn: sa.Connection, run_id: int) -> str | None:
    """Return the first step and job of a sequence run that did not succeed, in words; None: all succeeded."""
    bad = FINAL - {RunState.SUCCEEDED}
    first = (
        sa.select(run.c.visit_id, visit.c.step, run.c.job, run.c.state, run.c.reason, run.c.exit_message)
        .join(visit, visit.c.id == run.c.visit_id)
        .where(run.c.sequence_run_id == run_id, sa.text(f"state IN ({sql_literals(bad)})"))
        .order_by(run.c.visit_id, run.c.ended_at, run.c.id)
        .limit(1)
    )
    row = conn.execute(first).first()
    unstarted = sa.select(visit).where(
        visit.c.run_id == run_id,
        sa.or_(visit.c.refused.is_not(None), sa.text(f"visit.start = '{StepStart.FAILED}'")),
    )
    other = conn.execute(unstarted.order_by(visit.c.id).limit(1)).mappings().first()
    if other is not None and (row is None or other["id"] <= row.visit_id):
        job, why = next(iter(refusals(other).items()), (None, other["reason"]))
        return cause(other["step"], job, RunState.DENIED if job else None, why)
    if row is None:
        return None
    return cause(row.step, row.job, RunState(row.state), row.reason or row.exit_message)


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
