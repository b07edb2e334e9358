"""procrastinate on PostgreSQL with psycopg: submissions by its synchronous connector, a worker with eight at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import procrastinate


def prepare(target: str) -> None:
    """Create the tables."""
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=target)).open() as app:
        app.schema_manager.apply_schema()


@contextmanager
def submitting(target: str) -> Iterator[Callable[[int, str], None]]:
    """The value of the context submits a run."""
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=target)).open() as app:
        deferrer = app.configure_task("execute")

        def submit(number: int, kind: str) -> None:
            deferrer.defer(number=number, kind=kind)

        yield submit


def work(target: str, execute: Callable[[int, str], None]) -> None:
    """Execute runs. It opens as many connections as it executes runs, and two for what it hears."""
    connector = procrastinate.PsycopgConnector(conninfo=target, min_size=10, max_size=10)
    app = procrastinate.App(connector=connector)

    def one(number: int, kind: str) -> None:
        execute(number, kind)

    app.task(name="execute")(one)
    app.run_worker(concurrency=8)
