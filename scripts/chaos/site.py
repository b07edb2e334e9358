"""The fleet of a chaos run: replaces ended roles, submits runs, and causes faults."""

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from jobfac.cli.common import UNREACHABLE
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.errors import NotFound, Unreachable
from jobfac.store import runs, sequences
from jobfac.store.runs import StartRequest
from scripts.chaos.clients import CONNECTIONS, PATIENCE, Clients
from scripts.chaos.clock import STEPS, Clock
from scripts.chaos.dba import Excuses
from scripts.chaos.engines import Cut
from scripts.chaos.machine import fill, limit_files
from tests.support.factory import SHORT, Factory, Role

PROGRAM = Path(__file__).with_name("program.py")
LEASE = float(SHORT["JOBFAC_LEASE"])
"""Seconds: the lease of the workers, unless the command says otherwise."""
BATCH = 12
BACKLOG = 150
"""No runs are submitted while more than this are unfinished."""

EXPECTED = (None, 0, UNREACHABLE, -signal.SIGTERM, -signal.SIGKILL)
"""Exit codes of roles that a fault explains: terminated (perhaps before they handled the signal), killed, or started
without a database. None: still running."""

FAULTS = {
    "kill worker": 30,
    "freeze worker": 20,
    "kill scheduler": 10,
    "kill guardian": 8,
    "outage": 12,
    "drain": 10,
    "few files": 6,
    "full disk": 4,
    "restart all": 2,
    "clock step": 8,
    "slow clients": 6,
    "kill api": 3,
}
"""The faults with their weights."""


def jobs(journal: Path) -> dict[str, Any]:
    """Definitions of jobs: short and long, failing, retried, with a child that escapes, limited, not restartable, and
    one that starts after each end of another."""

    def job(seconds: float, code: int = 0, *words: str, **more: Any) -> dict[str, Any]:
        command = [sys.executable, "-I", "-S", str(PROGRAM), str(seconds), str(code), *words]
        return {"command": command, "environment": {"CHAOS_JOURNAL": str(journal)}, "grace": "1s", **more}

    return {
        "quick": job(0),
        "short": job(0.3),
        "long": job(2.5),
        "fails": job(0.1, 3),
        "retried": job(0.2, 4, retry={"attempts": 3, "delay": "300ms"}),
        "escapes": job(0.4, 0, "child"),
        "alone": job(0.3, concurrency={"limit": 1, "key": "alone"}),
        "once": job(0.8, restartable=False),
        "follows": job(0, schedules=[{"after": {"job": "short", "on": "finished"}}]),
        "chain": {"steps": [{"name": "a", "jobs": ["quick", "short"]}, {"name": "b", "jobs": ["short"]}]},
    }


@dataclass
class Site:
    """The fleet. ``deaths``: ends of roles that no fault explains; ``frozen``: when each freeze ends; ``disk``: the
    small disk of the spool, if there is one; ``lease``: that of the workers, in seconds; ``more``: further jobs that
    are submitted.
    """

    factory: Factory
    db: Database
    chance: random.Random
    cut: Cut
    excuses: Excuses
    workers: int
    schedulers: int
    disk: Path | None
    clock: Clock
    port: int
    clients: Clients
    lease: float = LEASE
    more: tuple[str, ...] = ()
    names: int = 0
    done: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)
    frozen: list[tuple[float, Role]] = field(default_factory=list)
    fleet: dict[str, list[Role]] = field(default_factory=lambda: {"worker": [], "scheduler": [], "api": []})

    def __post_init__(self) -> None:
        names = ("JOBFAC_LEASE", "JOBFAC_LEASE_MARGIN", "JOBFAC_HEARTBEAT")
        stretch = self.lease / LEASE
        self.factory.environment |= {name: f"{float(SHORT[name]) * stretch:g}" for name in names}

    def replace_ended(self) -> None:
        """Start a new process for each role that has ended."""
        for role, wanted in (("worker", self.workers), ("scheduler", self.schedulers), ("api", 1)):
            for process in self.fleet[role]:
                self.check_end(process)
            living = [process for process in self.fleet[role] if process.returncode is None]
            while len(living) < wanted:
                living.append(self._begin(role))
            self.fleet[role] = living

    def _begin(self, role: str) -> Role:
        """Start a process of a role."""
        words = [role]
        if role == "worker":
            self.names += 1
            words += ["--name", f"w{self.names}", "--slots", "4"]
        elif role == "api":
            words += ["--port", str(self.port)]
        return self.factory.role(*words, JOBFAC_API_CONNECTIONS=str(CONNECTIONS), **self.clock.environment)

    @property
    def everyone(self) -> list[Role]:
        """All processes of the fleet."""
        return [process for role in self.fleet.values() for process in role]

    def check_end(self, process: Role) -> None:
        """Record the end of a role if no fault explains it."""
        if process.poll() not in EXPECTED:
            self.deaths.append(f"a role ended by itself with {process.returncode}: {process.args}")

    def terminate(self) -> None:
        """End every role and wait for it."""
        for process in self.everyone:
            process.terminate()
        for process in self.everyone:
            process.wait(60)
            self.check_end(process)

    def thaw(self, everyone: bool = False) -> None:
        """Continue the processes whose freeze is over."""
        now = time.monotonic()
        self.clock.restore(force=everyone)
        for until, process in list(self.frozen):
            if everyone or until <= now:
                self.frozen.remove((until, process))
                self.excuses.note(0.0)
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)

    def submit(self, chance: random.Random) -> None:
        """Start some runs, and perhaps stop one. The backlog is bounded, since all of it must end after the faults.

        ``chance`` is not that of the faults, whose plan must not depend on the speed of two threads.
        """
        if self._unfinished() > BACKLOG:
            return
        names = ["quick", "short", "long", "fails", "retried", "escapes", "alone", "once", "chain", *self.more]
        for _ in range(BATCH):
            # With a key, a start can be repeated safely if its answer is lost.
            job = chance.choice(names)
            # A payload becomes a file, which needs room on the disk.
            payload = None if job == "chain" else "x" * chance.choice([10, 5000])
            request = StartRequest(job, "chaos", payload=payload, key=f"{chance.random():.12f}")
            self._transact(partial(runs.start, request=request))
        if chance.random() < 0.3:
            self._transact(partial(self._stop_one, chance=chance))

    def _unfinished(self) -> int:
        count = sa.select(sa.func.count()).select_from(run).where(run.c.ended_at.is_(None))
        try:
            return int(self.db.query(lambda conn: conn.execute(count).scalar_one(), retry_for=5.0))
        except Unreachable:
            return BACKLOG + 1

    def _stop_one(self, conn: sa.Connection, chance: random.Random) -> None:
        active = conn.execute(sa.select(run.c.id).where(run.c.ended_at.is_(None)).limit(50)).scalars().all()
        if active:
            sequences.stop(conn, chance.choice(active), now=chance.random() < 0.5, by="chaos")
            self.done["stops"] += 1

    def _transact(self, work: Callable[[sa.Connection], Any]) -> None:
        try:
            self.db.transact(work, retry_for=60.0)
        except (Unreachable, NotFound):
            self.done["unanswered"] += 1

    def strike(self) -> None:
        """Cause one fault."""
        impossible = {"full disk": self.disk is None, "clock step": not self.clock.is_there}
        faults = {what: weight for what, weight in FAULTS.items() if not impossible.get(what)}
        what = self.chance.choices([*faults], [*faults.values()])[0]
        victim = self.chance.choice(self.fleet["worker"])
        self.done[what] += 1
        if what == "kill worker":
            victim.kill()
        elif what == "freeze worker":
            seconds = self.chance.uniform(0.3, 2.2) * self.lease
            self.excuses.note(seconds + 2.0)  # thawed between two faults
            victim.send_signal(signal.SIGSTOP)
            self.frozen.append((time.monotonic() + seconds, victim))
        elif what == "kill scheduler":
            self.chance.choice(self.fleet["scheduler"]).kill()
        elif what == "kill guardian":
            self._kill_guardian(victim)
        elif what == "outage":
            # In a thread, because a process that was frozen while it held the lock must be thawed meanwhile.
            seconds = self.chance.choice([0.3, 1.0, self.lease * 0.5, self.lease * 1.5])
            self.excuses.note(seconds)
            threading.Thread(target=self.cut, args=(seconds,), daemon=True).start()
        elif what == "drain":
            victim.terminate()
        elif what == "clock step":
            self.clock.step(self.chance.choice(STEPS), self.chance.uniform(1.0, 3 * self.lease))
        elif what == "slow clients":
            api = self.fleet["api"][0]
            self.clients.press(self.chance.uniform(2.0, PATIENCE), lambda: api.poll() is None)
        elif what == "kill api":
            self.fleet["api"][0].kill()
        elif what in ("few files", "full disk"):
            self._starve(what, victim)
        else:
            for process in self.everyone:
                process.kill()

    def _starve(self, what: str, victim: Role) -> None:
        """Take room or descriptors away for a while, in a thread."""
        seconds = self.chance.uniform(0.5, self.lease)
        self.excuses.note(seconds)
        if what == "few files" and self._has_started(victim):
            threading.Thread(target=limit_files, args=(victim.pid, seconds), daemon=True).start()
        elif what == "full disk" and self.disk is not None:
            threading.Thread(target=fill, args=(self.disk, seconds), daemon=True).start()

    def _has_started(self, worker: Role) -> bool:
        """Whether the worker has registered: without files no role can begin, which is no fault of it."""
        log = self.factory.folder / f"worker-{self.factory.roles.index(worker)}.log"
        return '"worker_started"' in log.read_text(errors="replace")

    def _kill_guardian(self, worker: Role) -> None:
        """Kill the guardian of a running worker only: losing both at once is a documented limit of the guarantees."""
        if any(process is worker for _, process in self.frozen) or worker.poll() is not None:
            return
        with suppress(psutil.Error):  # the worker or a child may end meanwhile
            for child in psutil.Process(worker.pid).children():
                if any(word.endswith("guardian.py") for word in child.cmdline()):
                    child.kill()
