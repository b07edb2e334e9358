"""The limits: the cost of the same work without jobfac. Each runs in its own process.

    python -m scripts.bench.limits bare|durable|shared RUNS CONCURRENCY FOLDER

prints seconds and CPU seconds (children included) as JSON.
"""

import json
import queue
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = ["/bin/true"]


def bare(number: int, folder: Path) -> None:
    """Run a program with its output in files, and store nothing."""
    with (folder / f"{number}.out").open("wb") as out, (folder / f"{number}.err").open("wb") as err:
        subprocess.Popen(
            COMMAND, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, close_fds=True
        ).wait()


def connect(folder: Path) -> sqlite3.Connection:
    """Open a durable SQLite database as jobfac does."""
    db = sqlite3.connect(folder / "limit.db", isolation_level=None, timeout=30, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


class Durable:
    """Commits each claim and each outcome separately, all by one connection behind one lock.

    SQLite has one writer at a time. Connections that compete for its lock sleep and try again, so with a connection for
    each thread the limit would measure these sleeps, and half as many runs.
    """

    def __init__(self, folder: Path, runs: int) -> None:
        prepare(folder, runs)
        self._db = connect(folder)
        self._lock = threading.Lock()

    def __call__(self, number: int, folder: Path) -> None:
        self._write("UPDATE run SET state = 'running', started = ? WHERE id = ?", number)
        bare(number, folder)
        self._write("UPDATE run SET state = 'done', ended = ? WHERE id = ?", number)

    def _write(self, text: str, number: int) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(text, (time.time(), number))
            self._db.execute("COMMIT")


class Shared:
    """Like ``Durable``, but waiting writers share one commit."""

    def __init__(self, folder: Path, runs: int) -> None:
        prepare(folder, runs)
        self._wanted: queue.SimpleQueue[tuple[str, int, threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._commit, args=(folder,), daemon=True).start()

    def _commit(self, folder: Path) -> None:
        db = connect(folder)
        while True:
            batch = [self._wanted.get()]
            while not self._wanted.empty():
                batch.append(self._wanted.get())
            db.execute("BEGIN IMMEDIATE")
            for text, number, _ in batch:
                db.execute(text, (time.time(), number))
            db.execute("COMMIT")
            for _, _, done in batch:
                done.set()

    def _write(self, text: str, number: int) -> None:
        done = threading.Event()
        self._wanted.put((text, number, done))
        done.wait()

    def __call__(self, number: int, folder: Path) -> None:
        self._write("UPDATE run SET state = 'running', started = ? WHERE id = ?", number)
        bare(number, folder)
        self._write("UPDATE run SET state = 'done', ended = ? WHERE id = ?", number)


def prepare(folder: Path, runs: int) -> None:
    """Submit the runs durably."""
    db = connect(folder)
    db.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, state TEXT, started REAL, ended REAL)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO run VALUES (?, 'queued', NULL, NULL)", [(number,) for number in range(runs)])
    db.execute("COMMIT")
    db.close()


def main() -> None:
    """Run one limit."""
    kind, runs, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[], Callable[[int, Path], None]]] = {
        "bare": lambda: bare,
        "durable": lambda: Durable(folder, runs),
        "shared": lambda: Shared(folder, runs),
    }
    work = kinds[kind]()
    numbers = iter(range(runs))
    lock = threading.Lock()

    def loop() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            work(number, folder)

    before = time.perf_counter()
    cpu = spent()
    threads = [threading.Thread(target=loop) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.perf_counter() - before, "cpu": spent() - cpu}))


def spent() -> float:
    """CPU seconds of this process and its children so far."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


if __name__ == "__main__":
    main()
