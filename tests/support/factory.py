"""Runs jobfac as its users do: real `jobfac` processes on a database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")

SHORT = {
    "JOBFAC_LEASE": "3",
    "JOBFAC_HEARTBEAT": "0.4",
    "JOBFAC_LEASE_MARGIN": "1",
    "JOBFAC_SWEEP_INTERVAL": "0.3",
    "JOBFAC_SHIP_INTERVAL": "0.1",
    "JOBFAC_WAIT_SECONDS": "1",
}
"""Short intervals, so a test of failover takes seconds."""

USUAL = {"JOBFAC_LEASE": "15", "JOBFAC_HEARTBEAT": "3", "JOBFAC_LEASE_MARGIN": "3"}
"""Longer intervals, for a test under load in which no worker may lose its lease."""

SAME: Mapping[str, str] = {}
"""No additional variables."""

FINAL = {"succeeded", "mixed", "failed", "stopped", "timed_out", "start_failed", "lost", "denied"}


def wait_for(condition: Callable[[], T | None], what: str = "the condition", timeout: float = 30.0) -> T:
    """Return the first true value of ``condition``. Fails with ``what`` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    asked = time.thread_time()
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        # What is costly to ask, such as a command, is asked less often: the processor is for those that work on it.
        time.sleep(min(0.2, max(0.02, 4 * (time.thread_time() - asked))))
        asked = time.thread_time()
    return value


class Role(Protocol):
    """The part of the interface of ``Popen`` that tests use."""

    args: Any
    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Factory:
    """The command line on one database, and the roles that tests start with it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.environment = {**os.environ, **SHORT, "JOBFAC_DATABASE_URL": url, "JOBFAC_SPOOL": str(folder / "spool")}
        self.roles: list[Role] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for role in self.roles:
            if role.poll() is None:
                role.send_signal(signal.SIGCONT)
                role.kill()
            role.wait()

    def run(self, *words: str, code: int | None = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one command to its end. ``code``: the expected exit code; None: any."""
        done = subprocess.run(
            [sys.executable, "-m", "jobfac", *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            input=stdin,
            timeout=120,
        )
        assert code is None or done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str, code: int | None = 0) -> Any:
        """Run one command with --json; returns the document that it prints."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def apply(self, definitions: Mapping[str, Any]) -> None:
        """Apply jobs, by id."""
        path = self.folder / "definitions.json"
        path.write_text(json.dumps({"jobs": definitions}), encoding="utf-8")
        self.run("apply", str(path))

    def start(self, job: str, *words: str) -> int:
        """Start a job; returns the run id."""
        return int(self.run("start", job, *words).stdout)

    def show(self, run: int) -> Any:
        """Return a run with attempts and events."""
        return self.json("runs", "show", str(run))

    def wait(self, run: int, timeout: float = 30.0, states: set[str] = FINAL) -> Any:
        """Wait until the run is in one of these states; returns the run."""

        def there() -> Any:
            found = self.show(run)
            return found if found["state"] in states else None

        return wait_for(there, f"run {run} in {sorted(states)}", timeout)

    def logs(self, run: int, *words: str) -> str:
        """Return the output of a run's program."""
        return self.run("logs", str(run), *words).stdout

    def role(self, *words: str, **environment: str) -> Role:
        """Start a role in the background, with its own log file."""
        log = self.folder / f"{words[0]}-{len(self.roles)}.log"
        self.roles.append(self.begin(words, {**self.environment, **environment}, log))
        return self.roles[-1]

    def begin(self, words: tuple[str, ...], environment: dict[str, str], log: Path) -> Role:
        """Start a process in its own session."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "jobfac", *words],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def worker(
        self, name: str = "w1", *words: str, slots: int = 4, environment: Mapping[str, str] = SAME, **variables: str
    ) -> Role:
        """Start a worker with these additional variables and wait until it is registered."""
        variables = {**environment, **variables}
        process = self.role("worker", "--name", name, "--slots", str(slots), *words, **variables)
        wait_for(
            lambda: process.poll() is not None or self.is_registered(name, process.pid), f"worker {name} registered"
        )
        assert process.poll() is None, (self.folder / f"worker-{self.roles.index(process)}.log").read_text()
        return process

    def is_registered(self, name: str, pid: int) -> bool:
        """Whether the fleet contains a live worker with this name and process."""
        return any(w["name"] == name and w["pid"] == pid for w in self.json("workers", "list"))
