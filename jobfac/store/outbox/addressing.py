"""Turn outbox events into notifications, one for each subscribed recipient."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FOUND_BY_KEY, SKIP, characters, lists, rows, utcnow
from jobfac.database.tables import notification, outbox_event, run
from jobfac.definitions import DefinitionError, Notify, Recipient, read_notify
from jobfac.states import Delivery
from jobfac.store import jobs
from jobfac.store.jobs import category_defaults
from jobfac.store.outbox.recording import LARGEST, insert_in_pieces
from jobfac.store.outbox.subscriptions import event_name_for
from jobfac.views.notifications import Body

ALL = 2**31 - 1

UNKNOWN = LARGEST // 8
"""For how many characters an event without a body counts: the body is the run, which may be large, too."""

BY_START = ".start"
"""What the deduplication key has of a notification whose recipient was named by a start, and not by a definition."""


class StoredEvent(NamedTuple):
    """A row of the outbox. ``body``: JSON of the run at the time of the event; None: the run's current state."""

    id: int
    run_id: int | None
    attempt: int
    job: str
    event: str
    detail: str | None
    body: str | None
    created_at: datetime


class _NewNotification(NamedTuple):
    """The columns of a notification that its event determines. ``recipient``, ``body``: JSON."""

    run_id: int | None
    job: str
    event: str
    dedupe: str
    recipient: str
    body: str


class _RunOfEvent(NamedTuple):
    """The columns of a run that determine who is notified of its events."""

    job: str
    job_version: int
    overrides: str | None
    sequence_run_id: int | None


@functools.cache
def _insert(engine: str) -> sa.Insert:
    input_rows = rows.rows_table(
        engine, **{name: notification.c[name].type for name in _NewNotification._fields}, place=sa.Integer()
    )
    known = sa.exists().where(notification.c.dedupe == input_rows.c.dedupe).select_from(notification)
    select = sa.select(
        *(input_rows.c[name] for name in _NewNotification._fields),
        sa.literal_column(f"'{Delivery.WAITING}'"),
        sa.literal_column("0"),
        utcnow(),
        utcnow(),
    )
    # The ids must follow the order of the rows. SQL Server respects ORDER BY in an INSERT only together with a limit.
    return notification.insert().from_select(
        [*_NewNotification._fields, "state", "tries", "due_at", "created_at"],
        select.where(~known).order_by(input_rows.c.place).limit(ALL),
        include_defaults=False,
    )


_SIZES = (
    sa.select(outbox_event.c.id, characters(outbox_event.c.body).label("size"))
    .with_hint(outbox_event, SKIP, "mssql")
    .order_by(outbox_event.c.id)
)


class Unaddressed(NamedTuple):
    """Outbox events, and whether there may be more."""

    events: list[StoredEvent]
    more: bool


def unaddressed(conn: sa.Connection, limit: int) -> Unaddressed:
    """Lock and return the oldest outbox events, up to ``limit``; fewer if their bodies are large.

    Skips events that another scheduler has locked.
    """
    ids: list[int] = []
    size = 0
    for row in conn.execute(_SIZES.limit(limit)).all():
        if size >= LARGEST:
            break
        ids.append(row.id)
        size += UNKNOWN if row.size is None else row.size
    if not ids:
        return Unaddressed([], False)
    query = sa.select(outbox_event).with_hint(outbox_event, FOUND_BY_KEY, "mssql").order_by(outbox_event.c.id)
    found = conn.execute(query.where(lists.by_id(outbox_event.c.id, ids)))
    return Unaddressed([StoredEvent(*row) for row in found], len(ids) == limit or size >= LARGEST)


def address(conn: sa.Connection, items: Sequence[StoredEvent], bodies: Mapping[int, Body]) -> list[str]:
    """Turn outbox events into notifications and delete the events. Existing notifications stay unchanged.

    Args:
        items: events as ``unaddressed`` returns them in this transaction.
        bodies: by run id, the body of notifications for events that have no body.

    Returns:
        One sentence for each definition that could not be read, and so caused no notification.
    """
    problems: list[str] = []
    found: dict[tuple[str, str], _NewNotification] = {}
    for item in items:
        body = json.loads(item.body) if item.body else bodies.get(item.run_id or 0, {"job": item.job})
        try:
            entries = list(_entries(conn, item, problems))
        except (
            DefinitionError,
            ValueError,
        ) as error:  # stored by a newer jobfac; the events of other jobs must not wait for it
            problems.append(f"the subscriptions to '{item.event}' of job '{item.job}' cannot be read: {error}")
            continue
        texts: dict[str, str] = {}
        for entry, source in entries:
            event = event_name_for(entry.on, item.event)
            if event is None:
                continue
            text = _text(texts, body, event, item.detail)
            for recipient in _each(entry.to):
                begin, digest = _key(item, entry, recipient)
                dedupe = f"{begin}{source}.{digest}"
                row = _NewNotification(item.run_id, item.job, event, dedupe, recipient, text)
                known = found.get((begin, digest))
                if known is None or known.event != item.event == event:  # the entry that names the event wins
                    found[begin, digest] = row
    insert_in_pieces(conn, _insert(conn.dialect.name), (row._asdict() for row in found.values()))
    if items:
        ids = rows.rows_parameter({"id": item.id} for item in items)
        conn.execute(rows.deletion(conn.dialect.name, outbox_event), ids)
    return problems


def _text(texts: dict[str, str], body: Mapping[str, Any], event: str, detail: str | None) -> str:
    """Return the body of an item's notifications: one text for all recipients, since it may be large."""
    if event not in texts:
        texts[event] = json.dumps({**body, "event": event, "detail": detail}, ensure_ascii=False)
    return texts[event]


def _each(recipient: Recipient) -> Iterator[str]:
    """Yield one JSON text for each address of the recipient."""
    for single in recipient.each():
        yield json.dumps(single.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, sort_keys=True)


def _key(item: StoredEvent, entry: Notify, recipient: str) -> tuple[str, str]:
    """Return the two parts of a notification's deduplication key. They depend on the event and the recipient only.

    So several subscriptions of one recipient to one event cause one notification.
    """
    digest = hashlib.sha256(recipient.encode()).hexdigest()[:12]
    if item.run_id is None:
        return f"event{item.id}.{item.event}", digest
    once = entry.once and item.event == "running_long"
    which = "" if once else str(item.attempt)
    if item.event == "approval_wanted":  # an attempt of a sequence may ask several times
        which = f"{item.attempt}-{item.id}"
    return f"{item.run_id}.{which}.{item.event}", digest


def _entries(conn: sa.Connection, item: StoredEvent, problems: list[str]) -> Iterator[tuple[Notify, str]]:
    """Yield the ``notify`` entries that apply to an event, each with ``BY_START`` if a start brought it, or empty.

    For an event of a run these are the entries of its job, its category and its start, and then those of the sequences
    that contain it. For an event without a run these are the entries of the job's current version.
    """
    source = _run(conn, item.run_id)
    if source is None:
        yield from ((entry, "") for entry in _of_job(conn, item.job, problems))
        return
    applicable = ("sequence", "both")
    while source is not None:
        mine = _of_version(conn, source, problems)
        defaults = _of_run_category(conn, source.job, mine.category, problems)
        entries = [(entry, "") for entry in (*mine.notify, *defaults)]
        entries += [(entry, BY_START) for entry in _of_start(source, problems)]
        yield from (one for one in entries if one[0].of in applicable)
        applicable = ("jobs", "both")
        source = _run(conn, source.sequence_run_id)


def _run(conn: sa.Connection, run_id: int | None) -> _RunOfEvent | None:
    if run_id is None:
        return None
    row = conn.execute(sa.select(*(run.c[name] for name in _RunOfEvent._fields)).where(run.c.id == run_id)).first()
    return None if row is None else _RunOfEvent(*row)


class _Subscribers(NamedTuple):
    """What a definition says about notifications."""

    notify: Sequence[Notify] = ()
    category: str | None = None


def _of_version(conn: sa.Connection, source: _RunOfEvent, problems: list[str]) -> _Subscribers:
    try:
        definition = jobs.load_version(conn, source.job, source.job_version)
    except DefinitionError as error:
        what = f"version {source.job_version} of job '{source.job}' cannot be read: {error}"
        return _of_newer(jobs.version_body(conn, source.job, source.job_version), what, problems)
    return _Subscribers(definition.notify, definition.category)


def _of_newer(body: Mapping[str, Any], what: str, problems: list[str]) -> _Subscribers:
    """Return the subscribers of a definition, or of what else has ``notify``, entry by entry.

    A newer version may have stored it, and this one cannot read it as a whole. Its alarms must not be lost because a
    scheduler of this version is still running.
    """
    category, entries = body.get("category"), body.get("notify", ())
    notify: list[Notify] = []
    lost = []
    for entry in entries if isinstance(entries, list | tuple) else [entries]:
        try:
            notify += read_notify([entry])
        except DefinitionError:
            lost.append(entry)
    if lost:
        problems.append(what)
    return _Subscribers(notify, category if isinstance(category, str) else None)


def _of_job(conn: sa.Connection, job_id: str, problems: list[str]) -> Iterator[Notify]:
    stored = jobs.load(conn, job_id)
    if stored is None:
        return
    if stored.unreadable:
        mine = _of_newer(stored.body, f"job '{job_id}' cannot be read: {stored.unreadable}", problems)
    else:
        mine = _Subscribers(stored.definition.notify)
    defaults = _of_category(conn, stored.category, problems)
    yield from (entry for entry in (*mine.notify, *defaults) if entry.of != "jobs")


def _of_run_category(conn: sa.Connection, job_id: str, category: str | None, problems: list[str]) -> Sequence[Notify]:
    """Return the entries of the category that a run's version has.

    If that category has no defaults, it may have been renamed since the run was created: then the category of the job
    counts.
    """
    found = _of_category(conn, category, problems)
    if found or category is None or category_defaults.exist(conn, category):
        return found
    stored = jobs.load(conn, job_id)
    return found if stored is None else _of_category(conn, stored.category, problems)


def _of_category(conn: sa.Connection, category: str | None, problems: list[str]) -> Sequence[Notify]:
    if category is None:
        return ()
    try:
        return category_defaults.of(conn, category).notify
    except DefinitionError as error:
        what = f"the defaults of category '{category}' cannot be read: {error}"
        return _of_newer(category_defaults.body(conn, category), what, problems).notify


def _of_start(source: _RunOfEvent, problems: list[str]) -> Sequence[Notify]:
    if not source.overrides:
        return ()
    what = f"the recipients that a start of job '{source.job}' has named cannot be read"
    return _of_newer(json.loads(source.overrides), what, problems).notify
