"""Start and retry runs."""

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as List
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.definitions import Sequence
from jobfac.errors import Forbidden, InDoubt, Interrupted, NotFound, Refused, Unreachable, so_far
from jobfac.operations.caller import Caller, transact, visible_job, visible_run
from jobfac.states import JobKind, Role, RunState
from jobfac.store import audit, jobs, runs, sequences
from jobfac.store.history import retries
from jobfac.store.runs import StartRequest
from jobfac.store.runs.request import FIRST
from jobfac.views.runs import RunView

TOGETHER = 1000
"""The maximum number of runs that one transaction starts."""

PAGE = 500
"""The maximum number of runs that one query reads."""

UNCOMMITTED = 10_000
"""How far below the highest id that can be read the id of a run may be whose transaction has not committed yet."""


def start(
    db: Database, by: Caller, request: StartRequest, if_new: Callable[[sa.Connection], None] | None = None
) -> list[RunView]:
    """Start a job. Returns the run. Check its state: it may be ``denied``.

    If the job has ``each_worker``, it returns one run for each live worker that fits, and ``for_worker`` names it.
    May be repeated by the caller if the request has a key: the same key of the same job gives the same runs, even if
    other workers are alive then. Without a key each call starts runs. ``if_new`` is called in the
    transaction that starts runs, not in a repetition; what it raises undoes the start.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Forbidden: it begins with a step behind an approval that the caller may not give.
        Refused, DefinitionError: as ``runs.start``.
    """
    request = replace(request, by=by.name, categories=by.categories)

    def work(conn: sa.Connection) -> list[RunView]:
        if by.categories is not None:
            visible_job(conn, by, request.job)
        _check_approvals(conn, by, request.job, (request.overrides or {}).get(FIRST))
        started = runs.start_once(conn, request)
        rows = [runs.get(conn, run_id) for run_id in (started.run_id, *started.others)]
        if started.is_new:
            if if_new is not None:
                if_new(conn)
            first, last = rows[0], rows[-1]
            subject = f"run {first.id}" if len(rows) == 1 else f"runs {first.id} to {last.id} ({len(rows)})"
            audit.note(conn, by.name, "start", subject, after=first.job)
        return rows

    since = time.time_ns()
    rows = transact(db, by, work)
    for row in rows:
        by.traces.started(row, since, by.traceparent)
    return rows


def start_many(db: Database, by: Caller, request: StartRequest, count: int) -> list[int]:
    """Start ``count`` equal runs. Returns their ids in order.

    Up to 1,000 runs start all or none, fewer if their texts are long. More runs start in several transactions, because
    on SQLite a long one delays the heartbeats of the whole fleet. May be repeated by the caller if the request has a
    key: runs that an earlier call has started are found, and the others are started. Without a key each call starts
    ``count`` runs.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        DefinitionError: as ``runs.start``.
        Refused: as ``runs.start``. When some were started, the text says how many, and the key that starts the others.
        Unreachable: the database is unreachable; the text says the same.
        Interrupted: Ctrl-C; the text says the same.
    """
    since = time.time_ns()
    key = request.key or secrets.token_hex(16)  # the caller also needs it to continue after a failure
    request = replace(request, by=by.name, key=key, categories=by.categories)
    ids: list[int] = []
    together = request.together(TOGETHER)
    rest = f"the key '{key}' with the same count starts the others."
    while len(ids) < count:
        first, size = len(ids), min(together, count - len(ids))
        try:
            ids += transact(db, by, _batch(by, request, first, size))
            if len(ids) < count:
                time.sleep(db.dialect.pause_between_writes)
        except (Unreachable, Refused) as error:
            if not ids and not isinstance(error, InDoubt):
                raise
            raise error.with_more(so_far(len(ids), count, error) + rest) from error
        except KeyboardInterrupt as error:
            raise Interrupted(f"Interrupted: {so_far(len(ids), count, error)}{rest}") from None
    _trace(db, by, ids, since)
    return ids


def _batch(by: Caller, request: StartRequest, first: int, size: int) -> Callable[[sa.Connection], list[int]]:
    def work(conn: sa.Connection) -> list[int]:
        if by.categories is not None:
            visible_job(conn, by, request.job)
        _check_approvals(conn, by, request.job, (request.overrides or {}).get(FIRST))
        ids, new = runs.start_numbered(conn, request, first, size)
        if new:
            subject = f"run {ids[0]}" if size == 1 else f"runs {ids[0]} to {ids[-1]} ({new})"
            audit.note(conn, by.name, "start", subject, after=request.job)
        return ids

    return work


def _trace(db: Database, by: Caller, ids: List[int], since: int) -> None:
    if not by.traces.wanted:
        return
    with contextlib.suppress(Unreachable):  # they are started
        for first in range(0, len(ids), PAGE):
            for run in db.query(runs.snapshots, ids[first : first + PAGE]).values():
                by.traces.started(run, since, by.traceparent)


class AlreadyRetried(Refused):
    """Another call has retried the run. ``new_run``: the run that it started."""

    def __init__(self, run_id: int, new_run: int) -> None:
        super().__init__(f"Run {run_id} was retried as run {new_run}.")
        self.new_run = new_run


def retry(
    db: Database,
    by: Caller,
    run_id: int,
    *,
    from_failed: bool = False,
    key: str | None = None,
    changes: Mapping[str, Any] | None = None,
    once_after: int | None = None,
) -> RunView:
    """Start a new run with the arguments, payload and parameters of a finished run. Returns the new run.

    May be repeated by the caller with a ``key``: the same key of the same run gives the same new run. Without a key
    each call starts a run, unless a retry of the run is active, or the run failed and a retry of it, or of a sequence
    around it, has done its work: a second person does that no second time. ``from_failed``: a sequence continues from
    the step that failed, without what succeeded there. ``changes``: values in place of those of the finished run.
    ``once_after``: one of many, which queue behind each other; only if no run above this id retries the run already.

    Raises:
        NotFound: there is no such run, its job is gone, or the caller may not see it.
        Forbidden: it begins with a step behind an approval that nobody gave in the finished run, nor may the caller.
        Refused: the run has not ended, its job is disabled, there is no failed step to continue from, a retry of the
            run has not ended, or has succeeded (with other ``changes`` it may), or what a sequence was given reaches
            jobs that the caller may not see.
        AlreadyRetried: another call has retried it, and that was not denied or stopped before it began.
    """
    start_key = None if key is None else _retry_key(run_id, key)

    def work(conn: sa.Connection) -> RunView:
        former = visible_run(conn, by, run_id)
        repeat = partial(sequences.retry, changes=changes, categories=by.categories, queues=once_after is not None)
        started = repeat(conn, run_id, by.name, from_failed=from_failed, key=start_key)
        if started.is_new:
            # Who approved the finished run approved its parameters.
            approved, first = None if changes else run_id, runs.first_step(conn, started.run_id)
            _check_approvals(conn, by, former.job, first, approved)
            # The start holds the lock that all retries of the run take.
            _check_alone(conn, by, former, started.run_id, chain=once_after is None)
            if once_after is not None:
                _check_once(conn, former, started.run_id, max(run_id, once_after - UNCOMMITTED))
            else:
                _check_not_over(conn, former, started.run_id, has_changes=bool(changes))
            _check_not_passed(conn, former, started.run_id, first)
            audit.note(conn, by.name, "retry", f"run {run_id}", after=f"run {started.run_id}")
        return runs.get(conn, started.run_id)

    since = time.time_ns()
    row = transact(db, by, work)
    by.traces.started(row, since, by.traceparent)
    return row


def _check_once(conn: sa.Connection, former: RunView, new: int, above: int) -> None:
    """Raises ``AlreadyRetried`` if a run above this id, but not ``new``, retries the run, or repeats the same.

    Also if one of the same chain of retries has succeeded, or what a retry of its sequence has started in its place.
    """
    same = retries.same(conn, former.id)
    has_others = same != {former.id}
    other = retries.since(conn, former.job, former.id, above, but=new)
    if other is None and has_others:
        other = retries.beside(conn, former.job, same, but=new)
    found = other.id if other is not None and other.counts else None
    if found is None and has_others:
        found = retries.succeeded(conn, former.job, former.id, same)
    if found is not None:
        raise AlreadyRetried(former.id, found)


def _check_alone(conn: sa.Connection, by: Caller, former: RunView, new: int, *, chain: bool) -> None:
    """Check that nothing else repeats a run, a sequence around it, or a job inside it. ``new``: its new retry.

    ``chain``: also retries of the run itself; who retries many runs has looked for these.

    Raises:
        Refused: something does.
    """
    other = retries.active(conn, former.job, former.id, but=new) if chain else None
    if other is None:
        is_sequence = former.kind == JobKind.SEQUENCE
        other = retries.of_sequence(conn, former.job, former.id, but=new, is_sequence=is_sequence)
    if other is not None:
        how = _how_retried(conn, by, other)
        raise Refused(f"Run {former.id} is being retried{how}; wait for its end, or start the job.")


def _check_not_over(conn: sa.Connection, former: RunView, new: int, *, has_changes: bool) -> None:
    """Raises ``Refused`` if a retry of a failed run has succeeded.

    Called after the search for retries that are active: one that ends between both is found by this. ``new``: the new
    retry. If it was given values, it may go on with others than those that succeeded.
    """
    same = retries.same(conn, former.id)
    other = retries.succeeded(conn, former.job, former.id, same, like=new)
    if other is not None:
        raise Refused(
            f"Run {former.id} was retried as run {other}, which succeeded; to do the work again, retry run {other} or "
            "start the job."
        )
    other = None if has_changes else retries.succeeded(conn, former.job, former.id, same)
    if other is not None:
        raise Refused(
            f"Run {former.id} was retried as run {other}, which succeeded with other values; to do the work with those "
            f"of run {former.id}, start the job with them."
        )


def _check_not_passed(conn: sa.Connection, former: RunView, new: int, first: str | None) -> None:
    """Raises ``Refused`` if a retry of a failed sequence has done work of the step with which the new one begins.

    ``first``: this step; None: the first one of the sequence.
    """
    has_failed = former.state != RunState.SUCCEEDED
    other = retries.passed(conn, former.job, former.id, new, first) if first is not None and has_failed else None
    if other is not None:
        raise Refused(
            f"Run {former.id} was retried as run {other}, which has done work of the step '{first}'; retry run "
            f"{other}, or start the sequence with this step."
        )


def _how_retried(conn: sa.Connection, by: Caller, other: retries.Retry) -> str:
    """Return what a caller may know of a run that repeats the same: a sequence around it may be of others."""
    try:
        visible_run(conn, by, other.id)
    except NotFound:
        return " by a run of another category"
    return f": run {other.id} is {other.state}"


def _check_approvals(conn: sa.Connection, by: Caller, job: str, first: str | None, former: int | None = None) -> None:
    """Check that a start from a later step skips no approval that somebody else has to give.

    ``former``: the run that is continued.

    Raises:
        Forbidden: it does.
    """
    stored = None if first is None else jobs.load(conn, job)
    if first is None or stored is None or not isinstance(stored.definition, Sequence):
        return  # the start refuses it
    if first not in {step.name for step in stored.definition.steps}:
        return
    for step in sequences.skipped_approvals(conn, stored.definition, first, former):
        wanted = step.approve
        if wanted is not None and (wanted.not_by_starter or not by.role.allows(Role(wanted.by))):
            who = "somebody other than the starter" if wanted.not_by_starter else f"the role {wanted.by}"
            raise Forbidden(
                f"A start of '{job}' from the step '{first}' would skip the approval '{step.name}' by {who}; start "
                "from an earlier step."
            )


def _retry_key(run_id: int, key: str) -> str:
    """Return the start key of a retry. It includes the run's id, so it differs from a key that started the job."""
    return f"retry {run_id} {hashlib.sha256(key.encode()).hexdigest()}"
