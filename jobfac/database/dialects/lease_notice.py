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

A process that has itself waited for the lock gives no notice for a while: the others' heartbeats waited, too.

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


class Contention:
    """When this process last waited long for the lock. Any thread may write; the latest wait counts.

    ``waits``: the moment at which a wait ended and how long it was, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.waits: deque[tuple[float, float]] = deque(maxlen=100)

    def note(self, began: float, ended: float) -> None:
        """A transaction waited for the lock."""
        if ended - began > 0.05:
            self.waits.append((ended, ended - began))

    def explains(self, period: float, now: float) -> bool:
        """Whether there was a wait of a quarter of a period or more within the last period (seconds)."""
        return any(at > now - period and waited >= period / 4 for at, waited in tuple(self.waits))


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
