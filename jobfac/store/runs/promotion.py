"""Promotion: move due scheduled runs (delayed starts and retries) to the state that admission allows."""

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIMING, PASS, utcnow
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store.runs import admission
from jobfac.store.runs.stopping import is_active_of, make_room

_SCHEDULED = (sa.text(f"run.state = '{RunState.SCHEDULED}'"), run.c.ready_at <= utcnow())
IS_DUE = sa.exists(sa.select(run.c.id).with_hint(run, PASS, "mssql").where(*_SCHEDULED))
"""Condition: there is a run to promote. Ignores rows with uncommitted changes, but not rows that are only locked."""


@functools.cache
def _due(limit: int) -> sa.Select[Any]:
    query = sa.select(*admission.RULES).with_hint(run, PASS, "mssql").where(*_SCHEDULED)
    return query.order_by(run.c.ready_at).limit(limit)


def promote_due(conn: sa.Connection, by: str, limit: int = admission.BATCH) -> int:
    """Move up to ``limit`` scheduled runs whose time has come to the state that admission allows.

    Returns the number of moved runs. The function does not wait for a run whose row or named lock another transaction
    holds, but leaves it to a later call. It reads the due runs without locks, takes the free named locks, and then the
    free rows. It waits only for the runs that a run with ``already_running: replace`` stops.
    """
    rows = conn.execute(_due(limit)).mappings().all()
    if not rows:
        return 0
    rules = {row["id"]: admission.Rule.of(row) for row in rows}
    replacing = {row["id"] for row in rows if row["already_running"] == "replace" and row["attempt"] == 0}
    wanted = [rules[run_id] for run_id in replacing]
    stopped = admission.rules_of(conn, is_active_of({rule.job for rule in wanted})) if wanted else []
    held = set(locks.take_free(conn, admission.names_of([*rules.values(), *stopped])))
    free = _locked(conn, [run_id for run_id, rule in rules.items() if rule.names <= held])
    chosen = [row for row in rows if row["id"] in free]
    moved = admission.move(conn, [row for row in chosen if row["id"] not in replacing], RunState.SCHEDULED, by)
    for row in chosen:
        if row["id"] in replacing:
            make_room(conn, row["job"], by)
            moved += admission.move(conn, [row], RunState.SCHEDULED, by)
    return moved


def _locked(conn: sa.Connection, run_ids: Collection[int]) -> set[int]:
    """Lock the scheduled runs among ``run_ids`` that no other transaction has locked. Returns their ids."""
    if not run_ids:
        return set()
    query = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(run.c.id.in_(run_ids), _SCHEDULED[0])
    return set(conn.execute(query.order_by(run.c.id)).scalars())
