"""A DBA at work during a chaos run: open transactions, rebuilt indexes, killed sessions.

Each act lasts up to ``longest`` seconds. At its end nothing of it is left. No worker may fence itself because of him.
"""

import contextlib
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from jobfac.database.dialects.mssql import Mssql

LONGEST = 40.0
"""Seconds for which an act lasts at most."""

ROWS = ("worker", "run", "attempt", "schedule", "job", "notification", "daily")
NAMES = ("jobfac:key:alone", "jobfac:definitions", "jobfac:daily")
INDEXES = (
    "ix_run_claim ON jobfac.run",
    "ix_run_held ON jobfac.run",
    "pk_queue ON jobfac.queue",
    "pk_job ON jobfac.job",
)

Act = Callable[[sa.Connection], object]


class Dba:
    """Acts in a thread of its own until it is closed. ``done``: how many acts of each kind; written by its thread."""

    def __init__(self, url: str, kill_sessions: Callable[[], object] | None, seed: float, longest: float) -> None:
        """
        Args:
            kill_sessions: ends every session of the server; None: the engine has no sessions.
            longest: seconds of the longest act.
        """
        self.done: Counter[str] = Counter()
        self._url = sa.make_url(url)
        self._kill_sessions = kill_sessions
        self._chance = random.Random(seed)
        self._longest = max(1.0, min(longest, LONGEST))
        self._over = threading.Event()
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._act_until_closed, name="dba", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> list[str]:
        """End the current act, and wait for its end. Returns what went wrong with the DBA himself."""
        self._over.set()
        self._thread.join(60.0)
        return self._wrong

    def _act_until_closed(self) -> None:
        try:
            self._act_forever()
        except Exception as error:  # a DBA who does nothing would be a check that cannot fail
            self._wrong.append(f"the DBA ended before his time: {error!r}")

    def _act_forever(self) -> None:
        act = self._sqlite if self._url.get_backend_name() == "sqlite" else self._mssql
        while not self._over.wait(self._chance.uniform(0.2, 2.0)):
            with contextlib.suppress(sa.exc.SQLAlchemyError, sqlite3.Error):  # an outage, or a lock he did not get
                act()

    def _linger(self) -> None:
        """Have a transaction open for a while: mostly a short one."""
        self._over.wait(self._chance.choice([0.05, 0.2, 1.0]) * self._chance.uniform(1.0, self._longest))

    def _sqlite(self) -> None:
        what = self._chance.choices(["write lock", "long read", "checkpoint"], [5, 2, 1])[0]
        with contextlib.closing(sqlite3.connect(str(self._url.database), isolation_level=None, timeout=20)) as conn:
            if what == "checkpoint":
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            else:
                conn.execute("BEGIN IMMEDIATE" if what == "write lock" else "BEGIN")
                conn.execute("SELECT count(*) FROM run").fetchall()
                self._linger()
                conn.execute("ROLLBACK")
        self.done[f"dba: {what}"] += 1

    def _mssql(self) -> None:
        kinds = {"rows": 5, "named lock": 5, "rebuild": 2, "killed sessions": 1}
        what = self._chance.choices([*kinds], [*kinds.values()])[0]
        if what == "killed sessions":
            if self._kill_sessions is not None:
                self._kill_sessions()
        else:
            with self._session() as conn:
                conn.exec_driver_sql(self._statement(what))
                self._linger()
        self.done[f"dba: {what}"] += 1

    def _statement(self, what: str) -> str:
        chance = self._chance
        if what == "rows":
            some = chance.choice(["TOP (1)", "TOP (20)", ""])
            return f"SELECT {some} * FROM jobfac.{chance.choice(ROWS)} WITH (UPDLOCK, ROWLOCK)"
        if what == "rebuild":
            return f"ALTER INDEX {chance.choice(INDEXES)} REBUILD"
        return f"EXEC sp_getapplock N'{chance.choice(NAMES)}', N'Exclusive', N'Transaction', 5000"

    @contextmanager
    def _session(self) -> Iterator[sa.Connection]:
        engine = Mssql().engine(self._url, lock_wait=5.0)
        try:
            with engine.connect() as conn:
                yield conn
                conn.rollback()
        finally:
            engine.dispose()


TICK = 1e-6
"""Seconds: times in logs are truncated to it."""


class Excuses:
    """Times in which a worker may lose its lease without the DBA: it was frozen, or the database was away."""

    def __init__(self, margin: float, true_times: Callable[[float], Iterable[float]] = lambda at: (at,)) -> None:
        """
        Args:
            margin: seconds after a reason ended, in which its effect may still show.
            true_times: the true times at which a role could have read a time on its clock.
        """
        self._margin = margin
        self._true_times = true_times
        self._known: list[tuple[float, float]] = []

    def note(self, seconds: float) -> None:
        """From now on there is a reason, for so many seconds."""
        now = time.time()
        self._known.append((now, now + seconds + self._margin))

    def covers(self, moment: float) -> bool:
        """Whether there was a reason when a role read this time, in seconds since the epoch."""
        return any(begin - TICK <= at <= end for at in self._true_times(moment) for begin, end in self._known)
