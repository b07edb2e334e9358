"""The one order in which every transaction takes its locks, and the named locks that come first in it.

A transaction names what it will decide about before it locks a row: the columns of a run that say which named locks its
rules need never change, so they are read without a lock. A transaction that finds later that it needs another named
lock takes it only if it is free: it never waits for a name while it holds rows, and so no deadlock can come of it.
"""

from collections.abc import Collection, Iterable
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from jobfac.database.dialects import of

ORDER = ("named locks", "worker", "run", "schedule")
"""What is locked first. Named locks are taken all at once and sorted. Of `run`, a sequence's row comes before the rows
of the runs in it, which is the order of their ids. `worker_lease` has no place here: nothing waits for it in a
transaction that holds other locks, but for the expiry of a lease that has run out."""

DEFINITIONS = "jobfac:definitions"
"""Who stores definitions does it alone."""

DAILY = "jobfac:daily"
"""Who adds to the statistics of a day does it alone: of two that insert the same row one would fail."""

_held: WeakKeyDictionary[sa.Transaction, set[str]] = WeakKeyDictionary()


def held(conn: sa.Connection) -> Collection[str]:
    """The named locks that this transaction holds."""
    transaction = conn.get_transaction()
    return _held.get(transaction, set()) if transaction is not None else set()


def take(conn: sa.Connection, names: Iterable[str]) -> None:
    """Hold these named locks until the transaction ends. To be called before the transaction locks a row.

    The first call waits for all of its names, in order. A later one takes those that are free.

    Raises:
        sqlalchemy.exc.DBAPIError: a lock could not be had in time, an error after which the whole transaction may be
            tried again.
    """
    already = held(conn)
    if missing := sorted(set(names) - set(already)):
        of(conn).lock_names(conn, missing, wait=not already)
        _remember(conn, missing)


def take_now(conn: sa.Connection, names: Iterable[str]) -> None:
    """The same for a transaction that may have locked rows: it waits for no name.

    Raises:
        sqlalchemy.exc.DBAPIError: one of them is another's, an error after which the whole transaction may be tried
            again.
    """
    if missing := sorted(set(names) - set(held(conn))):
        of(conn).lock_names(conn, missing, wait=False)
        _remember(conn, missing)


def take_free(conn: sa.Connection, names: Iterable[str]) -> Collection[str]:
    """Hold those of these named locks that are free; returns all that the transaction holds now. It never waits."""
    if missing := sorted(set(names) - set(held(conn))):
        _remember(conn, of(conn).lock_free_names(conn, missing))
    return held(conn)


def _remember(conn: sa.Connection, names: Iterable[str]) -> None:
    transaction = conn.get_transaction()
    if transaction is not None:  # SQLite, which has no named locks, may not have begun one
        _held.setdefault(transaction, set()).update(names)
