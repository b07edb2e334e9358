"""Promotion: move due scheduled runs (delayed starts and retries) to the state that admission allows."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIMING, PASS, lists, utcnow
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store.runs import admission
from jobfac.store.runs.stopping import lock_room, make_room

_SCHEDULED = (sa.text(f"run.state = '{RunState.SCHEDULED}'"), run.c.ready_at <= utcnow())
IS_DUE = sa.exists(sa.select(run.c.id).with_hint(run, PASS, "mssql").where(*_SCHEDULED))
"""Condition: there is a run to promote. Ignores rows with uncommitted changes, but not rows that are only locked."""


_DUE = sa.select(*admission.CANDIDATE).with_hint(run, PASS, "mssql").where(*_SCHEDULED).order_by(run.c.ready_at)
_OTHERS = _DUE.where(run.c.id.not_in(sa.select(lists.ids().c.value)))


def promote_due(conn: sa.Connection, by: str, limit: int = admission.BATCH) -> int:
    """Move up to ``limit`` scheduled runs whose time has come to the state that admission allows.

    Returns the number of moved runs. The function hardly waits for a run whose row or named lock another transaction
    holds, but leaves it to a later call, and does so with a run that replaces such a run. It reads the due runs without
    locks, takes the free named locks, and then the free rows.
    """
    found: dict[int, admission.Candidate] = {}

    def read(without: Collection[int]) -> list[int]:
        query, given = (_OTHERS, {"ids": lists.as_list(without)}) if without else (_DUE, {})
        some = [admission.Candidate(*row) for row in conn.execute(query.limit(limit), given)]
        found.update((one.id, one) for one in some)
        return [one.id for one in some]

    def locked(run_ids: Sequence[int]) -> set[int]:
        return set(run_ids) - admission.lock_free(conn, {run_id: [found[run_id].rule] for run_id in run_ids})

    due = [found[run_id] for run_id in locks.first_free(read, limit, locked).found]
    if not due:
        return 0
    replacing = {one.id for one in due if one.already_running == "replace" and one.attempt == 0}
    free = _locked(conn, [one.id for one in due])
    busy = {job.lower() for job in lock_room(conn, {one.job for one in due if one.id in free & replacing})}
    chosen = [one for one in due if one.id in free and not (one.id in replacing and one.job.lower() in busy)]
    moved = admission.move(conn, [one for one in chosen if one.id not in replacing], RunState.SCHEDULED, by)
    for one in chosen:
        if one.id in replacing:
            make_room(conn, one.job, by)
            moved += admission.move(conn, [one], RunState.SCHEDULED, by)
    return moved


def _locked(conn: sa.Connection, run_ids: Collection[int]) -> set[int]:
    """Lock the scheduled runs among ``run_ids`` that no other transaction has locked. Returns their ids."""
    if not run_ids:
        return set()
    query = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(lists.by_id(run.c.id, run_ids), _SCHEDULED[0])
    return set(conn.execute(query.order_by(run.c.id)).scalars())


_RETRIES = (
    sa.select(run.c.id, run.c.ready_at, run.c.queued_at, utcnow().label("now"))
    .with_hint(run, PASS, "mssql")
    .where(_SCHEDULED[0], run.c.attempt > 0, run.c.queued_at > utcnow())
    .order_by(run.c.id)
)


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: let retries wait as long as they were to. Returns how many were moved.

    Call it again until there are none. A run that failed while the clock was ahead would wait until the clock comes to
    that time again. A delayed start keeps its time, because the user may have named it.
    """
    moved = 0
    for row in conn.execute(_RETRIES.limit(admission.BATCH)).all():
        times = {"ready_at": row.now + (row.ready_at - row.queued_at), "queued_at": row.now}
        mine = (run.c.id == row.id, run.c.state == RunState.SCHEDULED, run.c.queued_at == row.queued_at)
        moved += conn.execute(run.update().where(*mine).values(times)).rowcount
    return moved
