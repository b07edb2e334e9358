"""Who may enter the queue: the already-running policy and the concurrency limits.

Both are derived from the runs that are there, never from a flag, so a crash leaves nothing to clean up. All decisions
about one job or one concurrency key are made under its named lock, so two that start at once see each other.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import PASS, of, utcnow
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE, OCCUPYING, RunState
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record

_ACTIVE = sa.text(f"state IN ({sql_literals(ACTIVE)})")
UNDER_WAY = sa.or_(run.c.state != RunState.SCHEDULED, run.c.attempt > 0)
"""Condition on an active run: begun or about to, which a start for a later time is not, but a run between two of its
attempts is."""

_BLOCKED = sa.text(f"state = '{RunState.BLOCKED}'")
BATCH = 500
"""Rows touched in one transaction at most: SQL Server escalates to a table lock from 5,000 locks on."""


def decide(policy: str, *, others_of_job: int, others_of_key: int, limit: int | None, retrying: bool) -> RunState:
    """Where a run goes that would like to be queued: ``queued``, ``blocked`` or ``denied``.

    Args:
        policy: the job's ``already_running``.
        others_of_job: other runs of the job that are queued, running or stopping.
        others_of_key: other runs with the same concurrency key that are.
        limit: how many of the key may be at once; None without a key.
        retrying: the run has executed before, so it was let in once and cannot be denied any more.
    """
    if policy == "deny" and others_of_job and not retrying:
        return RunState.DENIED
    if policy != "start" and others_of_job:
        return RunState.BLOCKED
    if limit is not None and others_of_key >= limit:
        return RunState.BLOCKED
    return RunState.QUEUED


def has_limits(values: Mapping[Any, Any]) -> bool:
    """Whether a run's entry depends on others at all; most do not, and pay nothing."""
    return values["already_running"] != "start" or values["concurrency_key"] is not None


def lock(conn: sa.Connection, rows: Iterable[Mapping[Any, Any]]) -> None:
    """Take the named locks of these runs' rules, always in the same order.

    Two keys that differ in case have the same lock: to most databases they are equal, and the names of locks never are.
    """
    names = set()
    for row in rows:
        if row["already_running"] != "start":
            names.add(f"jobfac:job:{row['job']}")
        if row["concurrency_key"] is not None:
            names.add(f"jobfac:key:{row['concurrency_key'].lower()}")
    dialect = of(conn)
    for name in sorted(names):
        dialect.lock_name(conn, name)


def admit(conn: sa.Connection, values: Mapping[Any, Any], run_id: int | None = None) -> RunState:
    """Decide for one run (``run_id`` None: not inserted yet). The caller holds its locks."""
    if not has_limits(values):
        return RunState.QUEUED
    retrying = values.get("attempt", 0) > 0
    return decide(
        values["already_running"],
        others_of_job=_others_of_job(conn, values, run_id) if values["already_running"] != "start" else 0,
        others_of_key=_others_of_key(conn, values["concurrency_key"], run_id) if values["concurrency_key"] else 0,
        limit=values["concurrency_limit"],
        retrying=retrying,
    )


def on_entry(state: RunState) -> dict[str, Any]:
    """What else changes in a run that enters the state that ``admit`` decided."""
    if state == RunState.QUEUED:
        return {"queued_at": utcnow()}
    if state == RunState.DENIED:
        return {"ended_at": utcnow(), "reason": "another run of the job is still active"}
    return {}


def _others_of_job(conn: sa.Connection, values: Mapping[Any, Any], run_id: int | None) -> int:
    query = sa.select(sa.func.count()).where(_ACTIVE, run.c.job == values["job"], run.c.id != (run_id or 0))
    which = UNDER_WAY if values["already_running"] == "deny" else run.c.state.in_(OCCUPYING)
    return conn.execute(query.where(which)).scalar_one()


def _others_of_key(conn: sa.Connection, key: str, run_id: int | None) -> int:
    query = sa.select(sa.func.count()).where(
        run.c.concurrency_key == key, run.c.state.in_(OCCUPYING), run.c.id != (run_id or 0)
    )
    return conn.execute(query).scalar_one()


_RULE = (run.c.job, run.c.attempt, run.c.already_running, run.c.concurrency_key, run.c.concurrency_limit)
RULES = (run.c.id, run.c.notify, *_RULE)
"""What ``move`` has to know of a run."""

_BLOCKED_RUNS = (
    sa.select(*RULES)
    .with_hint(run, PASS, "mssql")
    .where(_BLOCKED)
    .order_by(run.c.priority.desc(), run.c.id)
    .limit(BATCH)
)
"""Not locked: to find the first ones SQL Server sorts, and would lock, all that are blocked, and whoever holds a rule's
lock and comes for its runs would wait for whoever holds its runs and comes for the lock."""


def release_blocked(conn: sa.Connection, freed: Iterable[Mapping[Any, Any]] | None, by: str) -> int:
    """Let in blocked runs that wait for what these runs freed (None: look at all); returns how many were moved."""
    query = _BLOCKED_RUNS
    if freed is not None:
        freed = [row for row in freed if has_limits(row)]
        if not freed:
            return 0
        # The states once more in each arm: only so does SQLite search each by an index that leaves the history out.
        keys = {row["concurrency_key"] for row in freed} - {None}
        query = query.where(
            sa.and_(_ACTIVE, _BLOCKED, run.c.job.in_({row["job"] for row in freed}))
            | sa.and_(_BLOCKED, run.c.concurrency_key.in_(keys))
        )
    rows = conn.execute(query).mappings().all()
    lock(conn, rows)
    return move(conn, rows, RunState.BLOCKED, by)


def move(conn: sa.Connection, rows: Iterable[Mapping[Any, Any]], before: RunState, by: str) -> int:
    """Let runs go from ``before`` to where their rules let them, and count those that went: what has left ``before``
    meanwhile is left alone. The caller holds the locks of their rules."""
    moved = []
    closed: set[tuple[Any, ...]] = set()
    # One by one: each decision must see the one before it.
    for row in rows:
        rule = tuple(row[column.name] for column in _RULE)
        if rule in closed:
            continue
        after = admit(conn, row, row["id"])
        if after == before:
            closed.add(rule)  # whoever has the same rule has to wait as well
            continue
        change = run.update().where(run.c.id == row["id"], run.c.state == before)
        if conn.execute(change.values({"state": after, **on_entry(after)})).rowcount:
            moved.append(Event(row["id"], row["attempt"], after, by, notify=row["notify"]))
    record(conn, moved)
    return len(moved)
