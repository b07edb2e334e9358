"""What must not run while the schema is upgraded.

A worker checks the schema when it starts. One that is alive while the schema changes would meet columns that are gone,
lose its lease and stop its programs, so an upgrade waits until such workers are drained.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import lease_now, utcnow
from jobfac.database.tables import worker, worker_lease
from jobfac.errors import Refused

LEASE_IN_WORKER = ("0001", "0002")
"""Versions of the schema in which the lease is a column of ``worker``."""

_FORMER = sa.Table(
    "worker", sa.MetaData(), sa.Column("name"), sa.Column("lease_until", worker_lease.c.lease_until.type)
)


def refuse_while_workers_live(conn: sa.Connection, found: str, needed: str) -> None:
    """Check that no worker is alive; the connection writes, because SQLite's lease clock needs that.

    Raises:
        Refused: a worker is alive; the text names some.
    """
    if found in LEASE_IN_WORKER:
        live = sa.text("state IN ('active', 'draining')")
        alive = sa.select(_FORMER.c.name).where(live, _FORMER.c.lease_until > utcnow())
    else:
        alive = sa.select(worker.c.name).where(
            worker.c.id == worker_lease.c.worker_id, worker_lease.c.ended == sa.false(),
            worker_lease.c.lease_until > lease_now(),
        )  # fmt: skip
    names = sorted(conn.execute(alive).scalars())
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise Refused(
            f"The schema is version {found} and is to become {needed}, but these workers are alive and use the old "
            f"one: {shown}; drain them with TERM or with `jobfac workers drain` of their version, then upgrade."
        )


@contextmanager
def upgrading_alone(conn: sa.Connection) -> Iterator[None]:
    """Let other processes that upgrade the schema wait. ``conn``: upgrades it inside; on SQLite in one transaction."""
    if conn.dialect.name == "sqlite":
        conn.begin()  # locks the file
        yield
        return
    with conn.engine.begin() as other:  # a connection of its own: each migration ends its transaction
        locks.take(other, {locks.MIGRATIONS})
        yield
