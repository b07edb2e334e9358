"""The thread that carries new output and progress of running programs to the database, about twice a second."""

import threading
from collections.abc import Callable, Collection

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import output
from jobfac.store.runs import note_program, report_progress
from jobfac.telemetry.logs import logger
from jobfac.worker.execution import Execution

log = logger("jobfac.output")


class Shipper:
    """Ships for every execution that ``live`` returns. What it could not ship stays pending, bounded by the limits."""

    def __init__(
        self,
        db: Database,
        interval: float,
        worker: str,
        live: Callable[[], Collection[Execution]],
        on_shipped: Callable[[], None],
    ) -> None:
        self._db = db
        self._interval = interval
        self._log = log.bind(worker=worker)
        self._live = live
        self._on_shipped = on_shipped
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ship_forever, name="shipper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop shipping; what is left goes with the outcomes."""
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _ship_forever(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            executions = self._live()
            try:
                self.ship(executions)
            except Unreachable as error:
                self._log.warning("output waits", action="ship_failed", reason=str(error))
            except Exception:  # one program's output must not end the shipping of all others'
                self._log.exception("output waits", action="ship_failed")
            flooding = any(spool.flooding for e in executions for spool in list(e.spools.values()))
            pause = self._interval / 10 if flooding else self._interval

    def ship(self, executions: Collection[Execution]) -> None:
        """Store what these programs wrote and reported since the last time, in one transaction.

        Raises:
            Unreachable: the database is away; nothing is lost, the next call ships it.
        """
        ours = [execution for execution in executions if execution.shipping.acquire(blocking=False)]
        try:
            self._ship(ours)
        finally:
            for execution in ours:
                execution.shipping.release()
            if ours:
                self._on_shipped()

    def _ship(self, executions: Collection[Execution]) -> None:
        news: list[tuple[Execution, list[output.Stored]]] = []
        for execution in executions:
            with execution.lock:
                if chunks := execution.collect(final=False):
                    news.append((execution, chunks))
                execution.report.read()
        told = [e for e in executions if e.report.changed]
        fresh = [e for e in executions if not e.noted and e.process is not None]
        if not news and not told and not fresh:
            return
        self._db.transact(_store, news, told, fresh, retry_for=2.0)
        for execution in told:
            execution.report.changed = False
        for execution in fresh:
            execution.noted = True
        for execution, chunks in news:
            with execution.lock:
                execution.confirm(chunks)


def _store(
    conn: sa.Connection,
    news: list[tuple[Execution, list[output.Stored]]],
    told: list[Execution],
    fresh: list[Execution],
) -> None:
    for execution, chunks in news:
        output.append(conn, chunks)
        for stream, head, tail in execution.cuts():
            output.cut(conn, *execution.key, stream, head, tail)
    for execution in told:
        report_progress(conn, *execution.key, execution.report.progress, execution.report.message)
    for execution in fresh:
        if execution.process is not None:
            note_program(conn, *execution.key, execution.process.pid, execution.paths)
