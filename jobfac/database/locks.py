"""The order in which every transaction takes its locks, and the named locks, which come first.

A transaction takes its named locks before it locks a row. The columns of a run that determine which named locks its
concurrency limits need never change, so they are read without a lock. A transaction that later needs another named
lock takes it only if it is free. It never waits for a named lock while it holds rows, so it cannot cause a deadlock.
What serves everybody, such as a scheduler, waits a moment at most for the locks that are not free (``take_soon``).
"""

import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa

from jobfac.database.dialects import answers, dialect_of
from jobfac.errors import LOCKED, Locked

ORDER = ("named locks", "worker", "run", "schedule")
"""The order of locks. Named locks are taken all at once and sorted. Of `run`, a sequence's row comes before the rows
of the runs in it, which is the order of their ids. `worker_lease` has no place here: nothing waits for it in a
transaction that holds other locks, except the transaction that expires a lease."""

DEFINITIONS = "jobfac:definitions"
"""Serialise writers of definitions."""

MIGRATIONS = "jobfac:migrations"
"""Serialise upgrades of the schema."""

DAILY = "jobfac:daily"
"""Serialise writers of a day's statistics: if two inserted the same row, one would fail."""

K = TypeVar("K", bound=Hashable)

MOMENT = 0.75
"""Seconds for which ``take_soon`` waits for a lock. A lock that many transactions take in turn is hardly ever free, but
whoever waits for it gets it."""

MISSED_FOR = 10.0
"""Seconds for which ``take_soon`` does not wait again for a lock for which it has waited in vain."""

_held: WeakKeyDictionary[sa.Transaction, set[str]] = WeakKeyDictionary()
_waited: WeakSet[sa.Transaction] = WeakSet()
_missed: WeakKeyDictionary[sa.Engine, dict[str, float]] = WeakKeyDictionary()  # until when (monotonic)


def held(conn: sa.Connection) -> Collection[str]:
    """The named locks that this transaction holds."""
    transaction = conn.get_transaction()
    return _held.get(transaction, set()) if transaction is not None else set()


def take(conn: sa.Connection, names: Iterable[str]) -> None:
    """Hold these named locks until the transaction ends. Call it before the transaction locks a row.

    The first call waits for all of its names, in order. A later one takes those that are free.

    Raises:
        sqlalchemy.exc.DBAPIError: a lock was not free in time. The whole transaction may be retried.
    """
    already = held(conn)
    if missing := sorted(set(names) - set(already)):
        dialect_of(conn).lock_names(conn, missing, wait=not already)
        _remember(conn, missing)


def take_now(conn: sa.Connection, names: Iterable[str]) -> None:
    """Do the same as ``take`` in a transaction that may have locked rows. It never waits for a named lock.

    Raises:
        sqlalchemy.exc.DBAPIError: another transaction holds one of them. The whole transaction may be retried.
    """
    if missing := sorted(set(names) - set(held(conn))):
        dialect_of(conn).lock_names(conn, missing, wait=False)
        _remember(conn, missing)


def take_free(conn: sa.Connection, names: Iterable[str]) -> Collection[str]:
    """Take those of these named locks that are free, without waiting; return all that the transaction now holds."""
    if missing := sorted(set(names) - set(held(conn))):
        _remember(conn, dialect_of(conn).lock_free_names(conn, missing, 0))
    return held(conn)


def take_soon(conn: sa.Connection, names: Iterable[str]) -> Collection[str]:
    """Do the same as ``take_free``, but wait a moment for what other transactions hold, in order.

    Call it first before the transaction locks a row: only the first call waits. When it has waited for one in vain, it
    waits for no other one, so that a lock that an open transaction holds delays nobody else for long.
    """
    transaction = conn.get_transaction()
    if transaction is None or transaction in _waited:
        return take_free(conn, names)
    _waited.add(transaction)
    now = time.monotonic()
    missed = {name: until for name, until in _missed.get(conn.engine, {}).items() if until > now}
    if fresh := sorted(set(names) - missed.keys() - set(held(conn))):
        taken = dialect_of(conn).lock_free_names(conn, fresh, round(1000 * MOMENT))
        _remember(conn, taken)
        first = next((name for name in fresh if name not in set(taken)), None)
        _missed[conn.engine] = missed | ({first: now + MISSED_FOR} if first is not None else {})
    return take_free(conn, names)  # last, because nobody may wait while he holds one that comes later in the order


def _remember(conn: sa.Connection, names: Iterable[str]) -> None:
    transaction = conn.get_transaction()
    if transaction is not None:  # SQLite, which has no named locks, may not have begun one
        _held.setdefault(transaction, set()).update(names)


class Free(NamedTuple, Generic[K]):
    """Those whose named locks this transaction holds, in order, and those that another transaction keeps waiting."""

    found: Sequence[K]
    locked: Collection[K]


def first_free(
    read: Callable[[Collection[K]], Sequence[K]],
    limit: int,
    lock: Callable[[Sequence[K]], Collection[K]],
) -> Free[K]:
    """Return the first of those that ``read`` returns whose locks are free.

    Args:
        read: returns the first ``limit`` ones, except those in its argument. They may repeat.
        lock: takes the locks that are free, and returns those that need another one.
    """
    locked: set[K] = set()
    while True:
        found = read(locked)
        missing = set(lock(found)) - locked
        locked |= missing
        if not missing or len(found) < limit:
            return Free([one for one in found if one not in locked], locked)


_TIMEOUTS = frozenset({1222, 51222})
"""The numbers of errors of SQL Server: a lock was not free in time."""

_PHRASES = ("Lock request time out", "could not be had in time")
"""Texts of the same errors."""

_WITHIN = 2.0
"""Seconds for the search for the holder."""

_HOLDER = sa.text(
    "SELECT TOP 1 s.session_id, s.login_name, COALESCE(s.host_name, N'?'), COALESCE(s.program_name, N'?') "
    "FROM sys.dm_tran_locks AS l JOIN sys.dm_exec_sessions AS s ON s.session_id = l.request_session_id "
    "WHERE l.resource_database_id = DB_ID() AND l.resource_type = N'APPLICATION' AND l.request_status = N'GRANT' "
    "AND CHARINDEX(:name, l.resource_description) > 0"
).bindparams(sa.bindparam("name", type_=sa.Unicode(255)))
"""Who holds a named lock. It needs VIEW SERVER STATE."""

_SHOWN = 32
"""How many characters of the name ``resource_description`` has, in brackets. Source: Microsoft, "sys.dm_tran_locks"."""


def note_timeout(error: sa.exc.DBAPIError, names: Sequence[str]) -> None:
    """Note at an error which of these named locks was not free in time, if it says the place of one."""
    if (found := re.search(r"Lock (\d+) could not be had in time", answers.error_parts(error)[2])) is not None:
        vars(error.orig)["lock_name"] = names[int(found[1])]


def timed_out(read: Callable[[], AbstractContextManager[sa.Connection]], error: Any) -> Locked | None:
    """Return the error for callers, if a lock was not free in time. ``read``: begins a transaction that reads."""
    numbers, _, text = answers.error_parts(error)
    if not (numbers & _TIMEOUTS if numbers else any(phrase in text for phrase in _PHRASES)):
        return None
    name, holder = getattr(getattr(error, "orig", None), "lock_name", None), None
    if name is not None:
        with suppress(sa.exc.SQLAlchemyError), read() as conn:  # few logins may see other sessions
            holder = _holder(conn, name)
    which = f"the lock [{name}]" if name is not None else "the lock of a row or a table"
    who = f"its holder is {holder}" if holder else "a DBA finds its holder in sys.dm_tran_locks"
    found = Locked(f"{LOCKED}: {which}; {who}.")
    found.is_named = name is not None
    return found


def _holder(conn: sa.Connection, name: str) -> str | None:
    answers.give_up_after(conn.connection.driver_connection, _WITHIN)
    row = conn.execute(_HOLDER, {"name": f"[{name[:_SHOWN]}]"}).first()
    # Another lock whose name begins with the same characters may be held by another session.
    doubt = "perhaps " if len(name) > _SHOWN else ""
    return None if row is None else doubt + "session {}, login {}, host {}, program {}".format(*row)
