"""The step history of a sequence run."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import job, run
from jobfac.states import FAILURES, JobKind, RunState
from jobfac.store.sequences.visits import VisitRow, rows_of
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
    query = query.where(*lists.of_categories(run.c.job, categories))
    for row in conn.execute(query).mappings().all():
        child = from_row(StepRunView, row)
        if child.kind is JobKind.SEQUENCE:
            child = child._replace(path=step_history(conn, row["id"], categories))
        children.setdefault(row["visit_id"], []).append(child)
    rows = rows_of(conn, run_id)
    return [_visit(row, [*_refused(row, seen), *children.get(row.id, [])]) for row in rows]


def _seen(conn: sa.Connection, categories: Sequence[str]) -> frozenset[str]:
    """Return the ids of the jobs of these categories."""
    return frozenset(conn.execute(sa.select(job.c.id).where(lists.among(job.c.category, categories))).scalars())


def _visit(row: VisitRow, runs: list[StepRunView]) -> StepVisitView:
    shown = from_row(StepVisitView, {**row._asdict(), "next": row.next_step or row.goes_to, "runs": runs})
    if shown.children is None:
        return shown
    counts = Counter(str(run.state) for run in runs)
    if (unstarted := shown.children - len(runs)) > 0 and shown.result is None:
        counts["unstarted"] = unstarted
    failures_first = sorted(runs, key=lambda run: run.state not in FAILURES)
    return shown._replace(runs=failures_first[:SHOWN], counts=dict(sorted(counts.items())))


def _refused(row: VisitRow, seen: Collection[str] | None) -> Iterator[StepRunView]:
    empty = dict.fromkeys(columns(StepRunView))
    for name, why in row.refusals.items():
        if seen is None or name.partition("[")[0] in seen:
            yield from_row(StepRunView, {**empty, "job": name, "state": RunState.DENIED, "reason": why})
