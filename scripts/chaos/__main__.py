"""Kill, freeze and cut at random while hundreds of runs go through the factory; then check what they say of themselves.

    python -m scripts.chaos [--minutes 10] [--seed N] [--engine sqlite|mssql|mssqlpython] [--workers 4] [--json]

Checked, from the programs' own journals and from the database: every run reached a final state; no two executions of a
run were alive at once; no program lived on after its run was given back; every stored outcome is what the program did;
a concurrency limit of one held; no worker and no scheduler ended that was not told to. Exits 0 only if nothing was
violated. The same seed makes the same plan of faults.
"""

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.cli.common import UNREACHABLE
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run
from jobfac.errors import NotFound, Unreachable
from jobfac.states import FINAL
from jobfac.store import runs, schedules, sequences
from jobfac.store.runs import StartRequest
from tests.support.factory import SHORT, Factory, wait_for

PROGRAM = Path(__file__).with_name("program.py")
LEASE = float(SHORT["JOBFAC_LEASE"])
MARGIN = 0.25
"""Seconds by which the journal's clock and the database's moment of giving back may differ."""

SETTLE = 180.0
"""Seconds after the last fault in which everything must come to its end."""

BATCH = 12
BACKLOG = 150
"""Unfinished runs beyond which no more are submitted for the moment."""


def jobs(journal: Path) -> dict[str, Any]:
    """The jobs that run: short and long, failing, retried, with a child that escapes, limited, not restartable."""

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
        "chain": {"steps": [{"name": "a", "jobs": ["quick", "short"]}, {"name": "b", "jobs": ["short"]}]},
    }


@dataclass
class Site:
    """The fleet under fire."""

    factory: Factory
    db: Database
    chance: random.Random
    cut: Callable[[float], None]  # make the database go away for so many seconds
    workers: int
    schedulers: int
    names: int = 0
    done: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)  # of roles, by no fault of ours
    frozen: list[tuple[float, "subprocess.Popen[bytes]"]] = field(default_factory=list)
    fleet: dict[str, list["subprocess.Popen[bytes]"]] = field(default_factory=lambda: {"worker": [], "scheduler": []})

    def man(self) -> None:
        """Replace whoever is gone."""
        for role, wanted in (("worker", self.workers), ("scheduler", self.schedulers)):
            for process in self.fleet[role]:
                self.look_after(process)
            living = [process for process in self.fleet[role] if process.returncode is None]
            while len(living) < wanted:
                self.names += 1
                words = ["worker", "--name", f"w{self.names}", "--slots", "4"] if role == "worker" else ["scheduler"]
                living.append(self.factory.role(*words))
            self.fleet[role] = living

    def look_after(self, process: "subprocess.Popen[bytes]") -> None:
        """Note an end by none of these: told to leave (perhaps too early to hear), killed, begun without a database."""
        if process.poll() not in (None, 0, UNREACHABLE, -signal.SIGTERM, -signal.SIGKILL):
            self.deaths.append(f"a role ended by itself with {process.returncode}: {process.args}")

    def thaw(self, everyone: bool = False) -> None:
        """Let those go on whose time in the ice is over."""
        now = time.monotonic()
        for until, process in list(self.frozen):
            if everyone or until <= now:
                self.frozen.remove((until, process))
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)

    def submit(self) -> None:
        """Start some runs, and ask for the stop of one. What is unfinished is bounded: it must all end at the end."""
        if self._unfinished() > BACKLOG:
            return
        names = ["quick", "short", "long", "fails", "retried", "escapes", "alone", "once", "chain"]
        for _ in range(BATCH):
            job = self.chance.choice(names)
            key = f"{self.chance.random():.12f}"  # an answer may be lost: with a key it can be asked for again
            self._ask(lambda conn, job=job, key=key: runs.start(conn, StartRequest(job, "chaos", key=key)))
        if self.chance.random() < 0.3:
            self._ask(self._stop_one)

    def _unfinished(self) -> int:
        count = sa.select(sa.func.count()).select_from(run).where(run.c.ended_at.is_(None))
        try:
            return self.db.query(lambda conn: conn.execute(count).scalar_one(), retry_for=5.0)
        except Unreachable:
            return BACKLOG + 1

    def _stop_one(self, conn: sa.Connection) -> None:
        active = conn.execute(sa.select(run.c.id).where(run.c.ended_at.is_(None)).limit(50)).scalars().all()
        if active:
            sequences.stop(conn, self.chance.choice(active), now=self.chance.random() < 0.5, by="chaos")
            self.done["stops"] += 1

    def _ask(self, work: Callable[[sa.Connection], Any]) -> None:
        try:
            self.db.transact(work, retry_for=60.0)
        except (Unreachable, NotFound):
            self.done["unanswered"] += 1

    def strike(self) -> None:
        """One fault."""
        what = self.chance.choices(
            ["kill worker", "freeze worker", "kill scheduler", "kill guardian", "outage", "drain", "restart all"],
            [30, 20, 10, 8, 12, 10, 2],
        )[0]
        victim = self.chance.choice(self.fleet["worker"])
        self.done[what] += 1
        if what == "kill worker":
            victim.kill()
        elif what == "freeze worker":
            victim.send_signal(signal.SIGSTOP)
            self.frozen.append((time.monotonic() + self.chance.uniform(0.3, 2.2) * LEASE, victim))
        elif what == "kill scheduler":
            self.chance.choice(self.fleet["scheduler"]).kill()
        elif what == "kill guardian":
            self._kill_guardian(victim)
        elif what == "outage":
            # Beside the loop: whoever was frozen with the lock in its hand must be thawed meanwhile.
            seconds = self.chance.choice([0.3, 1.0, LEASE * 0.5, LEASE * 1.5])
            threading.Thread(target=self.cut, args=(seconds,), daemon=True).start()
        elif what == "drain":
            victim.terminate()
        else:
            for process in [*self.fleet["worker"], *self.fleet["scheduler"]]:
                process.kill()

    def _kill_guardian(self, worker: "subprocess.Popen[bytes]") -> None:
        """Only of a worker that runs: losing both at once is beyond what is promised, and documented."""
        if any(process is worker for _, process in self.frozen) or worker.poll() is not None:
            return
        with suppress(psutil.Error):  # a child, or the worker itself, may end while it is looked at
            for child in psutil.Process(worker.pid).children():
                if any(word.endswith("guardian.py") for word in child.cmdline()):
                    child.kill()


# The database, and how it goes away


@contextmanager
def sqlite_site(folder: Path) -> Iterator[tuple[str, Callable[[float], None]]]:
    """A file; an outage is somebody who holds its lock."""
    path = folder / "jobfac.db"

    def cut(seconds: float) -> None:
        other = sqlite3.connect(path, isolation_level=None, timeout=60)
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
        other.close()

    yield f"sqlite:///{path}", cut


@contextmanager
def mssql_site(driver: str, seed: int) -> Iterator[tuple[str, Callable[[float], None]]]:
    """The TDS test server; besides outages there are deadlock victims and answers lost around commits all the time."""
    from tests.tds_server import harness

    with harness.running() as server, server.database("chaos") as name:
        url = harness.url(server.port, driver, name).render_as_string(hide_password=False)
        db = Database(url)
        db.upgrade()
        db.close()
        server.faults(
            "error 1205 chance 0.002", "drop before commit chance 0.001",
            "drop after commit chance 0.001", seed=seed,
        )  # fmt: skip

        def cut(seconds: float) -> None:
            server.command(failover=seconds)
            time.sleep(seconds)

        yield url, cut


# The check


@dataclass
class Told:
    """What one execution said: times are seconds since the epoch."""

    start: float
    last: float
    code: int | None
    overlap: bool


def journal_of(folder: Path) -> dict[tuple[int, int], Told]:
    """The journals by run and attempt."""
    found = {}
    for path in folder.glob("*.log"):
        lines = [line.split() for line in path.read_text().splitlines()]
        words = {word: (float(at), int(value)) for word, at, value in lines}
        if "start" not in words:
            continue
        number, count = map(int, path.stem.split("-"))
        last = max(float(at) for _, at, _ in lines)
        code = words["end"][1] if "end" in words else None
        found[number, count] = Told(words["start"][0], last, code, "overlap" in words)
    return found


def violations(db: Database, journal: dict[tuple[int, int], Told]) -> list[str]:
    """Everything that must not be."""
    with db.read() as conn:
        found = conn.execute(sa.select(run)).mappings().all()
        executions = {(row["run_id"], row["number"]): row for row in conn.execute(sa.select(attempt)).mappings()}
    open_ = Counter(row["state"] for row in found if row["state"] not in FINAL)
    wrong = [f"{number} runs are still {state}" for state, number in open_.items()]
    wrong += [f"run {key[0]}: attempt {key[1]} ran beside another" for key, told in journal.items() if told.overlap]
    for key, row in executions.items():
        told = journal.get(key)
        if told is not None and row["ended_at"] and told.last > row["ended_at"].timestamp() + MARGIN:
            wrong.append(f"run {key[0]}: attempt {key[1]} lived on after it was {row['state']}")
        if row["exit_code"] is not None and (told is None or told.code != row["exit_code"]):
            wrong.append(f"run {key[0]}: attempt {key[1]} is stored with exit code {row['exit_code']}, it said {told}")
    wrong += [
        f"run {key[0]}: attempt {key[1]} ran, and the database knows nothing of it"
        for key in journal.keys() - executions
    ]
    wrong += _too_many(found, journal)
    return wrong


def _too_many(found: Any, journal: dict[tuple[int, int], Told]) -> list[str]:
    """Executions under the limit of one that were alive together."""
    alone = {row["id"] for row in found if row["concurrency_key"] == "alone"}
    spans = sorted((told.start, told.last, key[0]) for key, told in journal.items() if key[0] in alone)
    return [
        f"runs {one[2]} and {two[2]} of the key 'alone' ran together"
        for one, two in pairwise(spans)
        if one[1] > two[0] and one[2] != two[2]
    ]


def chaos(words: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run; the summary."""
    journal = folder / "journal"
    journal.mkdir()
    site_of = sqlite_site(folder) if words.engine == "sqlite" else mssql_site(_driver(words.engine), words.seed)
    with site_of as (url, cut), Factory(url, folder) as factory:
        db = Database(url)
        db.upgrade()
        wanted = d.from_data({"jobs": jobs(journal)}).jobs
        plan = d.plan({}, {name: d.canonical(job) for name, job in wanted.items()}, prune=False)
        db.transact(schedules.apply, plan, wanted, "chaos")
        site = Site(factory, db, random.Random(words.seed), cut, words.workers, words.schedulers)
        site.man()
        submitting = threading.Event()
        submitter = threading.Thread(target=_submit, args=(site, submitting), daemon=True)
        submitter.start()
        end = time.monotonic() + words.minutes * 60
        while time.monotonic() < end:
            time.sleep(site.chance.uniform(0.2, 1.6))
            site.thaw()
            site.strike()
            site.man()
        submitting.set()
        # First: who was frozen with locks in its hand keeps the submitter waiting, on SQL Server for as long as it is.
        site.thaw(everyone=True)
        submitter.join()
        site.man()
        settled = _settled(db)
        wrong = [] if settled else [f"not everything ended within {SETTLE:.0f} s after the last fault"]
        for process in [*site.fleet["worker"], *site.fleet["scheduler"]]:
            process.terminate()
        for process in [*site.fleet["worker"], *site.fleet["scheduler"]]:
            process.wait(60)
            site.look_after(process)
        wrong += site.deaths
        told = journal_of(journal)
        wrong += violations(db, told)
        total = db.query(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one())
        db.close()
    return {"seed": words.seed, "engine": words.engine, "minutes": words.minutes, "runs": total,
            "executions": len(told), "faults": dict(sorted(site.done.items())), "violations": wrong}  # fmt: skip


def _driver(engine: str) -> str:
    return {"mssql": "pyodbc"}.get(engine, engine)


def _submit(site: Site, ended: threading.Event) -> None:
    chance = random.Random(site.chance.random())
    while not ended.wait(chance.uniform(0.3, 1.2)):
        site.submit()


def _settled(db: Database) -> bool:
    def over() -> bool:
        try:
            return not db.query(lambda conn: conn.execute(sa.select(run.c.id).where(run.c.ended_at.is_(None))).first())
        except Unreachable:
            return False

    try:
        return bool(wait_for(over, "everything ended", SETTLE))
    except AssertionError:
        return False


def main() -> int:
    """Run, print, and say whether anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--engine", choices=["sqlite", "mssql", "mssqlpython"], default="sqlite")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--schedulers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="a new folder for database, journals and logs")
    words = parser.parse_args()
    print(f"seed {words.seed}", file=sys.stderr)
    if words.keep:
        words.keep.mkdir(parents=True)
        summary = chaos(words, words.keep)
    else:
        with tempfile.TemporaryDirectory(prefix="jobfac-chaos-", ignore_cleanup_errors=True) as folder:
            summary = chaos(words, Path(folder))
    print(json.dumps(summary, indent=None if words.json else 2))
    return 1 if summary["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
