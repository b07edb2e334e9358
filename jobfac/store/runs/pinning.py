"""Runs that are pinned to one worker: a job with ``each_worker`` gets one for each live worker that fits.

A pinned run waits in a queue of its worker's name, from which no other worker claims. The name is that of ``--name``,
so a worker that restarts under the same name takes the run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, DIRTY, IS_ALIVE, PASS, WEIGHT, lists, utcnow
from jobfac.database.tables import run, worker
from jobfac.database.types import flag
from jobfac.errors import LIST_WORKERS, Refused
from jobfac.states import RunState, WorkerState
from jobfac.store import jobs
from jobfac.store.runs import admission
from jobfac.store.runs.finish import Finished, end
from jobfac.store.runs.stopping import before_it_began

PREFIX = "@worker:"
"""The beginning of the queue of a worker; the worker's name follows."""

EACH = "*"
"""In place of a worker's name in a row that is not expanded yet: the job has ``each_worker``."""

BATCH = 200
"""The maximum number of runs that one transaction ends."""

RETURN = 60.0
"""Seconds within which a worker that left or died may come back under its name and take its runs: it restarts, or it
registers again after an outage of the database."""


def queue_of_worker(name: str) -> str:
    """The queue of the runs that are pinned to a worker."""
    return f"{PREFIX}{name}"


# The state counts and not the lease, which may have run out only because nobody could renew it: an expiry decides that.
_ACTIVE = (
    sa.select(worker.c.name, worker.c.pools, worker.c.labels, worker.c.slots)
    .where(sa.text(f"worker.state = '{WorkerState.ACTIVE}'"))
    .order_by(worker.c.id)
)


def expand(conn: sa.Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows to insert for a new run: one for each worker if its job has ``each_worker``, else the row itself.

    The first row has the start key, the schedule and the due time; the others have a key made of it.

    Raises:
        Refused: no live worker fits, or the one that the run is for is gone.
    """
    wanted = values["for_worker"]
    if wanted is None:
        return [dict(values)]
    waits_in = next(one for one in jobs.known_queues(conn) if one.name.lower() == values["queue"].lower())
    names = [
        row.name
        for row in conn.execute(_ACTIVE)
        if wanted in (EACH, row.name)
        and jobs.serves(json.loads(row.pools), json.loads(row.labels), row.slots, waits_in)
    ]
    names = list(dict.fromkeys(names))
    if not names:
        which = f"no live worker takes runs of the queue '{waits_in.name}'"
        if wanted != EACH:
            which = f"the worker '{wanted}' is not alive or no longer takes its runs"
        raise Refused(f"Job '{values['job']}' runs on each worker, but {which}; {{way}} shows them.", LIST_WORKERS)
    rows = [{**values, "queue": queue_of_worker(name), "for_worker": name} for name in names]
    for number, row in enumerate(rows[1:], start=2):
        row |= {"schedule_id": None, "start_key": None}
        if values["start_key"] is not None:
            row["start_key"] = f"{key_prefix(values['start_key'])}{number}"
    return rows


def key_prefix(key: str) -> str:
    """The beginning of the start keys of all runs but the first that a start with this key made."""
    return f"each {hashlib.sha256(key.encode()).hexdigest()} "


def others(conn: sa.Connection, job: str, key: str) -> Sequence[int]:
    """Return the ids of all runs but the first that a start with this key made, in order."""
    theirs = run.c.start_key.like(f"{key_prefix(key)}%")
    return conn.execute(sa.select(run.c.id).where(run.c.job == job, theirs).order_by(run.c.id)).scalars().all()


_OF_NAME = sa.select(worker.c.id).with_hint(worker, DIRTY, "mssql").where(worker.c.name == run.c.for_worker)
_MAY_TAKE_IT = _OF_NAME.where(  # by the state, as above
    # One that ended at a time that the clock has yet to reach, since it was set back, has gone, too.
    sa.or_(IS_ALIVE, worker.c.ended_at.between(utcnow(-RETURN * 1000), utcnow(RETURN * 1000))),
    worker.c.slots >= WEIGHT,
)
_IS_SMALL = flag(sa.exists(_OF_NAME.where(IS_ALIVE))).label("is_small")
_LEFT = (
    sa.select(run.c.id, run.c.for_worker, run.c.attempt, _IS_SMALL, *admission.RULE)
    .with_hint(run, PASS, "mssql")
    .where(sa.text(f"run.state = '{RunState.QUEUED}'"), run.c.queue.like(f"{PREFIX}%"))
    .where(~sa.exists(_MAY_TAKE_IT))
    .order_by(run.c.id)
    .limit(BATCH)
)


def end_unserved(conn: sa.Connection, by: str) -> list[Finished]:
    """End the queued runs whose worker has gone and not come back with enough slots, as stopped. Returns these runs.

    Their sequences are left to the sweep, and runs whose row or named lock another transaction holds to a later call.
    """
    found = {row.id: row for row in conn.execute(_LEFT)}
    free = admission.lock_free(conn, {row.id: [admission.Rule(*row[-3:])] for row in found.values()})
    found = {run_id: row for run_id, row in found.items() if run_id in free}
    if not found:
        return []
    still = (
        sa.select(run.c.id)
        .with_hint(run, CLAIMING, "mssql")
        .where(sa.text(f"state = '{RunState.QUEUED}'"), lists.by_id(run.c.id, found))
        .order_by(run.c.id)
    )
    ended = []
    for run_id in conn.execute(still).scalars().all():
        one = found[run_id]
        what = f"its worker '{one.for_worker}' " + ("came back with too few slots" if one.is_small else "left")
        ended.append(end(conn, run_id, RunState.STOPPED, before_it_began(what, one.attempt), by))
    return ended
