"""pgqueuer on PostgreSQL with asyncpg, as its documentation begins."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries


def prepare(target: str) -> None:
    """Create the tables."""

    async def install() -> None:
        connection = await asyncpg.connect(target)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    asyncio.run(install())


@contextmanager
def submitting(target: str) -> Iterator[Callable[[int, str], None]]:
    """The value of the context submits a run."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(target))
        queries = Queries(AsyncpgDriver(connection))

        def submit(number: int, kind: str) -> None:
            runner.run(queries.enqueue("execute", f"{number} {kind}".encode()))

        yield submit
        runner.run(connection.close())


def work(target: str, execute: Callable[[int, str], None]) -> None:
    """Execute runs. A worker's limit of tasks must be twice its batch."""

    async def loop() -> None:
        connection = await asyncpg.connect(target)
        app = PgQueuer(AsyncpgDriver(connection))

        async def one(job: Job) -> None:
            number, kind = (job.payload or b"").decode().split()
            await asyncio.to_thread(execute, int(number), kind)

        app.entrypoint("execute")(one)
        await app.run(dequeue_timeout=timedelta(seconds=30), batch_size=4, max_concurrent_tasks=8)

    asyncio.run(loop())
