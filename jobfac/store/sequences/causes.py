"""Why a sequence run did not succeed, in words: the step and the job that failed."""

from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.tables import job, run
from jobfac.database.types import sql_literals
from jobfac.states import FINAL, Decision, RunState, StepResult, StepStart, Waiting
from jobfac.store import api_keys
from jobfac.store.sequences.decide import Visit, cause, how_elsewhere, step_results
from jobfac.store.sequences.visits import VisitRow

_BAD = (StepResult.FAILURE, StepResult.MIXED)


def first_cause(conn: sa.Connection, rows: Sequence[VisitRow], visits: Sequence[Visit]) -> str | None:
    """Return the first step and job of a sequence run that did not succeed, in words; None: all succeeded.

    ``visits``: those of ``rows``, oldest first.
    """
    place = blamed(visits)
    return None if place is None else _words(conn, rows[place])


def blamed(visits: Sequence[Visit]) -> int | None:
    """Return the place of the visit that is the reason why a sequence run did not succeed; None: there is none.

    This is the first step whose last visit did not succeed. A step that succeeded when it was repeated is blamed only
    without such a step: then the step that handled its failure has ended the sequence as failed. A pure function.
    """
    last = {visit.step: place for place, visit in enumerate(visits)}
    bad = {step for step, result in step_results(visits).items() if result in _BAD}
    counts = [last[step] for step in bad]
    others = [place for place, visit in enumerate(visits) if _has_failed(visit)]
    return min(counts or others, default=None)


def _has_failed(visit: Visit) -> bool:
    return visit.result in _BAD or any(state != RunState.SUCCEEDED for state in visit.ended)


def _words(conn: sa.Connection, row: VisitRow) -> str | None:
    """Return what went wrong in a visit, in words; None: nothing did."""
    if row.decision is not None:
        return cause(row.step, None, None, _decided(row))
    if row.refusals or row.start == StepStart.FAILED:
        name, why = next(iter(row.refusals.items()), (None, row.reason))
        if name is not None and is_elsewhere(conn, row.run_id, name.partition("[")[0]):
            why = "a job of another category"
        return cause(row.step, name, RunState.DENIED if name else None, why)
    bad = sa.text(f"state IN ({sql_literals(FINAL - {RunState.SUCCEEDED})})")
    shown = sa.select(run.c.id, run.c.job, run.c.state, run.c.exit_code, run.c.reason, run.c.exit_message)
    found = conn.execute(shown.where(run.c.visit_id == row.id, bad).order_by(run.c.ended_at, run.c.id).limit(1)).first()
    if found is None:
        return None
    state, why = RunState(found.state), found.reason or found.exit_message
    if is_elsewhere(conn, row.run_id, found.job):
        why = how_elsewhere(found.id, state, found.exit_code)
    return cause(row.step, found.job, state, why)


def _decided(row: VisitRow) -> str:
    """Return how the waiting of a step ended that did not succeed."""
    if row.decision == Decision.REJECTED:
        how = f"rejected by {row.decided_by}"
    elif row.waits_for == Waiting.APPROVAL:
        how = "nobody decided in time"
    else:
        how = "what it waited for was not there in time"
    return f"{how}: {row.reason}" if row.reason else how


def is_elsewhere(conn: sa.Connection, run_id: int, job_id: str) -> bool:
    """Whether a job in a sequence run is of another category, and keys are limited to categories: these see the run of
    the sequence, but not what the job says about itself."""
    around = sa.select(job.c.category).join(run, run.c.job == job.c.id).where(run.c.id == run_id)
    category = conn.execute(around).scalar()
    inside = sa.select(job.c.category).where(job.c.id == job_id)
    return category is not None and conn.execute(inside).scalar() != category and api_keys.are_limited(conn)
