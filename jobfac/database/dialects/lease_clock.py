"""The lease clock, which does not step.

If leases used the wall clock, setting it forward would end them early, and two workers would execute the same run.

On SQL Server the clock is the server's, as for every stored time. On SQLite all workers are on one machine, whose clock
since boot (CLOCK_BOOTTIME) only goes forward, suspended or not, at the same pace for all processes. A table of one row
stores how far the wall clock was ahead of it. The sum of both is the lease clock, so `lease_until` reads as a time of
day. Every comparison adds the two inside one write transaction, so that all processes use the same row.

- The wall clock was set: the next heartbeat moves the row and every `lease_until` by the same distance, in one
  transaction. No lease becomes longer or shorter.
- The machine was rebooted: the boot id in the row differs, and so does the time of the boot. No worker from before is
  alive, and their leases end. A machine whose clock begins at the same time with each boot, because it has no battery,
  has the same time of the boot; then a lease that reaches further than any of this boot shows it.
- A process that reads another boot id, or none, ends no lease because of that: the time of the boot is the same.
  systemd-nspawn and LXC give each container a boot id of its own, and a unit with `ProcSubset=pid` shows none.

On SQL Server, all leases end at once if the clock is set forward, as by a failover to another machine. Each worker
learns that with its next request and ends its programs, so until then nobody may give their runs away. A process that
ends leases therefore watches the server's clock (``ForwardSteps``). After a step it ends no lease for the time of one.
Nor does it if it had no answer of the server for longer than half of a lease: the others had none either, and they
live. They need a moment to register again and to store how their programs ended, and the first process that is back
must not take them for dead. A process that has just started knows of neither, so it waits as long.
"""

import math
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from jobfac.database.dialects.clock import utcnow

T = TypeVar("T")

UNKNOWN = "unknown"
"""The boot id where the system shows none to this process."""

REBOOT = 5_000
"""The least difference of the times of two boots, in milliseconds. Heartbeats keep the one in the row correct."""

STEP = 500
"""The difference between wall clock and lease clock, in milliseconds, above which the lease clock follows."""

SLOW = 1_000
"""How many milliseconds a request takes at least that may have waited for a silent server."""

MILLISECOND = timedelta(milliseconds=1)

FORMAT = "'%Y-%m-%d %H:%M:%f000'"

ALIVE = "ended = 0"


class lease_now(utcnow):  # noqa: N801 - reads like the SQL function it is
    """The current time of the lease clock, plus ``milliseconds``. On SQLite only inside a write transaction."""

    inherit_cache = True


@compiles(lease_now, "sqlite")
def _sqlite(element: lease_now, compiler: SQLCompiler, **kw: Any) -> str:
    moved = f" + {compiler.process(element.milliseconds, **kw)}" if element.moved else ""
    return f"strftime({FORMAT}, ((SELECT ahead FROM lease_clock) + boot_ms(){moved}) / 1000.0, 'unixepoch')"


def boot_ms() -> int:
    """Milliseconds since the machine was booted. On systems other than Linux: milliseconds of the wall clock."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return time.time_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since the epoch by the wall clock."""
    return time.time_ns() // 1_000_000


@cache
def boot_id() -> str:
    """The unique id of this boot of the machine; ``UNKNOWN`` where the system shows none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return UNKNOWN


def register(connection: sqlite3.Connection) -> None:
    """Register the SQL function ``boot_ms`` on a connection."""
    # The lambda looks the function up at each call, so a test can replace the clock.
    connection.create_function("boot_ms", 0, lambda: boot_ms())


TABLES = {
    "lease_clock": "one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, ahead INTEGER NOT NULL",
    "lease_notice": (
        "worker_id INTEGER PRIMARY KEY, period INTEGER NOT NULL, noticed INTEGER NOT NULL DEFAULT 0, until INTEGER"
    ),
}
"""Tables that exist on SQLite only; ``lease_notice`` explains the second one."""


def ensure(conn: sa.Connection) -> bool:
    """Create the tables and the clock's row for this boot in this write transaction. True: all existed before it."""
    names = ", ".join(f"'{name}'" for name in ("worker_lease", *TABLES))
    known = set(conn.exec_driver_sql(f"SELECT name FROM sqlite_master WHERE name IN ({names})").scalars())
    if "worker_lease" not in known:
        return False  # the schema is not there yet
    for name, columns in TABLES.items():
        if name not in known:
            conn.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")
    booted = conn.exec_driver_sql("SELECT boot, ahead FROM lease_clock").first()
    if booted is not None and _is_this_boot(conn, booted.boot, booted.ahead):
        if booted.boot == UNKNOWN:
            conn.exec_driver_sql("UPDATE lease_clock SET boot = ?", (boot_id(),))
        return known >= TABLES.keys()
    ahead = wall_ms() - boot_ms()
    conn.exec_driver_sql("INSERT OR REPLACE INTO lease_clock (one, boot, ahead) VALUES (1, ?, ?)", (boot_id(), ahead))
    conn.exec_driver_sql("DELETE FROM lease_notice")  # of workers from before the boot, none of whom is alive
    if booted is not None:
        conn.exec_driver_sql(
            f"UPDATE worker_lease SET lease_until = strftime({FORMAT}, ? / 1000.0, 'unixepoch') WHERE {ALIVE}",
            (wall_ms() - 1000,),
        )
    return False


_FURTHER = (
    "SELECT EXISTS (SELECT 1 FROM worker_lease AS l JOIN lease_notice AS n ON n.worker_id = l.worker_id "
    f"WHERE l.{ALIVE} AND l.lease_until > strftime({FORMAT}, (? + boot_ms() + 4 * n.period) / 1000.0, 'unixepoch'))"
)
"""Whether a lease ends in more than twice its length from now. The period of its notice is half of its length."""


def _is_this_boot(conn: sa.Connection, boot: str, ahead: int) -> bool:
    """Whether the clock's row was written since the machine was booted."""
    if UNKNOWN != boot == boot_id():
        return True
    return abs(wall_ms() - boot_ms() - ahead) < REBOOT and not conn.exec_driver_sql(_FURTHER, (ahead,)).scalar_one()


def follow(conn: sa.Connection) -> None:
    """Move the lease clock and every lease by the distance by which the wall clock was set."""
    ahead = conn.exec_driver_sql("SELECT ahead FROM lease_clock").scalar_one()
    now = wall_ms() - boot_ms()
    if abs(now - ahead) > STEP:
        conn.exec_driver_sql(
            f"UPDATE worker_lease SET lease_until = strftime({FORMAT}, lease_until, (? / 1000.0) || ' seconds') "
            f"WHERE {ALIVE}",
            (now - ahead,),
        )
        conn.exec_driver_sql("UPDATE lease_clock SET ahead = ?", (now,))


class ForwardSteps:
    """Whether a server's clock was set forward, or the server was silent, as far as this process can see.

    Any thread may use it.
    """

    def __init__(self, least: float = STEP) -> None:
        """``least``: milliseconds above which a difference is a step."""
        self._least = least
        self._lock = threading.Lock()  # for ``note``: without it one silence could overwrite another
        # The time of the last answer, and when it was asked for. Before the first one the machine's own clock: if the
        # other one is ahead of it, it may just have been set.
        self._seen = (datetime.fromtimestamp(wall_ms() / 1000, UTC).replace(tzinfo=None), boot_ms())
        self._first: int | None = None  # when the first answer came
        self._stepped: int | None = None
        self._slowest = 0.0  # the slowest request since the last answer, in milliseconds; infinite: one has failed
        self._pause = 0.0  # in milliseconds, since the last answer
        self._silences: list[tuple[float, float, float]] = []  # how slow, how long, and until when, in milliseconds

    def watch(self, work: Callable[[], T], waits: float = 0.0) -> T:
        """Call ``work``, which sends requests. If one fails or takes long, the server may have been silent meanwhile,
        and since the last answer. ``waits``: seconds for which the server waits on purpose before it answers."""
        began = boot_ms()
        try:
            done = work()
        except sa.exc.SQLAlchemyError:
            self._slowest = math.inf
            raise
        finally:
            self._slowest = max(self._slowest, boot_ms() - began - 1000 * waits)
        if self._first is None:
            self._first = boot_ms()
        return done

    def refused(self, pause: float) -> None:
        """Note that the server refuses logins. Each process tries again after up to ``pause`` seconds."""
        self._pause = 1000 * pause

    def note(self, now: datetime, sent: int, since: int | None = None) -> None:
        """Compare an answer with the last one. ``now``: its time in UTC; ``sent``: ``boot_ms`` before asking.

        A slow answer is no step: the time from the last request to this answer is the longest that can have passed.
        ``since``: when the transaction began whose requests before this one have been answered.
        """
        answered, now = boot_ms(), now.replace(tzinfo=None)
        with self._lock:
            before, self._seen = self._seen, (now, sent)
            if (now - before[0]) / MILLISECOND - (answered - before[1]) > self._least:
                self._stepped = answered
            slow = max(self._slowest, answered - (sent if since is None else since))
            new = (slow, answered - before[1], answered + self._pause)
            self._slowest = self._pause = 0.0
            if self._first is None:
                self._first = answered
            if slow > SLOW:
                # What was shorter and over before decides nothing any more.
                others = [one for one in self._silences if any(a > b for a, b in zip(one, new, strict=True))]
                self._silences = [*others, new]

    def is_set_forward(self, within: timedelta) -> bool:
        """Whether the clock was set forward so recently."""
        return self._stepped is not None and boot_ms() - self._stepped <= within / MILLISECOND

    def is_over(self, lease: timedelta) -> bool:
        """Whether a lease of this length that was valid before the last step, or silence, has ended by now."""
        if self._first is None or self.is_set_forward(lease):
            return False
        now, length = boot_ms(), lease / MILLISECOND
        # A request that took less than a quarter of it cannot have waited out enough: the process was busy otherwise.
        ends = [until for slow, silence, until in self._silences if slow > length / 4 and silence > length / 2]
        return all(now - end > length for end in (self._first, *ends))


@cache
def forward_steps(url: sa.URL) -> ForwardSteps:
    """What this process knows of the steps of a server's clock."""
    return ForwardSteps()
