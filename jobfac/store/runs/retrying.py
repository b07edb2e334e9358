"""Retry runs: start a new run with what a finished run had, and the present definition of its job."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.errors import Refused, no_run
from jobfac.states import ACTIVE
from jobfac.store import jobs, parameters
from jobfac.store.runs.request import StartRequest
from jobfac.store.runs.starting import Started, start_once
from jobfac.views.serialization import read_json


def retry(
    conn: sa.Connection,
    run_id: int,
    by: str,
    overrides: Mapping[str, Any] | None = None,
    key: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Started:
    """Start a new run with the arguments, payload and parameters of a finished run and the job's current definition.

    It stands for the same due time as the finished run. ``overrides`` replace the overrides of the finished run, key by
    key, and ``changes`` its parameters. ``key``: the new run's start key, as in ``start``.

    Raises:
        NotFound: there is no such run, or its job is gone.
        Refused: the run has not ended yet, the job is disabled, it is not started by hand, so takes no changes, or a
            parameter of which the run has a value may have been renamed.
    """
    row = conn.execute(sa.select(run).where(run.c.id == run_id)).first()
    if row is None:
        raise no_run(run_id)
    if row.state in ACTIVE:
        raise Refused(f"Run {run_id} is still {row.state}; stop it first, or wait for its end.")
    former = parameters.row_of(row)
    stored = jobs.load(conn, row.job) if changes or former.given or parameters.is_undated(row.origin) else None
    if changes and stored is not None and not stored.definition.on_demand:
        raise Refused(f"Job '{row.job}' takes no other parameters by hand: its definition says on_demand: false.")
    request = StartRequest(
        job=row.job,
        by=by,
        arguments=None if row.arguments is None else read_json(row.arguments),
        payload=row.payload,
        priority=row.priority,
        key=key,
        overrides={**(read_json(row.overrides) if row.overrides else {}), **(overrides or {})} or None,
        parameters={**_former_parameters(conn, row, stored, bool(changes)), **(changes or {})},
        origin=_former_origin(row, stored),
        manual=False,
        retry_of=run_id,
        for_worker=row.for_worker,
    )
    return start_once(conn, request)


def _former_origin(row: sa.Row[Any], stored: jobs.Stored | None) -> dict[str, Any]:
    """Return the origin of a retry: that of the finished run, with its due time, and whether that was a schedule's."""
    due = parameters.due_of(row.origin, row.due_at, row.created_at, stored and stored.definition)
    found = {**json.loads(row.origin or "{}"), "due": due.isoformat()}
    return found if row.due_at is None else {**found, "scheduled": True}


def _former_parameters(
    conn: sa.Connection, row: sa.Row[Any], stored: jobs.Stored | None, is_changed: bool
) -> dict[str, Any]:
    """Return the values of a finished run for the parameters that its job still has.

    Raises:
        Refused: one may have been renamed, and the caller changes none.
    """
    given = parameters.row_of(row).given
    declared = {} if stored is None else stored.definition.parameters
    if stored is not None and not is_changed and given.keys() - declared.keys() and declared.keys() - given.keys():
        former = jobs.find_version(conn, row.job, row.job_version)
        if renamed := parameters.renamed(given, former, declared):
            raise Refused(
                f"Run {row.id} has a value of '{renamed.old}', which job '{row.job}' no longer has, and none of its "
                f"new parameter '{renamed.new}'; give the retry a value of that, or start the job."
            )
    return {name: value for name, value in given.items() if name in declared}
