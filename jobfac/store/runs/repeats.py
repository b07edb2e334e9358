"""Repeated starts: one with a key that was used before must be the same, and a retry takes over what a run had."""

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.definitions import DefinitionError, Problem
from jobfac.definitions.parameters import constants
from jobfac.errors import Refused
from jobfac.store import jobs, parameters
from jobfac.store.history.recovery import DUE, GIVEN, REPEATS, utc_text
from jobfac.store.runs.request import StartRequest
from jobfac.views.serialization import read_json

NEAR = timedelta(seconds=1)
"""Two times that differ by less than this are equal, because the database rounds times."""


def check_repeat(conn: sa.Connection, run_id: int, request: StartRequest, key: str | None = None) -> None:
    """Compare a request with the run that was started with the same key.

    ``key``: the key that the run should have; None: that of the request.

    Raises:
        DefinitionError: the request differs in arguments, payload, priority, time or overrides, or in its key, which
            the database takes for the same: most ignore case, and blanks at the end.
    """
    columns = (
        run.c.start_key,
        run.c.arguments,
        run.c.payload,
        run.c.overrides,
        run.c.priority,
        run.c.attempt,
        run.c.ready_at,
    )
    row = conn.execute(sa.select(*columns, run.c.job_version, *parameters.COLUMNS).where(run.c.id == run_id)).one()
    differs = [] if request.is_known else _differences(conn, request, row)
    if row.start_key.rstrip(" ") != (key or request.key or "").rstrip(" "):
        differs.append(f"the spelling of its key '{row.start_key}'")
    if differs:
        message = f"the key '{request.key}' was used for run {run_id}, which differs in {', '.join(differs)}"
        raise DefinitionError([Problem(f"{message}; give each start a key of its own", "key")])


def _differences(conn: sa.Connection, request: StartRequest, row: sa.Row[Any]) -> list[str]:
    pairs = {
        "arguments": (None if request.arguments is None else list(request.arguments), _decoded(row.arguments)),
        "payload": (request.payload, row.payload),
        "overrides": (request.overrides, _decoded(row.overrides)),
        # A run that queues may have a lower priority than it was given.
        "priority": (row.priority if request.priority is None or request.queues else request.priority, row.priority),
    }
    differs = [name for name, (wanted, stored) in pairs.items() if wanted != stored]
    if _differs_in_parameters(conn, request, row):
        differs.append("parameters")
    if _differs_in_time(request, row):
        differs.append("time")
    return differs


def _differs_in_parameters(conn: sa.Connection, request: StartRequest, row: sa.Row[Any]) -> bool:
    """Whether the run has other values than this start would have; defaults that depend on the time do not count."""
    if not request.parameters and row.parameters is None:
        return False
    declared = jobs.load_version(conn, row.job, row.job_version).parameters
    stored = parameters.row_of(row).given
    wanted: dict[str, Any] = constants(declared)
    try:
        for name, value in (request.parameters or {}).items():
            if value is not None:
                wanted[name] = declared[name].read(value) if name in declared else value
    except ValueError:  # it could not have started the run
        return True
    return any(stored.get(name) != value for name, value in wanted.items())


def _differs_in_time(request: StartRequest, row: sa.Row[Any]) -> bool:
    later = request.at is not None or bool(request.delay)
    if row.ready_at is None or row.attempt > 0:  # a retry may have changed the time
        return later and row.ready_at is None
    if not later:
        return True
    wanted = row.created_at + timedelta(seconds=request.delay or 0) if request.at is None else request.at
    return bool(abs(wanted - row.ready_at) > NEAR)


def _decoded(text: str | None) -> Any:
    return None if text is None else read_json(text)


def former_origin(row: sa.Row[Any], stored: jobs.Stored | None, first: int, has_changes: bool) -> dict[str, Any]:
    """Return the origin of a retry: that of the finished run, with its due time, and whether that was a schedule's.

    Args:
        first: the first run of the retries that lead to this one.
        has_changes: the retry has other parameters than the finished run.
    """
    due = parameters.due_of(row.origin, row.due_at, row.created_at, stored and stored.definition)
    found = {**json.loads(row.origin or "{}"), "due": due.isoformat(), REPEATS: first}
    if has_changes:
        found.pop(GIVEN, None)
    return found if row.due_at is None else {**found, "scheduled": True, DUE: utc_text(row.due_at)}


def former_parameters(
    conn: sa.Connection, row: sa.Row[Any], stored: jobs.Stored | None, changes: Collection[str]
) -> dict[str, Any]:
    """Return the values of a finished run for the parameters that its job still has.

    Raises:
        Refused: one may have been renamed, and the caller gives no new one a value (``changes``); or one was sensitive
            and is not any more.
    """
    given = parameters.row_of(row).given
    declared = {} if stored is None else stored.definition.parameters
    if stored is not None and (shown := _unmasked(conn, row, declared, changes)):
        raise Refused(
            f"Run {row.id} has a sensitive value of '{shown}', which is not sensitive in job '{row.job}' now, so "
            f"lists would show it; {_remedy(stored)}."
        )
    if stored is not None and given.keys() - declared.keys() and declared.keys() - given.keys():
        former = jobs.find_version(conn, row.job, row.job_version)
        if renamed := parameters.renamed(given, former, declared, changes):
            raise Refused(
                f"Run {row.id} has a value of '{renamed.old}', which job '{row.job}' no longer has, and none of its "
                f"new parameter '{renamed.new}'; {_remedy(stored)}."
            )
    return {name: value for name, value in given.items() if name in declared}


def _unmasked(
    conn: sa.Connection, row: sa.Row[Any], declared: Mapping[str, Any], changes: Collection[str]
) -> str | None:
    """Return a parameter with a value that was sensitive in a finished run and would not be now; None: there is none.

    T-SQL stores all values of a start as sensitive until a worker has claimed it, so the definition counts.
    """
    secret = read_json(row.sensitive).keys() - set(changes) if row.sensitive else set()
    if not (names := [name for name, one in declared.items() if name in secret and not one.sensitive]):
        return None
    former = jobs.find_version(conn, row.job, row.job_version)
    if isinstance(former, DefinitionError):
        return names[0]
    return next((name for name in names if name in former.parameters and former.parameters[name].sensitive), None)


def _remedy(stored: jobs.Stored) -> str:
    if stored.definition.on_demand:
        return "give the retry a value of that, or start the job"
    return "its definition says on_demand: false; apply it with true, then give the retry a value of that"
