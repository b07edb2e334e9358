"""Helpers of the outbox tests."""

from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import notification
from jobfac.scheduler.notifier import address_some
from jobfac.store.jobs import category_defaults

OPS = {"email": ["ops@example.org"]}


def on(*events: str, to: Any = OPS, **more: Any) -> dict[str, Any]:
    """One entry of ``notify``."""
    return {"on": list(events), "to": to, **more}


def notified_events(db: Database) -> list[tuple[str, str]]:
    """Address all outbox events; returns job and event of every notification, in order."""
    while db.transact(address_some):
        pass
    with db.read() as conn:
        rows = conn.execute(sa.select(notification.c.job, notification.c.event).order_by(notification.c.id))
        return [(row.job, row.event) for row in rows]


def rows(db: Database) -> list[sa.RowMapping]:
    with db.read() as conn:
        return list(conn.execute(sa.select(notification).order_by(notification.c.id)).mappings())


def apply_defaults(db: Database, **categories: Any) -> None:
    wanted = d.from_data({"defaults": categories}).defaults

    def work(conn: sa.Connection) -> None:
        before = category_defaults.load(conn)
        plan = d.plan(before, {name: d.canonical(one) for name, one in wanted.items()}, prune=True)
        category_defaults.apply(conn, plan, wanted, "me")

    db.transact(work)
