"""The thread that stores new output and progress of running programs, about twice a second."""

import threading
import time
from collections.abc import Callable, Collection

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import output
from jobfac.store.runs import note_program, report_progress
from jobfac.telemetry.logs import logger
from jobfac.worker.executions.execution import Execution
from jobfac.worker.keeper import Keeper

log = logger("jobfac.output")

UNKNOWN_FOR = 60.0
"""Seconds for which the output of fenced executions is tried to be stored in spite of an error that jobfac does not
know."""

SHIPMENT = 8 * 1024 * 1024
"""Bytes of output of all executions in one transaction. This bounds the memory and the time that locks are held."""

BEHIND = 0.02
"""Seconds until the next shipment when output is left. The pause lets other writers of a SQLite file proceed."""

LEAST_SHARE = 256 * 1024
"""Minimum bytes of each execution in one shipment, regardless of the number of executions."""


class Shipper:
    """Ships output of every execution that the keeper knows. Output that cannot be stored stays pending, up to limits.

    This thread also parses the reports of the worker's own user, so a program that reports a lot does not delay the
    worker's loop. The keeper's threads read those of other users.
    """

    def __init__(
        self,
        db: Database,
        interval: float,
        worker: str,
        keeper: Keeper,
        on_shipped: Callable[[], None],
    ) -> None:
        self._db = db
        self._interval = interval
        self._log = log.bind(worker=worker)
        self._keeper = keeper
        self._unknown_since: float | None = None
        self._on_shipped = on_shipped
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ship_forever, name="shipper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop shipping. The turn that stores an outcome stores the remaining output."""
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _ship_forever(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            executions = self._keeper.live()
            behind = False
            try:
                for execution in executions:
                    if execution.process is not None:
                        execution.process.sample()
                try:
                    behind = self.ship(executions)
                finally:  # in an outage, too
                    self._keeper.read_foreign(executions)
                if fenced := list(self._keeper.fenced):
                    behind |= self.ship_rest(fenced)
            except Unreachable as error:
                self._log.outage("output waits", action="ship_failed", reason=str(error))
            except Exception:  # one program's output must not stop the shipping of the others
                self._log.exception("output waits", action="ship_failed")
            flooding = any(spool.flooding for e in executions for spool in list(e.spools.values()))
            pause = BEHIND if behind else self._interval / 10 if flooding else self._interval

    def ship(self, executions: Collection[Execution], final: bool = False) -> bool:
        """Store new output and reports of these programs in one transaction.

        Returns whether output or reports are left for the next call because they exceed the size limits.

        Args:
            final: the programs were fenced and have ended. All output is stored by several calls, but no report.

        Raises:
            Unreachable: the database does not answer. Nothing is lost: the next call ships it.
        """
        ours = [execution for execution in executions if execution.shipping.acquire(blocking=False)]
        try:
            return self._ship(ours, final)
        finally:
            for execution in ours:
                execution.shipping.release()
            if ours:
                self._on_shipped()

    def ship_rest(self, executions: Collection[Execution]) -> bool:
        """Store all output of fenced executions (``Execution.is_shipped``); returns whether to call it again.

        If the database answers with an error that jobfac does not know, and goes on to do so, the output is left in the
        spool.

        Raises:
            Unreachable: the database does not answer.
        """
        try:
            behind = self.ship(executions, final=True)
        except Unreachable:
            self._unknown_since = None
            raise
        except sa.exc.DBAPIError as error:
            self._unknown_since = self._unknown_since or time.monotonic()
            if time.monotonic() - self._unknown_since < UNKNOWN_FOR:
                raise Unreachable(f"The database answers with an error: {error.orig}.") from error
            why = f"the next worker of this machine stores it; the database answers with an error: {error.orig}"
            self._log.warning("output is left in the spool", action="output_left", reason=why)
            for execution in executions:
                execution.leaves_output = execution.is_shipped = True
            self._on_shipped()
            behind = False
        self._unknown_since = None
        return behind

    def _ship(self, executions: Collection[Execution], final: bool) -> bool:
        behind = False
        share = max(LEAST_SHARE, SHIPMENT // max(1, len(executions)))
        written: list[tuple[Execution, list[output.Stored]]] = []
        for execution in executions:
            over = final and execution.is_over()  # before: it may write until it ends, and KILL may not end it
            with execution.lock:
                if chunks := execution.collect(over, most=share):
                    written.append((execution, chunks))
            if final:
                execution.is_shipped = over and not chunks
                behind |= len(chunks) > 0
                continue
            behind |= len(chunks) > 0 and execution.unread() > LEAST_SHARE
            behind |= not (execution.report.is_foreign or execution.report.read())
        reported = [e for e in executions if e.report.changed]
        unrecorded = [e for e in executions if not e.process_stored and e.process is not None]
        if not written and not reported and not unrecorded:
            return behind
        self._db.transact(_store, written, reported, unrecorded, retry_for=2.0)
        for execution in reported:
            execution.report.changed = False
        for execution in unrecorded:
            execution.process_stored = True
        for execution, chunks in written:
            with execution.lock:
                execution.confirm(chunks)
        return behind


def _store(
    conn: sa.Connection,
    written: list[tuple[Execution, list[output.Stored]]],
    reported: list[Execution],
    unrecorded: list[Execution],
) -> None:
    for execution, chunks in written:
        output.append(conn, chunks)
        for cut in execution.cuts():
            output.cut(conn, *cut)
    for execution in reported:
        report_progress(conn, *execution.reported)
    for execution in unrecorded:
        if execution.process is not None:
            note_program(conn, *execution.key, execution.process.pid, execution.shown_paths())
