"""Notice before expiry (SQLite): a lease may be ended only some time after somebody announced it in the database.

SQLite has one write lock. If another process holds it for longer than a lease, nobody can renew a lease, but nobody can
end one either. Without notice, a worker could not tell what comes next when the lock is free: its own heartbeat, or an
expiry that starts its runs elsewhere. So it had to kill its programs, although nothing was wrong with it.

A worker that asks for notice has a row in ``lease_notice``, a table that exists on SQLite only (``lease_clock`` makes
it). To end its lease takes three write transactions: the first sets ``noticed``; the second sets ``until``, which lies
``period`` milliseconds ahead; the third ends the lease, not before ``until``. A heartbeat in time withdraws the notice.

Reading never waits in SQLite's write-ahead mode, so a worker whose heartbeat waits can read its row. If it is not
noticed there, then the first transaction commits after the moment of reading. The second one begins later, because
write transactions exclude each other. So nobody ends the lease within ``period`` from the moment of reading. (With two
transactions this would not hold: the first could compute ``until``, freeze, and commit much later.)

A process that has itself waited for the lock, or held it, gives no notice for a while: the others' heartbeats waited.

Heartbeats of other workers give notice early, so a dead worker is expired as soon as its lease ends, as without notice.

``until`` counts milliseconds since boot. No setting of the wall clock changes them.
"""

import time
from collections import deque
from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.dialects.lease_clock import FORMAT


def require(conn: sa.Connection, worker_id: int, period: int) -> None:
    """From now on, this worker's lease may be ended only ``period`` milliseconds after notice."""
    conn.exec_driver_sql(
        "DELETE FROM lease_notice WHERE worker_id NOT IN (SELECT worker_id FROM worker_lease WHERE ended = 0)"
    )
    conn.exec_driver_sql("INSERT OR REPLACE INTO lease_notice (worker_id, period) VALUES (?, ?)", (worker_id, period))


_STEP = "UPDATE lease_notice SET until = CASE noticed WHEN 0 THEN NULL ELSE boot_ms() + period END, noticed = 1"
"""The first or the second step, whichever comes next. SQLite computes ``until`` from the old value of ``noticed``."""


IS_PROMISED = (
    "EXISTS (SELECT 1 FROM lease_notice AS n WHERE n.worker_id = worker.id "
    "AND (n.until IS NULL OR n.until > boot_ms()))"
)
"""Condition on a worker: nobody could have ended its lease, although it may have run out."""

LONG = 8
"""A lease that ran out more periods ago gets notice even from a process that has waited for the lock."""


PAUSE, LONGEST_PAUSE = 0.12, 1.0
"""Seconds between two write transactions of one series. A waiting writer polls every 0.1 s."""

STRETCH = 0.3
"""Seconds of long write transactions of one process after which other processes get their turn."""


class Contention:
    """How long the transactions of this process lately waited for the lock, and how long they wrote. For any thread.

    Attributes:
        pause: seconds until the next long transaction of a series. As long as the last one: only one of many waiting
            writers gets into a short pause.
    """

    def __init__(self) -> None:
        self.pause = PAUSE
        self._waits: deque[tuple[float, float]] = deque(maxlen=100)  # when it ended, and how long it was
        self._writes: deque[tuple[float, float]] = deque(maxlen=100)
        self._stretch = 0.0  # seconds of long writes since the last rest

    def waited(self, began: float) -> float:
        """A transaction has waited since ``began`` (monotonic). Returns the time."""
        ended = time.monotonic()
        if ended - began > 0.05:
            self._waits.append((ended, ended - began))
        return ended

    def wrote(self, began: float) -> None:
        """A transaction has written since ``began`` (monotonic)."""
        ended = time.monotonic()
        self.pause = min(max(PAUSE, ended - began), LONGEST_PAUSE)
        if ended - began > 0.05:
            self._writes.append((ended, ended - began))
            self._stretch += ended - began

    def rest(self, began: float) -> None:
        """It is a thread's turn, which it has awaited since ``began`` (monotonic): wait if others wrote for a stretch.

        One after another, the threads of a process leave no pause.
        """
        self.waited(began)
        if self._stretch > STRETCH:
            time.sleep(PAUSE)
            self._stretch = 0.0

    def explains(self, period: float, now: float) -> bool:
        """Whether the heartbeats of others may have waited in vain within the last period (seconds).

        They may have if a transaction took a quarter of it, or if all that took long took half of it: a series of them
        leaves short pauses only.
        """
        waits, writes = (
            [took for at, took in tuple(those) if at > now - period] for those in (self._waits, self._writes)
        )
        return sum(writes) >= period / 2 or any(took >= period / 4 for took in (*waits, *writes))


contention = Contention()


def withdraw(conn: sa.Connection, worker_id: int) -> bool:
    """Withdraw a notice that is not over. True: the worker's lease could not have been ended up to now."""
    still = "until IS NULL OR until > boot_ms()"
    text = f"UPDATE lease_notice SET noticed = 0, until = NULL WHERE worker_id = ? AND ({still})"
    return conn.exec_driver_sql(text, (worker_id,)).rowcount == 1


def give_early(conn: sa.Connection) -> None:
    """Take the next step of a notice to each worker of whose lease less than one and a half periods is left."""
    longest = conn.exec_driver_sql("SELECT max(period) FROM lease_notice").scalar()
    if longest is None or contention.explains(longest / 1000, time.monotonic()):
        return
    early = "((SELECT ahead FROM lease_clock) + boot_ms() + period * 3 / 2) / 1000.0"
    conn.exec_driver_sql(
        f"{_STEP} WHERE until IS NULL AND EXISTS (SELECT 1 FROM worker_lease AS l WHERE l.ended = 0 "
        f"AND l.worker_id = lease_notice.worker_id AND l.lease_until <= strftime({FORMAT}, {early}, 'unixepoch'))"
    )


def endable(conn: sa.Connection, worker_ids: Sequence[int]) -> list[int]:
    """Those of these workers whose lease may be ended now. For the others it takes the next step of a notice."""
    found = []
    for worker_id in worker_ids:
        row = conn.exec_driver_sql(
            "SELECT n.period, n.until IS NOT NULL AND n.until <= boot_ms() AS over, "
            f"l.lease_until < strftime({FORMAT}, "
            f"((SELECT ahead FROM lease_clock) + boot_ms() - {LONG} * n.period) / 1000.0, 'unixepoch') AS long "
            "FROM lease_notice AS n JOIN worker_lease AS l ON l.worker_id = n.worker_id WHERE n.worker_id = ?",
            (worker_id,),
        ).first()
        if row is None or row.over:
            found.append(worker_id)
        elif row.long or not contention.explains(row.period / 1000, time.monotonic()):
            conn.exec_driver_sql(f"{_STEP} WHERE worker_id = ? AND until IS NULL", (worker_id,))
    return found


def promised(conn: sa.Connection, worker_id: int) -> float | None:
    """Seconds from now within which no transaction can end the worker's lease; None: there is no such promise.

    Reads without a lock.
    """
    row = conn.exec_driver_sql(
        "SELECT n.period FROM lease_notice AS n JOIN worker_lease AS l ON l.worker_id = n.worker_id "
        "WHERE n.worker_id = ? AND n.noticed = 0 AND l.ended = 0",
        (worker_id,),
    ).first()
    return None if row is None else row[0] / 1000
