"""URLs that start one job each. A URL is shown once, when it is created; only the hash of its token is stored.

A token has the form ``ju_<prefix>_<secret>``, like an API key.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import KEY_LENGTH, run, start_url
from jobfac.states import RunState
from jobfac.store import audit
from jobfac.store.api_keys import find, new_secret, read_categories
from jobfac.views.keys import StartUrlView
from jobfac.views.serialization import columns, from_row

WINDOW = 60.0
"""Seconds in which the starts by one URL are counted."""


STRIPE = "stripe "
"""The beginning of the name of a delivery that is known by the id of a signed Stripe event."""


class NewUrl(NamedTuple):
    """A new URL. ``token``: the secret part of its path, which cannot be shown again."""

    id: int
    job: str
    name: str
    token: str


class StartUrl(NamedTuple):
    """A URL that may be used. ``categories``: the only ones of whoever made it; None: all.

    ``wait``: seconds until the minute ends whose starts are counted; ``starts``: how many it had; ``now``: the time of
    the database.
    """

    id: int
    job: str
    name: str
    categories: tuple[str, ...] | None
    starts: int
    wait: float
    now: datetime

    @property
    def caller(self) -> str:
        """Who starts a run by this URL, in events and in the audit."""
        return f"url {self.id} ({self.name})"


class Delivery(NamedTuple):
    """How a repeated request is recognised.

    Attributes:
        name: the id that the sender gives it; None: it has none.
        body: the hash of its body, if the body is signed and the name is not; None: the name is enough.
        window: seconds for which a request with the same body, but with another name, is the same one.
    """

    name: str | None = None
    body: str | None = None
    window: float = 0.0

    @property
    def is_signed(self) -> bool:
        """Whether the sender has signed what it is recognised by. Then its headers may differ when it comes again."""
        return self.body is not None or (self.name or "").startswith(STRIPE)


def create(conn: sa.Connection, job: str, name: str, by: str, categories: Sequence[str] | None) -> NewUrl:
    """Create a URL of a job. ``categories``: the only ones that its maker may access."""
    token, stored = new_secret("ju", categories)
    insert = start_url.insert().values(job=job, name=name, created_by=by, **stored)
    url_id = int(conn.execute(insert.returning(start_url.c.id)).scalar_one())
    audit.note(conn, by, "create url", job, after=f"url {url_id}: {name}")
    return NewUrl(url_id, job, name, token)


_BY_PREFIX = sa.select(
    start_url.c.id,
    start_url.c.job,
    start_url.c.name,
    start_url.c.categories,
    start_url.c.hash,
    start_url.c.window_at,
    start_url.c.starts,
    utcnow().label("now"),
).where(start_url.c.revoked_at.is_(None), start_url.c.prefix == sa.bindparam("p_prefix"))


def check(conn: sa.Connection, token: str) -> StartUrl | None:
    """Return the URL with this token, or None if it is unknown or revoked."""
    row = find(conn, _BY_PREFIX, "ju", token)
    if row is None:
        return None
    age = WINDOW if row["window_at"] is None else (row["now"] - row["window_at"]).total_seconds()
    if age < -WINDOW:  # the clock was set back since
        age = WINDOW
    categories = read_categories(conn, row["categories"])
    starts = row["starts"] if age < WINDOW else 0
    return StartUrl(row["id"], row["job"], row["name"], categories, starts, max(0.0, WINDOW - age), row["now"])


def count(conn: sa.Connection, url_id: int, most: int) -> bool:
    """Count a start. Returns False, and counts nothing, if the minute has had ``most``, or the URL was revoked."""
    began = start_url.c.window_at
    # It began later than now if the clock was set back since, or, by a little, if another start has just counted.
    is_over = sa.or_(began.is_(None), began <= utcnow(-WINDOW * 1000), began > utcnow(WINDOW * 1000))
    change = start_url.update().where(
        start_url.c.id == url_id, start_url.c.revoked_at.is_(None), sa.or_(is_over, start_url.c.starts < most)
    )
    values = {
        "starts": sa.case((is_over, 1), else_=start_url.c.starts + 1),
        "window_at": sa.case((is_over, utcnow()), else_=start_url.c.window_at),
        "used_at": utcnow(),
    }
    return conn.execute(change.values(values)).rowcount == 1


def key_of(url_id: int, delivery: Delivery) -> str | None:
    """Return the start key of a new delivery; None: nobody can repeat it.

    It includes the URL's id, so callers cannot take each other's keys.
    """
    if delivery.body is None and delivery.name is None:
        return None
    name = delivery.name or f"at {secrets.token_hex(8)}"
    beginning = f"url {url_id} " if delivery.body is None else f"{_beginning(url_id, delivery.body)} "
    key = beginning + name
    return key if len(key) <= KEY_LENGTH else beginning + hashlib.sha256(name.encode()).hexdigest()


def _beginning(url_id: int, body: str) -> str:
    return f"url {url_id} {body}"


def repeated(conn: sa.Connection, job: str, url_id: int, delivery: Delivery, key: str) -> str | None:
    """Return the start key of the earlier request that this delivery repeats; None: its body is new.

    A denied run counts only for a request with the same name, because the job has not run for this body.
    """
    if delivery.body is None:
        return None
    same = sa.or_(run.c.start_key == key, _is_recent(delivery))
    found: str | None = conn.execute(_with_body(job, url_id, delivery.body).where(same)).scalar()
    return found


def overtaken(conn: sa.Connection, job: str, url_id: int, delivery: Delivery, key: str) -> str | None:
    """Return the start key of another request with the same body that has started a run meanwhile, or None.

    Call it after ``count``: of two such requests the second one waits there for the first. Runs that are not committed
    belong to requests that will wait for this one.
    """
    if delivery.body is None:
        return None
    # Without PASS: the run of the other request, which a worker is perhaps just claiming, would not be seen.
    query = _with_body(job, url_id, delivery.body)
    found: str | None = conn.execute(query.where(run.c.start_key != key, _is_recent(delivery))).scalar()
    return found


def _is_recent(delivery: Delivery) -> sa.ColumnElement[bool]:
    return sa.and_(run.c.created_at > utcnow(-delivery.window * 1000), run.c.state != RunState.DENIED)


def _with_body(job: str, url_id: int, body: str) -> sa.Select[Any]:
    """Select the start key of the first run for a body."""
    beginning = _beginning(url_id, body)
    # A name begins with a letter or a digit, so all keys with this beginning are in this range in every collation.
    return (
        sa.select(run.c.start_key)
        .where(run.c.job == job, sa.text("start_key IS NOT NULL"))
        .where(run.c.start_key >= beginning, run.c.start_key < f"{beginning}zz")
        .order_by(run.c.id)
        .limit(1)
    )


def has_started(conn: sa.Connection, job: str, key: str) -> bool:
    """Whether a run of the job was started with this key."""
    query = sa.select(run.c.id).where(run.c.job == job, run.c.start_key == key)
    return conn.execute(query).first() is not None


_SHOWN = [start_url.c[name] for name in columns(StartUrlView)]


def of_job(conn: sa.Connection, job: str) -> list[StartUrlView]:
    """Return the URLs of a job, revoked ones included, oldest first."""
    query = sa.select(*_SHOWN).where(start_url.c.job == job).order_by(start_url.c.id)
    return [from_row(StartUrlView, row) for row in conn.execute(query).mappings()]


def revoke(conn: sa.Connection, job: str, by: str, url_id: int | None = None) -> list[int]:
    """Revoke a URL of a job immediately; ``url_id`` None: all of them. Returns the ids of those that were not yet."""
    usable = sa.select(start_url.c.id).where(start_url.c.job == job, start_url.c.revoked_at.is_(None))
    if url_id is not None:
        usable = usable.where(start_url.c.id == url_id)
    revoked = []
    for one in conn.execute(usable.order_by(start_url.c.id)).scalars().all():
        change = start_url.update().where(start_url.c.id == one, start_url.c.revoked_at.is_(None))
        if conn.execute(change.values(revoked_at=utcnow(), revoked_by=by)).rowcount:
            audit.note(conn, by, "revoke url", job, before=f"url {one}")
            revoked.append(int(one))
    return revoked
