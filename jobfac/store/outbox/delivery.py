"""Deliver notifications: take them for a limited time, then mark them delivered, retry them later, or mark them dead.

A dead notification stays until it is requeued or removed.
"""

import functools
import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import FOUND_BY_KEY, PASS, SKIP, characters, lists, utcnow
from jobfac.database.dialects.rows import by_primary_key, delete, rows_parameter, rows_table
from jobfac.database.tables import notification
from jobfac.database.types import BigId, truncate_utf16
from jobfac.definitions import Recipient
from jobfac.states import Delivery
from jobfac.store import audit
from jobfac.store.outbox.addressing import BY_START
from jobfac.store.outbox.recording import LARGEST
from jobfac.store.outbox.shares import (
    LARGE,
    LARGE_BY_START,
    MAILS,
    MAILS_BY_START,
    OF_MAILS,
    WITH_JOB,
    Room,
    Taken,
    fitting,
)
from jobfac.views.notifications import NotificationView
from jobfac.views.serialization import columns, from_row

TRIES = 10
"""The maximum number of tries. After the last one a notification is dead, about an hour and a half after the first."""

LARGE_BODY = LARGEST // 8
"""The maximum number of characters of a body that is not large."""

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 3600.0
"""Seconds between two tries, at most. The first pause is about ``FIRST_PAUSE``."""

WITHOUT_RESULT = "its last delivery ended without a result: the scheduler ended, or could not store one"

JITTER = 10_000
"""Milliseconds by which a lease is longer, at random, so that two takes do not write the same end of it."""

BATCH = 500
"""The maximum number of rows that one transaction removes."""


def pause(tries: int) -> float:
    """Return the seconds until the next try, after ``tries`` failed tries: random by two fifths.

    Otherwise a thousand notifications would come back at once each time, and a receiver that takes a few a second, as
    chat services do, would refuse most of them until they are dead.
    """
    return min(FIRST_PAUSE * 2.0 ** (tries - 1) * random.uniform(0.6, 1.4), LONGEST_PAUSE)


_UNTIL = utcnow(sa.bindparam("p_lease", type_=BigId)).label("until")
_IS_SMALL = characters(notification.c.body) <= LARGE_BODY
_TAKE = (
    sa.select(
        *(notification.c[name] for name in Taken._fields if name in notification.c and name != "body"),
        sa.case((_IS_SMALL, notification.c.body)).label("body"),  # a large one is read when there is room for it
        _UNTIL,
    )
    .with_hint(notification, SKIP, "mssql")
    .where(sa.text(f"state = '{Delivery.WAITING}'"), notification.c.due_at <= utcnow())
    .order_by(notification.c.due_at, notification.c.id)
)


@functools.cache
def _count_try(engine: str) -> sa.Update:
    given = rows_table(engine, id=BigId)
    change = notification.update().where(notification.c.id == given.c.id)
    until = sa.bindparam("p_until", type_=notification.c.due_at.type)
    change = change.values(tries=notification.c.tries + 1, due_at=until)
    return by_primary_key(change, notification)


class Leased(NamedTuple):
    """What a take wrote: notification, tries and end of the lease. Another take writes another end."""

    id: int
    tries: int
    until: datetime


def release(conn: sa.Connection, leased: Sequence[Leased]) -> None:
    """Make notifications due again that a take leased whose answer was lost, so that nobody sends them.

    Does nothing to those that this take did not lease after all, or that another scheduler has taken since.
    """
    for one in leased:
        mine = (
            notification.c.id == one.id,
            notification.c.tries == one.tries,
            notification.c.due_at == one.until,
            notification.c.state == Delivery.WAITING,
        )
        conn.execute(notification.update().where(*mine).values(tries=one.tries - 1, due_at=utcnow()))


# Without locks: it may pass thousands of rows, and so many locks would become one on the table.
_GIVEN = lists.names()
_KEY_AND_JOB = notification.c.dedupe + sa.literal_column(f"'{WITH_JOB}'", sa.String) + notification.c.job
_IS_MAIL = notification.c.recipient.like('{"email"%')
_IS_BY_START = notification.c.dedupe.like(f"%{BY_START}.%")
_large = notification.alias("large")
_JOBS_OF_LARGE = (  # all of their notifications wait, because some have an order
    sa.select(_large.c.job)
    .with_hint(_large, PASS, "mssql")
    .where(sa.text(f"large.state = '{Delivery.WAITING}'"), characters(_large.c.body) > LARGE_BODY)
)
_OTHERS = (
    sa.select(notification.c.id)
    .with_hint(notification, PASS, "mssql")
    .where(sa.text(f"notification.state = '{Delivery.WAITING}'"), notification.c.due_at <= utcnow())
    .where(~sa.exists(sa.select(_GIVEN.c.value).where(_KEY_AND_JOB.like(_GIVEN.c.value))))
    .where(sa.or_(sa.bindparam("p_mails", type_=sa.Integer) == 1, ~_IS_MAIL))
    .where(sa.or_(sa.bindparam("p_start_mails", type_=sa.Integer) == 1, ~_IS_MAIL, ~_IS_BY_START))
    .where(
        sa.or_(
            sa.and_(
                sa.bindparam("p_large", type_=sa.Integer) == 1,
                sa.or_(sa.bindparam("p_start_large", type_=sa.Integer) == 1, ~_IS_BY_START),
            ),
            notification.c.job.not_in(_JOBS_OF_LARGE),
        )
    )
    .order_by(notification.c.due_at, notification.c.id)
)


def _pattern(group: str) -> str:
    """Return the pattern of key and job of the notifications of a group. Wildcards in a job's id do no harm."""
    if group == BY_START:
        return f"%{BY_START}.%{WITH_JOB}%"
    return f"%.{group}" if WITH_JOB in group else f"%.{group.removesuffix(OF_MAILS)}{WITH_JOB}%"


def _others(conn: sa.Connection, room: Room, limit: int) -> Sequence[int]:
    """Return the ids of due notifications of groups that have room."""
    full = set(room.full)
    values = {
        "names": lists.as_list([_pattern(group) for group in full - {MAILS, MAILS_BY_START, LARGE, LARGE_BY_START}]),
        "p_mails": int(MAILS not in full),
        "p_start_mails": int(MAILS_BY_START not in full),
        "p_large": int(LARGE not in full),
        "p_start_large": int(LARGE_BY_START not in full),
    }
    return conn.execute(_OTHERS.limit(limit), values).scalars().all()


def take(
    conn: sa.Connection, limit: int, lease: float, leased: list[Leased] | None = None, room: Room | None = None
) -> list[Taken]:
    """Take up to ``limit`` due notifications. One that ended its schedulers ``TRIES`` times is dead instead.

    The caller must report the result of each within ``lease`` seconds. After that another scheduler may take it.
    ``leased``: what earlier takes without an answer leased; it is released. What this one leases is added. ``room``:
    of the groups that share deliveries; None: there is room for all.
    """
    found, unread, given_up = [], [], []
    release(conn, leased or [])
    query = _TAKE.limit(limit)
    if room is not None and room.full:
        if not (others := _others(conn, room, limit)):
            return []
        query = query.where(lists.by_id(notification.c.id, others))
    ends = {}
    for row in conn.execute(query, {"p_lease": round(lease * 1000) + random.randrange(JITTER)}).mappings():
        if row["tries"] >= TRIES:
            given_up.append(row["id"])
            continue
        try:
            found.append(_taken(row))
            ends[row["id"]] = row["until"]
        except ValueError:  # a newer jobfac stored it, and its scheduler can deliver it; the others must not wait
            unread.append(row["id"])
    found = _with_bodies(conn, found if room is None else fitting(found, room))
    written = [Leased(one.id, one.tries, ends[one.id]) for one in found]
    for ids, values in (
        (unread, {"due_at": utcnow(LONGEST_PAUSE * 1000), "error": "this version of jobfac cannot read it"}),
        (given_up, {"state": Delivery.DEAD, "error": WITHOUT_RESULT}),
    ):
        if ids:
            change = notification.update().where(lists.by_id(notification.c.id, ids)).values(values)
            conn.execute(by_primary_key(change, notification))
    if found:
        taken = rows_parameter({"id": one.id} for one in found)
        conn.execute(_count_try(conn.dialect.name), {**taken, "p_until": written[0].until})
    if leased is not None:
        leased += written
    return found


def _taken(row: sa.RowMapping) -> Taken:
    """Return a notification; its body, if it is large, is still empty."""
    to, is_large = Recipient.model_validate(json.loads(row["recipient"])), row["body"] is None
    values = {name: row[name] for name in Taken._fields if name in row}
    body = {} if is_large else json.loads(row["body"])
    return Taken(**{**values, "tries": row["tries"] + 1, "recipient": to, "body": body, "is_large": is_large})


def _with_bodies(conn: sa.Connection, found: Sequence[Taken]) -> list[Taken]:
    """Return notifications with the bodies of the large ones, too."""
    large = [one.id for one in found if one.is_large]
    query = sa.select(notification.c.id, notification.c.body).with_hint(notification, FOUND_BY_KEY, "mssql")
    rows = conn.execute(query.where(lists.by_id(notification.c.id, large))) if large else ()
    bodies = {row.id: json.loads(row.body) for row in rows}
    return [one._replace(body=bodies.get(one.id, one.body)) for one in found]


def delivered(conn: sa.Connection, taken: Taken) -> bool:
    """Mark a notification delivered.

    Returns False if another scheduler took it meanwhile. It may then arrive twice, with the same ``dedupe``.
    """
    return _record_result(conn, taken, {"state": Delivery.DELIVERED, "delivered_at": utcnow(), "error": None})


def failed(conn: sa.Connection, taken: Taken, error: str) -> Delivery:
    """Record a failed try. Schedules the next try or, after ``TRIES`` tries, marks the notification dead.

    Returns the new state.
    """
    state = Delivery.DEAD if taken.tries >= TRIES else Delivery.WAITING
    _record_result(
        conn, taken, {"state": state, "due_at": utcnow(pause(taken.tries) * 1000), "error": truncate_utf16(error, 1000)}
    )
    return state


def _record_result(conn: sa.Connection, taken: Taken, values: dict[str, Any]) -> bool:
    mine = (
        notification.c.id == taken.id,
        notification.c.tries == taken.tries,
        notification.c.state == Delivery.WAITING,
    )
    return conn.execute(notification.update().where(*mine).values(values)).rowcount == 1


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: let no notification wait longer than it ever should.

    Returns how many are due now.
    """
    is_far = (sa.text(f"state = '{Delivery.WAITING}'"), notification.c.due_at > utcnow(LONGEST_PAUSE * 1000))
    return conn.execute(notification.update().where(*is_far).values(due_at=utcnow())).rowcount


def find(
    conn: sa.Connection,
    describe: Callable[[Recipient], str],
    state: Delivery | None = None,
    limit: int = 100,
    *,
    run_id: int | None = None,
    below: int | None = None,
    categories: Sequence[str] | None = None,
) -> list[NotificationView]:
    """Return up to ``limit`` notifications, newest first.

    Args:
        describe: names a recipient without its secrets.
        run_id: only those of this run.
        below: only those with lower ids, to continue after a page.
        categories: only those of jobs of these categories; None: all.
    """
    query = sa.select(*_SHOWN).order_by(notification.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(notification.c.state == state)
    if run_id is not None:
        query = query.where(notification.c.run_id == run_id)
    if below is not None:
        query = query.where(notification.c.id < below)
    query = query.where(*lists.of_categories(notification.c.job, categories))
    return [_view(row, describe) for row in conn.execute(query).mappings()]


def _view(row: sa.RowMapping, describe: Callable[[Recipient], str]) -> NotificationView:
    try:
        to = Recipient.model_validate(json.loads(row["recipient"]))
    except ValueError:  # a newer jobfac stored it
        return from_row(NotificationView, {**row, "channel": "unknown", "to": "a recipient of a newer jobfac"})
    return from_row(NotificationView, {**row, "channel": to.channel, "to": describe(to)})


_SHOWN = [notification.c[name] for name in (*columns(NotificationView), "recipient") if name in notification.c]


def dead_ids(conn: sa.Connection, above: int) -> Sequence[int]:
    """Return the ids of the next ``BATCH`` dead notifications whose id is greater than ``above``, in order."""
    query = sa.select(notification.c.id).where(notification.c.state == Delivery.DEAD, notification.c.id > above)
    return conn.execute(query.order_by(notification.c.id).limit(BATCH)).scalars().all()


def requeue(conn: sa.Connection, ids: Sequence[int], by: str) -> list[int]:
    """Requeue dead notifications with their tries reset. Returns the ids of the requeued ones."""
    change = notification.update().where(notification.c.state == Delivery.DEAD)
    change = by_primary_key(change.where(lists.by_id(notification.c.id, ids)), notification)
    change = change.values(state=Delivery.WAITING, tries=0, due_at=utcnow()).returning(notification.c.id)
    found = sorted(conn.execute(change).scalars())
    for one in found:
        audit.note(conn, by, "requeue", f"notification {one}")
    return found


def forget(conn: sa.Connection, age: float) -> bool:
    """Remove up to ``BATCH`` delivered or dead notifications older than ``age`` seconds.

    Returns True if there may be more.
    """
    # Read the oldest rows first and then check their age. A query with the age as condition would read the whole table
    # to find the last few. Those that were created while the clock was ahead would keep all that came after them.
    first = (
        sa.select(notification.c.id, notification.c.created_at, utcnow(-age * 1000).label("oldest"))
        .where(notification.c.state != Delivery.WAITING, notification.c.created_at <= utcnow())
        .order_by(notification.c.id)
        .limit(BATCH)
    )
    old = [{"id": row.id} for row in conn.execute(first) if row.created_at < row.oldest]
    return delete(conn, notification, old) == BATCH
