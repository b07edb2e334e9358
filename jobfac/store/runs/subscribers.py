"""Turn events of runs into outbox events for their subscribers."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.states import FAILURES, FINAL, RunState
from jobfac.store import outbox
from jobfac.store.outbox import RECOVERED, OutboxEvent
from jobfac.store.runs.event import Event
from jobfac.store.runs.reading import RUN_COLUMNS, one_run
from jobfac.views.runs import RunView
from jobfac.views.serialization import as_json

JUDGED = FAILURES - {RunState.DENIED} | {RunState.SUCCEEDED, RunState.MIXED}
"""Final states that show whether the job works. A stopped or denied run does not show that."""

_GIVEN = lists.ids()
_SNAPSHOT = sa.select(*RUN_COLUMNS).where(run.c.id == _GIVEN.c.value)

EARLIER = 20
"""How many of a job's earlier runs are searched for a failure that no success has followed yet. They may have run side
by side, so the order of their ends counts, too."""

_earlier, _good = run.alias("earlier"), run.alias("good")
_before = (
    sa.select(_earlier.c.id, _earlier.c.state, _earlier.c.ended_at)
    # Without PASS: an earlier run that somebody is just writing, perhaps to count it, would not be seen.
    .where(_earlier.c.job == run.c.job, _earlier.c.id < run.c.id, sa.text(f"earlier.state IN ({sql_literals(JUDGED)})"))
    .order_by(_earlier.c.id.desc())
    .limit(EARLIER)
    .correlate(run)
    .subquery("latest")
)
_HAS_RECOVERED = (
    sa.exists()
    .where(_good.c.job == run.c.job, _good.c.id > _before.c.id, _good.c.id < run.c.id)
    .where(sa.text(f"good.state = '{RunState.SUCCEEDED}'"), _good.c.ended_at >= _before.c.ended_at)
    .correlate(run, _before)
)
_FOLLOWS_FAILURE = (
    sa.exists()
    .where(_before.c.state != RunState.SUCCEEDED, _before.c.ended_at <= run.c.ended_at, ~_HAS_RECOVERED)
    .correlate(run)
)
_RECOVERIES = sa.select(run.c.id).where(run.c.id == _GIVEN.c.value, _FOLLOWS_FAILURE)


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
    if not named:
        return
    runs = snapshots(conn, {event.run_id for event, _ in named})
    recovered = _recovered(conn, {event.run_id for event, name in named if _may_recover(event, name)})
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


def _recovered(conn: sa.Connection, run_ids: Collection[int]) -> set[int]:
    """Return the successful runs among ``run_ids`` that are the first to follow a failure of the same job.

    As with ``notes``, a run follows another one that has a lower id and ended before it.
    """
    if not run_ids:
        return set()
    return set(conn.execute(_RECOVERIES, {"ids": lists.as_list(run_ids)}).scalars())
