"""The step history of a sequence run."""

from collections.abc import Iterator

import sqlalchemy as sa

from jobfac.database.tables import run, visit
from jobfac.states import JobKind, RunState
from jobfac.store.sequences.visits import refusals
from jobfac.views.sequences import StepRunView, StepVisitView
from jobfac.views.serialization import columns, from_row

_RUN_COLUMNS = [run.c[name] for name in columns(StepRunView)]


def step_history(conn: sa.Connection, run_id: int) -> list[StepVisitView]:
    """Every visit of a step, oldest first, with the runs of its jobs; of nested sequences, too."""
    children: dict[int, list[StepRunView]] = {}
    query = sa.select(run.c.visit_id, *_RUN_COLUMNS).where(run.c.sequence_run_id == run_id).order_by(run.c.id)
    for row in conn.execute(query).mappings().all():
        shown = from_row(StepRunView, row)
        if shown.kind is JobKind.SEQUENCE:
            shown = shown._replace(path=step_history(conn, row["id"]))
        children.setdefault(row["visit_id"], []).append(shown)
    visits = conn.execute(sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id)).mappings().all()
    return [_visit(row, [*_refused(row), *children.get(row["id"], [])]) for row in visits]


def _visit(row: sa.RowMapping, started: list[StepRunView]) -> StepVisitView:
    return from_row(StepVisitView, {**row, "next": row["next_step"] or row["goes_to"], "runs": started})


def _refused(row: sa.RowMapping) -> Iterator[StepRunView]:
    nothing = dict.fromkeys(columns(StepRunView))
    for job, why in refusals(row).items():
        yield from_row(StepRunView, {**nothing, "job": job, "state": RunState.DENIED, "reason": why})
