"""Turn events of runs into outbox events for their subscribers."""

import functools
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, lists
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import FAILURES, FINAL, TO_ACKNOWLEDGE, RunState
from jobfac.store import outbox
from jobfac.store.history.recovery import shows_recovery, unindexed
from jobfac.store.outbox import RECOVERED, OutboxEvent
from jobfac.store.runs.event import Event
from jobfac.store.runs.reading import RUN_COLUMNS, one_run
from jobfac.views.runs import RunView
from jobfac.views.serialization import as_json

JUDGED = FAILURES - {RunState.DENIED} | {RunState.SUCCEEDED, RunState.MIXED}
"""Final states that show whether the job works. A stopped or denied run does not show that."""

_GIVEN = lists.ids()
_SNAPSHOT = sa.select(*RUN_COLUMNS).where(run.c.id == _GIVEN.c.value)

EARLIER, OF_FLEET = 20, 1000
"""How many of a job's earlier runs are searched for a failure that no success has followed yet. They may have run side
by side, so the order of their ends counts, too. The second number is for a job that runs on each worker."""

OPEN = 1000
"""How many of the failures that nobody has acknowledged, of all jobs, are searched for one."""

AT_ONCE = 50
"""How many runs are read at once. Each may have megabytes of payload."""

_failed, _good = run.alias("failed"), run.alias("good")


@functools.cache
def _recoveries(engine: str, number: int) -> sa.Select[int]:
    """Return the query of the given runs that follow a failure of their job.

    It is among ``number`` earlier runs, or one that nobody has acknowledged, however many runs came since: runs with
    other parameters lie between two that do the same work.
    """
    earlier = run.alias("earlier")
    latest = (
        # PASS would not see an earlier run that somebody is just writing, perhaps to count it. Without a hint this
        # would wait for a transaction that acknowledges it. What is read of an ended run does not change.
        sa.select(earlier.c.id)
        .with_hint(earlier, DIRTY, "mssql")
        .where(earlier.c.job == run.c.job, earlier.c.id < run.c.id)
        .where(sa.text(f"earlier.state IN ({sql_literals(JUDGED)})"))
        .order_by(earlier.c.id.desc())
        .limit(number)
        .correlate(run)
    )
    unacknowledged = (
        sa.select(earlier.c.id)
        .with_hint(earlier, DIRTY, "mssql")
        .where(earlier.c.id < run.c.id)
        .where(sa.text(f"earlier.state IN ({sql_literals(TO_ACKNOWLEDGE)}) AND earlier.acknowledged_at IS NULL"))
        .order_by(earlier.c.id.desc())
        .limit(OPEN)
        .correlate(run)
    )
    among_latest = _follows(engine, _failed.c.id.in_(latest), sa.text(f"failed.state <> '{RunState.SUCCEEDED}'"))
    among_open = _follows(engine, _failed.c.id.in_(unacknowledged))
    return sa.select(run.c.id).where(run.c.id == _GIVEN.c.value, sa.or_(among_latest, among_open))


def _follows(engine: str, *failures: sa.ColumnElement[bool] | sa.TextClause) -> sa.ColumnElement[bool]:
    """Return the condition that a run is the first success that follows one of these failures of its job."""
    is_over_already = (
        sa.select(_good.c.id)
        .with_hint(_good, DIRTY, "mssql")
        .where(_good.c.job == run.c.job, _good.c.id > _failed.c.id, _good.c.id < run.c.id)
        .where(sa.text(f"good.state = '{RunState.SUCCEEDED}'"), _good.c.ended_at >= _failed.c.ended_at)
        .where(shows_recovery(engine, "good", "failed"))
        .correlate(run, _failed)
        .exists()
    )
    found = (
        sa.select(_failed.c.id)
        .with_hint(_failed, DIRTY, "mssql")
        .where(*failures, unindexed(engine, "failed.job") == run.c.job)
    )
    found = found.where(_failed.c.ended_at <= run.c.ended_at, shows_recovery(engine, "run", "failed"), ~is_over_already)
    return sa.exists(found.correlate(run))


def outbox_event_name(event: str, attempt: int) -> str | None:
    """Return the ``notify`` name of a run's event, or None if ``notify`` has no such event."""
    if event in FINAL or event in ("running_long", "approval_wanted"):
        return event
    if event == RunState.RUNNING:
        return "started" if attempt == 1 else None
    return "retry" if event == RunState.SCHEDULED and attempt > 0 else None


def record_subscribed(conn: sa.Connection, events: Sequence[Event]) -> None:
    """Record outbox events for the subscribed events among ``events``, with the current state of their runs.

    Sends no query if no event is subscribed.
    """
    named = [(event, name) for event in events if (name := outbox_event_name(event.event, event.attempt))]
    named = [(event, name) for event, name in named if outbox.wants(event.notify, name) or _may_recover(event, name)]
    for first in range(0, len(named), AT_ONCE):
        _record(conn, named[first : first + AT_ONCE])


def _record(conn: sa.Connection, named: Sequence[tuple[Event, str]]) -> None:
    """Record outbox events for those of these events that are subscribed, by the names of the outbox."""
    runs = snapshots(conn, {event.run_id for event, _ in named})
    may = [runs[event.run_id] for event, name in named if _may_recover(event, name) and event.run_id in runs]
    recovered = _recovered(conn, may)
    items = []
    for event, name in named:
        name = RECOVERED if event.run_id in recovered and _may_recover(event, name) else name
        view = runs.get(event.run_id)
        if view is not None and outbox.wants(event.notify, name):
            items.append(OutboxEvent(view.job, name, as_json(view), event.run_id, event.attempt, event.detail))
    outbox.record(conn, items)


def _may_recover(event: Event, name: str) -> bool:
    return name == RunState.SUCCEEDED and outbox.wants(event.notify, RECOVERED)


def snapshots(conn: sa.Connection, run_ids: Collection[int]) -> dict[int, RunView]:
    """Return the views of these runs by id."""
    if not run_ids:
        return {}
    return {row["id"]: one_run(row) for row in conn.execute(_SNAPSHOT, {"ids": lists.as_list(run_ids)}).mappings()}


def _recovered(conn: sa.Connection, successes: Collection[RunView]) -> set[int]:
    """Return the ids of those of these runs that are the first to follow a failure of the same job.

    As with ``notes``, a run follows another one that has a lower id and ended before it.
    """
    found: set[int] = set()
    for number in (EARLIER, OF_FLEET):
        ids = {one.id for one in successes if (one.for_worker is not None) == (number == OF_FLEET)}
        if ids:
            found.update(conn.execute(_recoveries(conn.dialect.name, number), {"ids": lists.as_list(ids)}).scalars())
    return found
