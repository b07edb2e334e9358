"""huey on SQLite. ``fsync`` is its option for durable writes; results are not stored, because there are none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huey import SqliteHuey


def _queue(target: str, execute: Callable[[int, str], None]) -> tuple[Any, Any]:
    queue = SqliteHuey("bench", filename=target, fsync=True, results=False)

    def one(number: int, kind: str) -> None:  # a task is found by its name and its module
        execute(number, kind)

    return queue, queue.task(name="execute")(one)


def prepare(target: str) -> None:
    """Create the tables."""
    _queue(target, lambda number, kind: None)


@contextmanager
def submitting(target: str) -> Iterator[Callable[[int, str], None]]:
    """The value of the context submits a run."""
    _, task = _queue(target, lambda number, kind: None)
    yield task


def work(target: str, execute: Callable[[int, str], None]) -> None:
    """Execute runs with the consumer's default intervals."""
    queue, _ = _queue(target, execute)
    queue.create_consumer(workers=8, worker_type="thread", periodic=False).run()
