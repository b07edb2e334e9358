"""honker on SQLite. It sets ``synchronous`` to NORMAL, without an option: a loss of power may undo its last commits."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import honker


def _task(target: str, execute: Callable[[int, str], None]) -> tuple[Any, Any]:
    db = honker.open(target)
    return db, db.queue("bench").task(name="execute")(execute)


def prepare(target: str) -> None:
    """Create the tables."""
    honker.open(target).queue("bench")


@contextmanager
def submitting(target: str) -> Iterator[Callable[[int, str], None]]:
    """The value of the context submits a run."""
    _, task = _task(target, lambda number, kind: None)
    yield task


def work(target: str, execute: Callable[[int, str], None]) -> None:
    """Execute runs."""
    db, _ = _task(target, execute)
    asyncio.run(honker.run_workers(db, queue="bench", concurrency=8))
