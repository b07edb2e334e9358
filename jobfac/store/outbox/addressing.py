"""Turn outbox events into notifications, one for each subscribed recipient."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import SKIP, rows, utcnow
from jobfac.database.tables import news, notification, run
from jobfac.definitions import AnyJob, DefinitionError, Notify, Recipient, read_notify
from jobfac.states import Delivery
from jobfac.store import jobs
from jobfac.store.outbox.subscriptions import event_name_for

ALL = 2**31 - 1
_GIVEN = ("run_id", "job", "event", "dedupe", "recipient", "body")


@functools.cache
def _insert(engine: str) -> sa.Insert:
    given = rows.rows_table(engine, **{name: notification.c[name].type for name in _GIVEN}, place=sa.Integer())
    known = sa.exists().where(notification.c.dedupe == given.c.dedupe).select_from(notification)
    select = sa.select(
        *(given.c[name] for name in _GIVEN),
        sa.literal_column(f"'{Delivery.WAITING}'"),
        sa.literal_column("0"),
        utcnow(),
        utcnow(),
    )
    # Their ids follow the order of the entries. SQL Server orders what it inserts only where it may cut it off.
    return notification.insert().from_select(
        [*_GIVEN, "state", "tries", "due_at", "created_at"],
        select.where(~known).order_by(given.c.place).limit(ALL),
        include_defaults=False,
    )


def unaddressed(conn: sa.Connection, limit: int) -> Sequence[sa.RowMapping]:
    """Lock and return the oldest outbox events, up to ``limit``. Skips events that another scheduler has locked."""
    query = sa.select(news).with_hint(news, SKIP, "mssql").order_by(news.c.id).limit(limit)
    return conn.execute(query).mappings().all()


def address(
    conn: sa.Connection, items: Sequence[Mapping[Any, Any]], bodies: Mapping[int, Mapping[str, Any]]
) -> list[str]:
    """Turn outbox events into notifications and delete the events. Existing notifications stay unchanged.

    Args:
        items: events as ``unaddressed`` returns them.
        bodies: by run id, the body of notifications for events that have no body.

    Returns:
        One sentence for each definition that could not be read, and so caused no notification.
    """
    problems: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        body = json.loads(item["body"]) if item["body"] else bodies.get(item["run_id"], {"job": item["job"]})
        for entry in _entries(conn, item, problems):
            event = event_name_for(entry.on, item["event"])
            if event is None:
                continue
            told = json.dumps({**body, "event": event, "detail": item["detail"]}, ensure_ascii=False)
            for recipient in _each(entry.to):
                values = {"run_id": item["run_id"], "job": item["job"], "event": event, "recipient": recipient}
                dedupe = _dedupe(item, entry, recipient)
                found.setdefault(dedupe, {**values, "dedupe": dedupe, "body": told})
    if found:
        numbered = [{**row, "place": place} for place, row in enumerate(found.values())]
        conn.execute(_insert(conn.dialect.name), rows.rows_parameter(numbered))
    if items:
        conn.execute(rows.deletion(conn.dialect.name, news), rows.rows_parameter({"id": item["id"]} for item in items))
    return problems


def _each(recipient: Recipient) -> Iterator[str]:
    """Yield one JSON text for each address of the recipient."""
    for single in recipient.each():
        yield json.dumps(single.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, sort_keys=True)


def _dedupe(item: Mapping[Any, Any], entry: Notify, recipient: str) -> str:
    """Return the deduplication key of a notification. It depends on the event and the recipient only.

    So several subscriptions of one recipient to one event cause one notification.
    """
    who = hashlib.sha256(recipient.encode()).hexdigest()[:12]
    if item["run_id"] is None:
        return f"news{item['id']}.{item['event']}.{who}"
    once = entry.once and item["event"] == "running_long"
    return f"{item['run_id']}.{'' if once else item['attempt']}.{item['event']}.{who}"


def _entries(conn: sa.Connection, item: Mapping[Any, Any], problems: list[str]) -> Iterator[Notify]:
    """Yield the ``notify`` entries that apply to an event.

    For an event of a run these are the entries of its job, its category and its start, and then those of the sequences
    that contain it. For an event without a run these are the entries of the job's current version.
    """
    place = _place(conn, item["run_id"])
    if place is None:
        yield from _of_job(conn, item["job"], problems)
        return
    wanted = ("sequence", "both")
    while place is not None:
        definition = _definition(conn, place, problems)
        said = [*(definition.notify if definition else ()), *_of_category(conn, definition)]
        said += read_notify(json.loads(place.overrides).get("notify", ())) if place.overrides else ()
        yield from (entry for entry in said if entry.of in wanted)
        wanted = ("jobs", "both")
        place = _place(conn, place.sequence_run_id)


def _place(conn: sa.Connection, run_id: int | None) -> Any:
    query = sa.select(run.c.job, run.c.job_version, run.c.overrides, run.c.sequence_run_id)
    return None if run_id is None else conn.execute(query.where(run.c.id == run_id)).first()


def _definition(conn: sa.Connection, place: Any, problems: list[str]) -> AnyJob | None:
    try:
        return jobs.load_version(conn, place.job, place.job_version)
    except DefinitionError as error:
        problems.append(f"version {place.job_version} of job '{place.job}' cannot be read: {error}")
        return None


def _of_job(conn: sa.Connection, job_id: str, problems: list[str]) -> Iterator[Notify]:
    try:
        stored = jobs.load(conn, job_id)
    except DefinitionError as error:
        problems.append(f"job '{job_id}' cannot be read: {error}")
        return
    if stored is not None:
        said = (*stored.definition.notify, *stored.defaults.notify)
        yield from (entry for entry in said if entry.of != "jobs")


def _of_category(conn: sa.Connection, definition: AnyJob | None) -> Sequence[Notify]:
    if definition is None or definition.category is None:
        return ()
    return jobs.defaults_of(conn, definition.category).notify
