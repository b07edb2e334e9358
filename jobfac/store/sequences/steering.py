"""Stop and retry a sequence or any other run."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac import errors
from jobfac.database.dialects import lists
from jobfac.database.tables import run, run_event
from jobfac.database.types import sql_literals
from jobfac.definitions import Sequence as Definition
from jobfac.errors import FROM_FAILED, Refused
from jobfac.states import ACTIVE, JobKind, RunState
from jobfac.store import jobs, runs
from jobfac.store.runs import Stopped
from jobfac.store.runs.request import CONTINUED, FIRST
from jobfac.store.runs.starting import Started
from jobfac.store.sequences import continuing
from jobfac.store.sequences.advance import advance_all, conclude
from jobfac.store.sequences.checking import StepError
from jobfac.store.sequences.decide import failed_step
from jobfac.store.sequences.history import Visited, all_that_count, lineage
from jobfac.store.sequences.locking import lock, lock_rules, locked_sequences
from jobfac.views.serialization import read_json

_HAS_EVENTS = sa.select(run_event.c.run_id).where(run_event.c.run_id == sa.bindparam("run")).limit(1)
_RUN = sa.select(run.c.job, run.c.kind, run.c.state, run.c.sequence_run_id)


def stop(conn: sa.Connection, run_id: int, *, now: bool, by: str) -> Stopped:
    """Stop any run, as ``runs.request_stop`` does.

    A sequence is stopped with all its jobs. It starts nothing more and ends as ``stopped`` when its last job has ended,
    which may be at once. A sequence that contains the run continues.

    Raises:
        NotFound: there is no such run.
    """
    row = conn.execute(_RUN.where(run.c.id == run_id)).first()
    if row is None:
        raise errors.no_run(run_id)
    sequences = {run_id if row.kind == JobKind.SEQUENCE else row.sequence_run_id, row.sequence_run_id} - {None}
    inside = _inside(conn, run_id) if row.kind == JobKind.SEQUENCE else {run_id}
    lock_rules(conn, runs.rules_to_stop(conn, lists.by_id(run.c.id, inside)), sequences)
    lock(conn, sequences)
    before = runs.request_stop(conn, run_id, now=now, by=by, locked=True).before
    if row.kind == JobKind.SEQUENCE:
        stop_jobs(conn, run_id, now=now, by=by)
    conclude(conn, sequences, by)
    after = conn.execute(sa.select(run.c.state).where(run.c.id == run_id)).scalar_one()
    return Stopped(before, RunState(after))


def _inside(conn: sa.Connection, run_id: int) -> set[int]:
    """Return a sequence run and all active runs in it, at any depth."""
    inside: set[int] = set()
    found = {run_id}
    while found:
        inside |= found
        active = sa.select(run.c.id).where(
            sa.text("sequence_run_id IS NOT NULL"),
            lists.by_id(run.c.sequence_run_id, found),
            sa.text(f"state IN ({sql_literals(ACTIVE)})"),
        )
        found = set(conn.execute(active).scalars()) - inside
    return inside


def locked_to_stop(conn: sa.Connection, run_ids: Sequence[int]) -> set[int]:
    """Take the locks for stopping the jobs of these sequence runs and for advancing these runs, if they are free soon.

    Returns those for which a lock is not free.
    """

    def rules(some: Collection[int]) -> list[runs.Rule]:
        inside = {one for run_id in some for one in _inside(conn, run_id)}
        return runs.rules_to_stop(conn, lists.by_id(run.c.id, inside))

    return locked_sequences(conn, run_ids, rules)


def stop_jobs(conn: sa.Connection, run_id: int, *, now: bool, by: str) -> None:
    """Request a stop of every active job of a sequence run, including the jobs of nested sequences.

    The caller must have taken the named locks (``locked_to_stop``).
    """
    active = sa.select(run.c.id, run.c.kind).where(
        run.c.sequence_run_id == run_id, sa.text(f"state IN ({sql_literals(ACTIVE)})")
    )
    children = conn.execute(active.order_by(run.c.id)).all()
    runs.request_stops(conn, [child.id for child in children], now=now, by=by)
    for child in children:
        if child.kind == JobKind.SEQUENCE:
            stop_jobs(conn, child.id, now=now, by=by)
            advance_all(conn, [child.id], by)


def retry(
    conn: sa.Connection,
    run_id: int,
    by: str,
    *,
    from_failed: bool = False,
    key: str | None = None,
    changes: Mapping[str, Any] | None = None,
    categories: Sequence[str] | None = None,
    queues: bool = False,
) -> Started:
    """Start a new run from a finished one, as ``runs.retry`` does. ``key``: the new run's start key.

    With ``from_failed`` a sequence begins with the step that failed or was mixed most recently, also in the runs that
    the finished run continues. Jobs of this step, and values of its ``for_each``, that succeeded there count as they
    ended, and the others start. References to the outputs of earlier steps remain valid. A retry of such a run does
    the same.

    Raises:
        NotFound: there is no such run, or its job is gone.
        Refused: the run has not ended, its job is disabled, no step failed, or nobody knows which jobs succeeded.
    """
    if not from_failed:
        return runs.retry(conn, run_id, by, key=key, changes=changes, categories=categories, queues=queues)
    row = conn.execute(
        sa.select(run.c.job, run.c.job_version, run.c.kind, run.c.state, run.c.overrides).where(run.c.id == run_id)
    ).first()
    if row is None:
        raise errors.no_run(run_id)
    former = jobs.load_version(conn, row.job, row.job_version)
    if not isinstance(former, Definition):
        raise Refused(f"Run {run_id} is not of a sequence; retry it without {{way}}.", FROM_FAILED)
    that = all_that_count(conn, run_id)
    _check_whole(conn, run_id)
    first = read_json(row.overrides).get(FIRST) if row.overrides else None
    # Without visits, it has begun no step, and those of the runs that it continues were purged.
    failed = failed_step(former, that.visits) if that.visits or first is None else first
    if row.state == RunState.SUCCEEDED or (step := failed) is None:
        raise _nothing_failed(run_id, first)
    stored = jobs.load(conn, row.job, True)
    present = stored.definition if stored is not None else None
    if isinstance(present, Definition) and step not in {one.name for one in present.steps}:
        raise Refused(
            f"The step '{step}', which failed in run {run_id} or in one that it continues, is gone; retry it without "
            "{way}.",
            FROM_FAILED,
        )
    return runs.retry(
        conn, run_id, by, {FIRST: step, CONTINUED: _taken_over(conn, run_id, step, that)}, key, changes, categories
    )


def _check_whole(conn: sa.Connection, run_id: int) -> None:
    """Check, after their steps were read, that no purge has begun to remove those of a run or of the runs that it
    continues: it removes the events before.

    Raises:
        Refused: one has.
    """
    for one in lineage(conn, run_id):
        if not conn.execute(_HAS_EVENTS, {"run": one}).first() and conn.execute(_RUN.where(run.c.id == one)).first():
            raise Refused(
                f"Run {one} is being purged, so it is not known which of its steps succeeded; start the sequence with "
                "the step that failed."
            )


def _nothing_failed(run_id: int, first: str | None) -> Refused:
    what = "run all of it" if first is None else f"begin with the step '{first}' again"
    return Refused(f"No step of run {run_id} failed; retry it without {{way}} to {what}.", FROM_FAILED)


def _taken_over(conn: sa.Connection, run_id: int, step: str, that: Visited) -> int | None:
    """Return the visit whose successes a retry from this step takes over; None: it starts all of the step.

    Raises:
        Refused: some of its runs were purged.
    """
    visit_id = continuing.visit_to_continue(conn, run_id, step, that)
    if visit_id is not None:
        try:
            continuing.succeeded(conn, visit_id)
        except StepError as error:
            raise Refused(f"Run {run_id} cannot be continued: {error}.") from None
    return visit_id
