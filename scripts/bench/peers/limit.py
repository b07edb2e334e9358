"""The limit: each submission, claim and outcome a durable commit in SQLite, by one connection behind one lock."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path


def _connect(target: str) -> sqlite3.Connection:
    db = sqlite3.connect(target, isolation_level=None, timeout=30, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def prepare(target: str) -> None:
    """Create the table."""
    _connect(target).execute("CREATE TABLE run (id INTEGER PRIMARY KEY, kind TEXT, state TEXT, at REAL)")


@contextmanager
def submitting(target: str) -> Iterator[Callable[[int, str], None]]:
    """The value of the context submits a run."""
    db = _connect(target)

    def submit(number: int, kind: str) -> None:
        db.execute("INSERT INTO run VALUES (?, ?, 'queued', ?)", (number, kind, time.time()))

    yield submit
    db.close()


def work(target: str, execute: Callable[[int, str], None]) -> None:
    """Execute runs. One thread looks for queued runs, each millisecond while there are none."""
    db, lock, free = _connect(target), threading.Lock(), threading.Semaphore(8)

    def one(number: int, kind: str) -> None:
        write("UPDATE run SET state = 'running', at = ? WHERE id = ?", number)
        execute(number, kind)
        write("UPDATE run SET state = 'done', at = ? WHERE id = ?", number)
        free.release()

    def write(text: str, number: int) -> None:
        with lock:
            db.execute(text, (time.time(), number))

    last = -1
    with ThreadPoolExecutor(8) as threads:
        while Path(target).exists():
            with lock:
                query = "SELECT id, kind FROM run WHERE id > ? ORDER BY id LIMIT 100"
                found = db.execute(query, (last,)).fetchall()
            for last, kind in found:
                free.acquire()
                threads.submit(one, last, kind)
            if not found:
                time.sleep(0.001)
