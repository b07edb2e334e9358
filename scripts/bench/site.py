"""The environment of a measurement: a new database, roles on it, and their CPU costs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.types import sql_literals
from jobfac.states import ACTIVE
from jobfac.store import schedules

BUILD = Path(__file__).parents[2] / ".build" / "bench"
PYTHON = sys.executable


@dataclass
class Site:
    """A database and its roles. Use it as a context manager, which ends the roles."""

    name: str
    url: str = ""
    preload: str = ""
    roles: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "Site":
        self.folder = BUILD / self.name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.url = self.url or f"sqlite:///{self.folder / 'bench.db'}"
        self.environment = {**os.environ, "JOBFAC_DATABASE_URL": self.url, "JOBFAC_SPOOL": str(self.folder / "spool")}
        if self.preload:
            self.environment["LD_PRELOAD"] = self.preload
        self.db = Database(self.url)
        self.db.upgrade()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for role in self.roles:
            role.terminate()
        for role in self.roles:
            role.wait()
        self.db.close()

    def apply(self, jobs: dict[str, Any]) -> None:
        """Define jobs."""
        wanted = d.from_data({"jobs": jobs}).jobs
        plan = d.plan({}, {job: d.canonical(one) for job, one in wanted.items()}, prune=False)
        self.db.transact(schedules.apply, plan, wanted, "bench")

    def role(self, *words: str) -> psutil.Process:
        """Start a role."""
        with (self.folder / f"{words[0]}{len(self.roles)}.log").open("wb") as log:
            process = subprocess.Popen(
                [PYTHON, "-m", "jobfac", *words],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.roles.append(process)
        return psutil.Process(process.pid)

    def worker(self, slots: int = 8) -> psutil.Process:
        """Start a worker and wait until it is registered and idle."""
        before = self.scalar("SELECT count(*) FROM worker")
        process = self.role("worker", "--slots", str(slots))
        wait(lambda: self.scalar("SELECT count(*) FROM worker") > before)
        time.sleep(0.5)
        return process

    def scalar(self, text: str) -> Any:
        """One value from the database."""
        if self.db.dialect.name == "mssql":
            text = text.replace("FROM ", "FROM jobfac.")
        with self.db.read() as conn:
            return conn.exec_driver_sql(text).scalar()

    def unfinished(self) -> int:
        """Number of runs that are not final. The condition matches the index that excludes the history."""
        return int(self.scalar(f"SELECT count(*) FROM run WHERE state IN ({sql_literals(ACTIVE)})"))

    def cli(self, *words: str) -> str:
        """Run one command; returns its output."""
        return subprocess.run(
            [PYTHON, "-m", "jobfac", *words], env=self.environment, check=True, capture_output=True, text=True
        ).stdout


def wait(condition: Callable[[], Any], limit: float = 120.0, pause: float = 0.01) -> None:
    """Wait until the condition is true."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a measurement did not come to its end")
        time.sleep(pause)


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a role so far, including its guardian and the programs that have ended."""
    times = process.cpu_times()
    total: float = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        spent = child.cpu_times()
        total += spent.user + spent.system
    return total


def limit(kind: str, runs: int, concurrency: int, preload: str = "") -> dict[str, float]:
    """Measure one limit in its own process.

    Its folder is kept until the bench ends. When ext4 creates a file, it skips over every file deleted in the last
    minutes, and that cost must not count.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"limit-{kind}-", dir=BUILD))
    environment = {**os.environ, **({"LD_PRELOAD": preload} if preload else {})}
    words = [PYTHON, "-m", "scripts.bench.limits", kind, str(runs), str(concurrency), str(folder)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def tidy() -> None:
    """Remove the folders of the limits."""
    for folder in BUILD.glob("limit-*"):
        shutil.rmtree(folder)
