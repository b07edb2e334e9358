"""Starting and retrying runs."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.operations.caller import Caller, transact, visible_job, visible_run
from jobfac.store import audit, runs, sequences
from jobfac.store.runs import StartRequest
from jobfac.views.runs import RunView

PAGE = 500
"""Runs read in one query."""


def start(db: Database, by: Caller, request: StartRequest) -> RunView:
    """Start a job; returns the run. Look at its state: it may be ``denied``.

    May be repeated by the caller if the request has a key: the same key of the same job gives the same run. Without a
    key each call starts a run.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Refused, DefinitionError: as ``runs.start``.
    """
    request = replace(request, by=by.name, categories=by.categories)

    def work(conn: sa.Connection) -> RunView:
        if by.categories is not None:
            visible_job(conn, by, request.job)
        started = runs.start_once(conn, request)
        row = runs.get(conn, started.run_id)
        if started.is_new:
            audit.note(conn, by.name, "start", f"run {row.id}", after=row.job)
        return row

    since = time.time_ns()
    row = transact(db, by, work)
    by.traces.started(row, since, by.traceparent)
    return row


def start_many(db: Database, by: Caller, request: StartRequest, count: int) -> list[int]:
    """Start ``count`` equal runs, all or none; returns their ids in order. The request has no key.

    Each call starts ``count`` runs, so the caller must not repeat it.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
        Refused, DefinitionError: as ``runs.start``.
    """
    request = replace(request, by=by.name, categories=by.categories)

    def work(conn: sa.Connection) -> list[int]:
        if by.categories is not None:
            visible_job(conn, by, request.job)
        ids = runs.start_many(conn, request, count)
        first, last = ids[0], ids[-1]
        subject = f"run {first}" if count == 1 else f"runs {first} to {last} ({count})"
        audit.note(conn, by.name, "start", subject, after=request.job)
        return ids

    since = time.time_ns()
    ids = transact(db, by, work)
    _trace(db, by, ids, since)
    return ids


def _trace(db: Database, by: Caller, ids: Sequence[int], since: int) -> None:
    if not by.traces.wanted:
        return
    for first in range(0, len(ids), PAGE):
        for run in db.query(runs.snapshots, ids[first : first + PAGE]).values():
            by.traces.started(run, since, by.traceparent)


def retry(db: Database, by: Caller, run_id: int, *, from_failed: bool = False, key: str | None = None) -> RunView:
    """Run a finished run again with its arguments and payload; returns the new run.

    May be repeated by the caller with a ``key``: the same key of the same run gives the same new run. Without a key
    each call starts a run. ``from_failed``: a sequence continues from the step that failed.

    Raises:
        NotFound: there is no such run, its job is gone, or the caller may not see it.
        Refused: the run has not ended, its job is disabled, or there is no failed step to continue from.
    """
    start_key = None if key is None else _retry_key(run_id, key)

    def work(conn: sa.Connection) -> RunView:
        visible_run(conn, by, run_id)
        started = sequences.retry(conn, run_id, by.name, from_failed=from_failed, key=start_key)
        if started.is_new:
            audit.note(conn, by.name, "retry", f"run {run_id}", after=f"run {started.run_id}")
        return runs.get(conn, started.run_id)

    since = time.time_ns()
    row = transact(db, by, work)
    by.traces.started(row, since, by.traceparent)
    return row


def _retry_key(run_id: int, key: str) -> str:
    """The start key of a retry: one of its own for each run, so that a key which also started the job is another."""
    return f"retry {run_id} {hashlib.sha256(key.encode()).hexdigest()}"
