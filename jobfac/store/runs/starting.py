"""Start and retry runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FOUND_BY_KEY, lists, utcnow
from jobfac.database.dialects import rows as row_lists
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.definitions.parameters.matching import Match, Pending
from jobfac.errors import NotFound, Refused, no_run
from jobfac.states import ACTIVE, RunState
from jobfac.store import jobs, parameters
from jobfac.store.history import retries
from jobfac.store.runs import admission
from jobfac.store.runs.drafting import backfill_key, checked_row, new_row
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.store.runs.pinning import expand, others
from jobfac.store.runs.repeats import check_repeat, former_origin, former_parameters
from jobfac.store.runs.request import StartRequest, numbered_keys
from jobfac.store.runs.stopping import make_room
from jobfac.views.serialization import read_json

ALL = 2**31 - 1

StartError = NotFound | Refused | DefinitionError
"""Why a job was not started."""


class Started(NamedTuple):
    """A requested run. ``is_new``: this transaction inserts it; otherwise its key was used before.

    ``others``: the runs of the other workers, if the job has ``each_worker``.
    """

    run_id: int
    is_new: bool
    others: Sequence[int] = ()


def start(conn: sa.Connection, request: StartRequest) -> int:
    """Insert a run and return its id. Check its state: the already-running policy may have made it ``denied``.

    Raises:
        NotFound: there is no such job.
        Refused: the job is disabled, not startable by hand, or does not take other arguments or this ``notify``.
        DefinitionError: ``notify`` among the overrides is invalid; arguments and payloads of a sequence are not by job,
            those of a program are by job, or one is for a job that is not in the sequence; or the key was used for a
            different start.
    """
    return start_once(conn, request).run_id


def start_once(conn: sa.Connection, request: StartRequest) -> Started:
    """Do the same as ``start``, and also return whether the run is new."""
    if not request.locks:
        return _started(conn, request, checked_row(conn, request))
    if (found := _started_with(conn, request)) is not None:
        return found
    values = checked_row(conn, request)
    # Of two starts with the same key, the second waits here for the first. A lock on the index instead would lock the
    # gap into which all new keys of the job may fall.
    admission.lock(conn, [] if _is_later(request) else [admission.Rule.of(values)], request.locks)
    return _started_with(conn, request) or _started(conn, request, values)


def _started(conn: sa.Connection, request: StartRequest, values: Mapping[str, Any]) -> Started:
    first, *others = _insert_apart(conn, request, expand(conn, values))
    return Started(first, True, others)


def _started_with(conn: sa.Connection, request: StartRequest) -> Started | None:
    """Return the run that was started with the request's key, or None."""
    columns = (run.c.id, run.c.for_worker, run.c.start_key)
    query = sa.select(*columns).where(run.c.job == request.job, run.c.start_key == request.key)
    found = None if request.key is None else conn.execute(query).first()
    if found is None:
        return None
    check_repeat(conn, int(found.id), request)
    # By the key as it is stored: the request's may have blanks at its end, which most databases ignore.
    more = () if found.for_worker is None else others(conn, request.job, found.start_key)
    return Started(int(found.id), False, more)


def start_many(conn: sa.Connection, request: StartRequest, count: int) -> list[int]:
    """Insert ``count`` equal runs, all or none. Returns their ids in order. Raises as ``start`` does."""
    values = _single(checked_row(conn, request))
    if admission.Rule.of(values).has_limits:
        return [_insert(conn, request, values, 1)[0] for _ in range(count)]
    ids: list[int] = []
    while len(ids) < count:
        ids += _insert(conn, request, values, min(admission.BATCH, count - len(ids)))
    return ids


def _single(values: dict[str, Any]) -> dict[str, Any]:
    """Raises ``Refused`` for a job with ``each_worker``, whose starts cannot be multiplied."""
    if values["for_worker"] is not None:
        raise Refused(f"Job '{values['job']}' makes one run for each worker; start it without a count.")
    return values


class Numbered(NamedTuple):
    """The ids of numbered runs in order, and how many of them are new."""

    ids: list[int]
    new: int


def start_numbered(conn: sa.Connection, request: StartRequest, first: int, count: int) -> Numbered:
    """Insert the runs number ``first`` to ``first + count - 1`` of many equal runs, all or none.

    All these runs share the request's key. Runs that an earlier call inserted for the same numbers are found by the key
    and returned, as those that ``Remote`` started. Raises as ``start`` does.
    """
    assert request.key is not None
    keys = numbered_keys(request.key, range(first, first + count))
    found = _started_with_any(conn, request, keys)
    if len(found) == count:
        return Numbered([found[key] for key in keys], 0)
    values = _single(checked_row(conn, request))
    # Of two calls with the same key, the second waits here for the first.
    rules = [] if _is_later(request) else [admission.Rule.of(values)]
    admission.lock(conn, rules, replace(request, key=keys[0]).locks)
    found = _started_with_any(conn, request, keys)
    if missing := [key for key in keys if key not in found]:
        rows = [{**values, "start_key": key} for key in missing]
        step = 1 if admission.Rule.of(values).has_limits else admission.BATCH
        ids = [one for at in range(0, len(rows), step) for one in _insert_all(conn, request, rows[at : at + step])]
        found |= dict(zip(missing, ids, strict=True))
    return Numbered([found[key] for key in keys], len(missing))


_GIVEN = lists.names()
_WITH_KEYS = (
    sa.select(run.c.start_key, run.c.id)
    .with_hint(run, FOUND_BY_KEY, "mssql")
    .where(
        sa.text("start_key IS NOT NULL"),
        run.c.job == sa.bindparam("p_job"),
        run.c.start_key.in_(sa.select(_GIVEN.c.value)),  # a join would let SQLite read all runs of the job
    )
)


def _started_with_any(conn: sa.Connection, request: StartRequest, keys: Sequence[str]) -> dict[str, int]:
    """Return the ids of the job's runs that were started with any of these keys, by key."""
    found: dict[str, int] = {}
    for at in range(0, len(keys), admission.BATCH):
        values = {"p_job": request.job, "names": lists.as_list(keys[at : at + admission.BATCH])}
        found |= {row.start_key: row.id for row in conn.execute(_WITH_KEYS, values)}
    for key in list(found)[:1]:  # they were equal
        check_repeat(conn, found[key], request, key)
    return found


def rules_of_jobs(conn: sa.Connection, job_ids: Collection[str]) -> list[admission.Rule]:
    """Return the rules of the runs that these jobs' current definitions would start."""
    found = []
    for stored in jobs.load_many(conn, job_ids, True).values() if job_ids else ():
        if isinstance(stored, jobs.Stored):
            concurrency = stored.definition.concurrency
            key = concurrency.key if concurrency else None
            found.append(admission.Rule(stored.id, stored.definition.already_running, key))
    return found


def start_each(conn: sa.Connection, requests: Sequence[StartRequest]) -> list[int | StartError]:
    """Start each of many different requests, in as few statements as possible. No request may have a key or a delay.

    The caller must have taken the named locks of their rules (``rules_of_jobs``). A missing lock is taken if it is
    free. Returns one run id or error for each request, in order. A refused request does not stop the others.
    """
    stored = jobs.load_many(conn, {request.job for request in requests}, True)
    answers: dict[int, int | StartError] = {}
    rows: dict[int, list[dict[str, Any]]] = {}
    pending: list[Match] = []
    for position, request in enumerate(requests):
        try:
            rows[position] = expand(conn, new_row(conn, stored.get(request.job), request))
        except (NotFound, Refused, DefinitionError) as error:
            answers[position] = error
        except Pending as error:
            pending += error.matches
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Unknown faults of one request. It would stop all schedules, or all steps of a sequence, again and again.
            answers[position] = Refused(f"Job '{request.job}' cannot be started: {error!r}.")
    if pending:  # all at once, so that the transaction is repeated once and not for each request
        raise Pending(*pending)
    free = {position: its for position, its in rows.items() if not admission.Rule.of(its[0]).has_limits}
    admission.lock_late(conn, (admission.Rule.of(its[0]) for its in rows.values()))
    for position, its in rows.items():
        if position not in free:
            answers[position] = _insert_apart(conn, requests[position], its)[0]
    together = [(position, row) for position, its in free.items() for row in its]
    ids = _write(conn, [row for _, row in together], RunState.QUEUED) if together else []
    for (position, _), run_id in zip(together, ids, strict=True):
        answers.setdefault(position, run_id)
    return [answers[position] for position in range(len(requests))]


def retry(
    conn: sa.Connection,
    run_id: int,
    by: str,
    overrides: Mapping[str, Any] | None = None,
    key: str | None = None,
    changes: Mapping[str, Any] | None = None,
    categories: Sequence[str] | None = None,
    *,
    queues: bool = False,
) -> Started:
    """Start a new run with the arguments, payload, parameters and due time of a finished run and the job as it is now.

    ``overrides`` replace its overrides, key by key, and ``changes`` its parameters. ``key``: the new run's start key,
    as in ``start``; ``categories``: as there. ``queues``: it is one of many; a retry of a run that queued always does.

    Raises:
        NotFound: there is no such run, or its job is gone.
        Refused: the run has not ended, the job is disabled or takes no changes by hand, a parameter may have been
            renamed, or what a sequence was given reaches jobs of other categories.
    """
    row = conn.execute(sa.select(run).where(run.c.id == run_id)).first()
    if row is None:
        raise no_run(run_id)
    if row.state in ACTIVE:
        raise Refused(f"Run {run_id} is still {row.state}; stop it first, or wait for its end.")
    is_read = changes or parameters.row_of(row).given or parameters.is_undated(row.origin)
    stored = jobs.load(conn, row.job, True) if is_read else None
    if changes and stored is not None and not stored.definition.on_demand:
        raise Refused(f"Job '{row.job}' takes no other parameters by hand: its definition says on_demand: false.")
    lineage = retries.lineage(conn, run_id)
    request = StartRequest(
        job=row.job,
        by=by,
        arguments=None if row.arguments is None else read_json(row.arguments),
        payload=row.payload,
        priority=row.priority,
        key=key,
        overrides={**(read_json(row.overrides) if row.overrides else {}), **(overrides or {})} or None,
        parameters={**former_parameters(conn, row, stored, changes or ()), **(changes or {})},
        origin=former_origin(row, stored, lineage[0], has_changes=bool(changes)),
        manual=False,
        categories=categories,
        retry_of=run_id,
        lineage=lineage,
        queues=queues or row.already_running == "queue",
        at_most=row.concurrency_limit if row.concurrency_key == backfill_key(row.job) else None,
        for_worker=row.for_worker,
    )
    return start_once(conn, request)


def _is_later(request: StartRequest) -> bool:
    return request.at is not None or bool(request.delay)


def _insert(conn: sa.Connection, request: StartRequest, values: Mapping[str, Any], count: int) -> list[int]:
    return _insert_all(conn, request, [values] * count)


def _insert_apart(conn: sa.Connection, request: StartRequest, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows one by one if each must see the one before it, else together."""
    if len(rows) > 1 and admission.Rule.of(rows[0]).has_limits:
        return [_insert_all(conn, request, [row])[0] for row in rows]
    return _insert_all(conn, request, rows)


def _insert_all(conn: sa.Connection, request: StartRequest, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows that differ only in their start keys and workers."""
    values = rows[0]
    if _is_later(request):
        ready_at = utcnow((request.delay or 0) * 1000) if request.at is None else request.at
        return _write(conn, rows, RunState.SCHEDULED, ready_at)
    rule = admission.Rule.of(values)
    admission.lock(conn, [rule])
    if rule.already_running == "replace":
        make_room(conn, values["job"], request.by)
    candidate = admission.Candidate(0, None, values["job"], 0, *rule[1:], values["concurrency_limit"])
    state = admission.admit(conn, candidate)
    if state != RunState.QUEUED or not admission.goes_behind(conn, candidate):
        return _write(conn, rows, state)
    ids = _write(conn, rows, RunState.BLOCKED)
    admission.release_blocked(conn, [rule], request.by)
    return ids


def _write(conn: sa.Connection, rows: Sequence[Mapping[str, Any]], state: RunState, ready_at: Any = None) -> list[int]:
    """Insert runs that all begin in ``state``, with ``ready_at`` if given. Returns their ids in order.

    ``rows``: values by column, of the same columns in each.
    """
    if len(rows) == 1:
        statement = _ONE[state] if ready_at is None else _one(state, ready_at=ready_at)
        ids = [int(conn.execute(statement, {**rows[0], "state": state}).scalar_one())]
    else:
        first = rows[0]
        varying = tuple(name for name in first if any(row[name] != first[name] for row in rows))
        different = ({name: row[name] for name in varying} for row in rows)
        given = row_lists.rows_parameter({**_plain(row), "place": place} for place, row in enumerate(different))
        given |= {f"p_{name}": value for name, value in first.items() if name not in varying}
        statement = _several(conn.dialect.name, tuple(first), varying, state, ready_at)
        ids = sorted(int(found) for found in conn.execute(statement, given).scalars())
    pairs = zip(ids, rows, strict=True)
    record(conn, [Event(found, 0, state, row["created_by"], notify=row["notify"]) for found, row in pairs])
    return ids


def _one(state: RunState, **more: Any) -> sa.Executable:
    """Return the statement that inserts a run in this state."""
    return run.insert().values({"created_at": utcnow(), **admission.on_entry(state), **more}).returning(run.c.id)


_ONE = {state: _one(state) for state in (RunState.QUEUED, RunState.BLOCKED, RunState.DENIED)}


def _several(
    engine: str, names: Sequence[str], varying: Sequence[str], state: RunState, ready_at: Any
) -> sa.Executable:
    """Return the statement that inserts runs, with ids in the order of the rows.

    Only the ``varying`` columns are in the rows: the others would be sent and read once for each run.
    """
    table = row_lists.rows_table(engine, **{name: run.c[name].type for name in varying}, place=sa.Integer())
    values: dict[str, Any] = {
        name: table.c[name] if name in varying else sa.bindparam(f"p_{name}", type_=run.c[name].type) for name in names
    }
    values |= {"state": sa.literal_column(f"'{state}'"), "created_at": utcnow(), **admission.on_entry(state)}
    if ready_at is not None:
        values["ready_at"] = ready_at
    chosen: list[Any] = [
        sa.literal(value, run.c[name].type) if not isinstance(value, sa.ClauseElement) else value
        for name, value in values.items()
    ]
    # SQL Server respects ORDER BY in an INSERT only together with a limit.
    select = sa.select(*chosen).select_from(table).order_by(table.c.place).limit(ALL)
    return run.insert().from_select(list(values), select, include_defaults=False).returning(run.c.id)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
