"""Which schedulers run. Each writes its row once a minute; a row that is older belongs to one that has died."""

from importlib.metadata import version

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import scheduler
from jobfac.database.types import truncate_utf16
from jobfac.views.serialization import columns, from_row
from jobfac.views.workers import SchedulerView

INTERVAL = 60.0
"""Seconds between two reports of a scheduler."""

SILENT = 3 * INTERVAL
"""Seconds without a report after which a scheduler is taken for dead."""

FORGOTTEN = 86400.0
"""Seconds without a report after which the row of a dead scheduler is removed."""

_NAME = sa.bindparam("p_name", type_=scheduler.c.name.type)
# Part of the text, because a statement with parameters costs one more round trip on SQL Server.
_LITERAL = sa.bindparam("p_name", type_=scheduler.c.name.type, literal_execute=True)
_REPORT = scheduler.update().where(scheduler.c.name == _LITERAL).values(seen_at=utcnow())
_REMOVE = scheduler.delete().where((scheduler.c.name == _NAME) | (scheduler.c.seen_at < utcnow(-1000 * FORGOTTEN)))
_ALL = sa.select(*(scheduler.c[name] for name in columns(SchedulerView))).order_by(scheduler.c.name)


def report(conn: sa.Connection, name: str) -> bool:
    """Say that a scheduler is alive. Returns False if it is not registered."""
    return bool(conn.execute(_REPORT, {"p_name": truncate_utf16(name, 200)}).rowcount)


def register(conn: sa.Connection, name: str) -> None:
    """Register a scheduler that has started, and remove those that died more than ``FORGOTTEN`` ago."""
    short = truncate_utf16(name, 200)
    conn.execute(_REMOVE, {"p_name": short})
    started = scheduler.insert().values(started_at=utcnow(), seen_at=utcnow())
    conn.execute(started, {"name": short, "version": version("jobfac")})


def deregister(conn: sa.Connection, name: str) -> None:
    """Remove a scheduler that stops."""
    conn.execute(_REMOVE, {"p_name": truncate_utf16(name, 200)})


def is_alive() -> sa.ColumnElement[bool]:
    """Condition on a scheduler: it has reported within ``SILENT``, and not at a time that the clock has yet to reach.

    One that died while the clock was ahead would be alive until the clock comes to that time again.
    """
    return sa.and_(scheduler.c.seen_at >= utcnow(-1000 * SILENT), scheduler.c.seen_at <= utcnow(1000 * SILENT))


def follow_clock(conn: sa.Connection) -> int:
    """After the database's clock was set back: let no report lie in the future. Returns how many were moved."""
    is_ahead = scheduler.update().where(scheduler.c.seen_at > utcnow())
    return conn.execute(is_ahead.values(seen_at=utcnow())).rowcount


def number_alive(conn: sa.Connection) -> int:
    """Return how many schedulers are alive."""
    return conn.execute(sa.select(sa.func.count()).select_from(scheduler).where(is_alive())).scalar_one()


def schedulers(conn: sa.Connection) -> list[SchedulerView]:
    """Return the schedulers that run, and those that died within ``FORGOTTEN``, by name."""
    return [from_row(SchedulerView, row) for row in conn.execute(_ALL).mappings()]
