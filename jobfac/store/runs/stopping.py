"""Stopping runs: what waits ends here and now; what runs is asked, and its worker or the lease's expiry obeys."""

from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import LOCKED, utcnow
from jobfac.database.tables import run
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.errors import no_run
from jobfac.states import ACTIVE, FINAL, WAITING, RunState, Stop
from jobfac.store.runs import admission
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record


class Stopped(NamedTuple):
    """What a stop request found and left; equal states mean that there was nothing to do."""

    before: RunState
    after: RunState


def request_stop(conn: sa.Connection, run_id: int, *, now: bool, by: str) -> Stopped:
    """Stop a run: a waiting one at once, a running one by asking for it (``now``: without its grace).

    Raises:
        NotFound: there is no such run.
    """
    query = sa.select(
        run.c.state, run.c.attempt, run.c.stop, run.c.job, run.c.already_running, run.c.concurrency_key, run.c.notify
    ).where(run.c.id == run_id)
    row = conn.execute(query.with_hint(run, LOCKED, "mssql")).mappings().first()
    if row is None:
        raise no_run(run_id)
    before = RunState(row["state"])
    if before == RunState.QUEUED:
        admission.lock(conn, [row])
    how = Stop.NOW if now else Stop.POLITE
    if before in FINAL or (before == RunState.STOPPING and row["stop"] in (how, Stop.NOW)):
        return Stopped(before, before)
    values = {"stop": how, "stop_by": truncate_utf16(by, 128)}
    if before in WAITING:
        after = RunState.STOPPED
        change = run.update().values(
            {
                **values,
                "state": after,
                "ended_at": utcnow(),
                "reason": truncate_utf16(f"stopped by {by} before it began", 1000),
            }
        )
    else:
        after = RunState.STOPPING
        change = run.update().values({**values, "state": after})
    conn.execute(change.where(run.c.id == run_id, run.c.state == before))
    record(conn, [Event(run_id, row["attempt"], after, by, "at once" if now else None, row["notify"])])
    if before == RunState.QUEUED:
        admission.release_blocked(conn, [row], by)
    return Stopped(before, after)


def make_room(conn: sa.Connection, job: str, by: str) -> None:
    """``already_running: replace``: stop the job's runs that are under way; a start for a later time is not."""
    others = sa.select(run.c.id).where(
        sa.text(f"state IN ({sql_literals(ACTIVE)})"),
        run.c.job == job,
        admission.UNDER_WAY,
    )
    for other in conn.execute(others).scalars().all():
        request_stop(conn, other, now=False, by=f"{by} (replaced)")
