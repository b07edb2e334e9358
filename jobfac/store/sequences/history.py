"""The step history of a sequence run."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from jobfac.database.tables import job, run, visit
from jobfac.states import FAILURES, JobKind, RunState
from jobfac.store.sequences.visits import refusals
from jobfac.views.sequences import StepRunView, StepVisitView
from jobfac.views.serialization import columns, from_row

SHOWN = 100
"""How many runs of a step with ``for_each`` its history has."""

_RUN_COLUMNS = [run.c[name] for name in columns(StepRunView)]


def step_history(conn: sa.Connection, run_id: int, categories: Sequence[str] | None = None) -> list[StepVisitView]:
    """Return all visits of a sequence run, oldest first, with the runs of their jobs and nested sequences.

    Args:
        categories: include only runs and refused starts of jobs of these categories; None: all.
    """
    children: dict[int, list[StepRunView]] = {}
    query = sa.select(run.c.visit_id, *_RUN_COLUMNS).where(run.c.sequence_run_id == run_id).order_by(run.c.id)
    seen = None if categories is None else _seen(conn, categories)
    if categories is not None:
        query = query.where(run.c.job.in_(sa.select(job.c.id).where(job.c.category.in_(categories))))
    for row in conn.execute(query).mappings().all():
        shown = from_row(StepRunView, row)
        if shown.kind is JobKind.SEQUENCE:
            shown = shown._replace(path=step_history(conn, row["id"], categories))
        children.setdefault(row["visit_id"], []).append(shown)
    visits = conn.execute(sa.select(visit).where(visit.c.run_id == run_id).order_by(visit.c.id)).mappings().all()
    return [_visit(row, [*_refused(row, seen), *children.get(row["id"], [])]) for row in visits]


def _seen(conn: sa.Connection, categories: Sequence[str]) -> frozenset[str]:
    """Return the ids of the jobs of these categories."""
    return frozenset(conn.execute(sa.select(job.c.id).where(job.c.category.in_(categories))).scalars())


def _visit(row: sa.RowMapping, started: list[StepRunView]) -> StepVisitView:
    shown = from_row(StepVisitView, {**row, "next": row["next_step"] or row["goes_to"], "runs": started})
    if shown.children is None:
        return shown
    counts = Counter(str(run.state) for run in started)
    if (unstarted := shown.children - len(started)) > 0 and shown.result is None:
        counts["unstarted"] = unstarted
    bad = sorted(started, key=lambda run: run.state not in FAILURES)
    return shown._replace(runs=bad[:SHOWN], counts=dict(sorted(counts.items())))


def _refused(row: sa.RowMapping, seen: Collection[str] | None) -> Iterator[StepRunView]:
    nothing = dict.fromkeys(columns(StepRunView))
    for name, why in refusals(row).items():
        if seen is None or name.partition("[")[0] in seen:
            yield from_row(StepRunView, {**nothing, "job": name, "state": RunState.DENIED, "reason": why})
