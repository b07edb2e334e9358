"""The path that a sequence run took, in the one form in which the command line and the API show it."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import job, run, visit
from jobfac.states import JobKind, RunState
from jobfac.store.runs.reading import shown_value
from jobfac.store.sequences.visits import refusals

_RUN = (
    run.c.id,
    run.c.job,
    run.c.kind,
    run.c.state,
    run.c.attempt,
    run.c.started_at,
    run.c.ended_at,
    run.c.exit_code,
    run.c.reason,
    run.c.exit_message,
    run.c.outputs,
)


def path(conn: sa.Connection, run_id: int, categories: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Every visit of a sequence run, oldest first, as JSON-able objects. Runs and refused starts of jobs outside of
    ``categories`` are left out; None: all are shown.

    Keys: ``step``; ``number``, 1 for the first visit of this step; ``entered_at``; ``start`` and ``result``, as in
    ``StepStart`` and ``StepResult``, the latter None while it is not decided; ``decided_at``; ``next``: the step
    chosen, "end" or "end_failed"; ``reason`` of a skipped or failed start; and ``runs``: the step's jobs, each with
    ``id``, ``job``, ``kind``, ``state``, ``attempt``, ``started_at``, ``ended_at``, ``exit_code``, ``reason``,
    ``exit_message`` and ``outputs``; a nested sequence with its own ``path``. A job whose start was refused has the
    state ``denied`` and no id.
    """
    children: dict[int, list[dict[str, Any]]] = {}
    query = sa.select(run.c.visit_id, *_RUN).where(run.c.sequence_run_id == run_id).order_by(run.c.id)
    seen = None if categories is None else _seen(conn, categories)
    if categories is not None:
        query = query.where(run.c.job.in_(sa.select(job.c.id).where(job.c.category.in_(categories))))
    for row in conn.execute(query).mappings().all():
        shown = {column.name: shown_value(row[column]) for column in _RUN}
        shown["outputs"] = json.loads(row["outputs"]) if row["outputs"] else None
        if row["kind"] == JobKind.SEQUENCE:
            shown["path"] = path(conn, row["id"], categories)
        children.setdefault(row["visit_id"], []).append(shown)
    rows = conn.execute(sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id)).mappings().all()
    return [_shown(row) | {"runs": _refused(row, seen) + children.get(row["id"], [])} for row in rows]


def _seen(conn: sa.Connection, categories: Sequence[str]) -> frozenset[str]:
    """The ids of the jobs of these categories."""
    return frozenset(conn.execute(sa.select(job.c.id).where(job.c.category.in_(categories))).scalars())


def _shown(row: sa.RowMapping) -> dict[str, Any]:
    names = ("step", "number", "entered_at", "start", "result", "decided_at", "reason")
    return {name: shown_value(row[name]) for name in names} | {"next": row["next_step"] or row["goes_to"]}


def _refused(row: sa.RowMapping, seen: Collection[str] | None) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(column.name for column in _RUN)
    return [
        nothing | {"job": name, "state": RunState.DENIED, "reason": why}
        for name, why in refusals(row).items()
        if seen is None or name in seen
    ]
