"""Runs the batches of a script on one connection, and reports their results."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from jobfac import job
from jobfac.definitions import write_duration
from jobfac.sqljob.connection import connect
from jobfac.sqljob.request import Request
from jobfac.sqljob.results import Table, column_names, json_line, outputs, size_of
from jobfac.sqljob.scripts import Batch, ScriptError, bind, split
from jobfac.sqljob.servers import Failure, Server, server
from jobfac.sqljob.writing import OutputError, say, write

T = TypeVar("T")

FIRST_ROWS = 100
"""The number of rows that are read before the first is written. They determine the widths of the columns."""

PIECE = 256 * 1024
"""The approximate size of the rows that are read at once, in bytes. One cell may have megabytes."""

REPORT_EVERY = 1.0
"""Seconds between two reports of progress."""

PROGRESS = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*%")
"""A message with this beginning reports progress: "40 % done"."""


class Ended(NamedTuple):
    """The result of a script: whether it succeeded, and a sentence with the error or with what was done."""

    succeeded: bool
    message: str


class Runner:
    """Runs one script. ``run`` belongs to one thread; the main thread calls the methods that stop it.

    Attributes:
        done: set when ``run`` has returned; ``ended`` is there then.
        deadline: when the batch that runs now must have ended (monotonic seconds); None: never. Written by the thread
            of ``run``.
        stopping: a stop was requested. Written by the other thread.
        late: the batch that runs now has passed its deadline. Written by the other thread, reset by that of ``run``.
        undone: what the stop has done to the batch that ran, in words; None: the batch had ended.
    """

    def __init__(self, request: Request, parameters: Mapping[str, Any]) -> None:
        self.request = request
        self.parameters = parameters
        self.done = threading.Event()
        self.ended = Ended(False, "the script did not run")
        self.deadline: float | None = None
        self.stopping = False
        self.late = False
        self.undone: str | None = None
        self._server: Server | None = None
        self._first_row: tuple[list[str], Any] | None = None
        self._failures: list[str] = []
        self._cut_off = False  # a transaction was rolled back whose end is in a later batch
        self._batches = 0
        self._next_report = 0.0

    # Called by the main thread

    @property
    def can_cancel(self) -> bool:
        """Whether a statement can be cancelled. Without a connection no statement runs."""
        return self._server is None or self._server.cancels

    @property
    def cannot_cancel(self) -> str:
        """What happens instead of a cancel, in words."""
        closing = "" if self._server is None else f", and {self._server.closing}"
        return f"this driver cannot cancel, so the connection was closed{closing}"

    def stop(self) -> None:
        """Cancel the statement in the server and run no more. Repeat until ``done``: it may have only just begun."""
        self.stopping = True
        self._cancel()

    def cancel_late(self) -> bool:
        """Cancel the current batch if its deadline has passed. Returns whether it has. Call it repeatedly."""
        deadline = self.deadline
        if deadline is None or time.monotonic() < deadline:
            return False
        self.late = True
        self._cancel()
        return True

    def give_up_late(self) -> str:
        """How the script ends if its driver cannot cancel the batch that is late. End the process at once: that closes
        the connection, so no further batch can run, whatever ``on_error`` says."""
        limit = write_duration(self.request.timeout or 0)
        self._fail(f"batch {self._batches} ran longer than its timeout of {limit}; {self.cannot_cancel}")
        return self._summary().message

    def _cancel(self) -> None:
        if self._server is not None:
            with suppress(Exception):  # the statement has just ended; if not, this is tried again
                self._server.cancel()

    # Called by the thread that runs

    def run(self) -> None:
        """Run the script to its end."""
        try:
            self._run_and_explain()
            self.ended = self._summary()  # not if that has raised an error: the script must not seem to have succeeded
        finally:
            self.done.set()

    def _run_and_explain(self) -> None:
        try:
            self._run()
        except OutputError as error:
            self._fail(f"{error}, so the script ended in batch {self._batches}; what it has committed stays")
        except ScriptError as error:
            self._fail(self.request.hide(str(error)))
        except BaseException as error:  # of a driver, as a panic of Rust: it must not end this thread without a word
            self._fail(self.request.hide(f"{type(error).__name__}: {' '.join(str(error).split())}"))

    def _run(self) -> None:
        with connect(self.request) as (connection, dialect):
            batches = split(self.request.script, dialect.name)
            self._server = server(connection, dialect, self._message)
            for batch in batches:  # before anything runs
                bind(batch, self.parameters, self._server.style)
            try:
                self._server.prepare(self.request.isolation)
                self._server.exclude_others(self.request.session, lambda: self.stopping)
                self._run_all(batches)
            except dialect.loaded_dbapi.Error as error:
                if not self._server.is_lost(error):
                    raise ScriptError(f"the connection cannot be used: {error}") from None
                self._lost(error)
        if self._first_row is not None and not self.stopping:
            self._report_outputs(*self._first_row)

    def _run_all(self, batches: list[Batch]) -> None:
        assert self._server is not None
        for batch in batches:
            if self._cut_off:  # alone, the rest of a transaction would be committed
                self._cut_off = not batch.ends_transaction
                continue
            for _ in range(batch.repeats):
                if self.stopping:
                    return
                self._batches += 1
                failed = not self._run_batch(self._server, batch)
                if failed and (self.stopping or self.request.on_error == "stop"):
                    return
                if self._server.dialect.name == "mssql" and not failed:
                    failed = not self._close_transaction(self._server, f"batch {self._batches}")
                if failed and self.request.on_error == "stop":
                    return
        self._close_transaction(self._server, "the script")

    def _close_transaction(self, at: Server, who: str) -> bool:
        """Roll back an open transaction. Returns whether there was none."""
        if not at.open_transaction():
            return True
        at.rollback()
        self._fail(f"{who} left a transaction open, which was rolled back; end it with COMMIT or ROLLBACK")
        return False

    def _run_batch(self, at: Server, batch: Batch) -> bool:
        """Run a batch once. Returns whether it succeeded. Raises the error if the connection is lost."""
        self.late = False
        self.deadline = None if self.request.timeout is None else time.monotonic() + self.request.timeout
        at.begin()
        try:
            self._send(at, batch)
        except at.dialect.loaded_dbapi.Error as error:
            self.deadline = None
            self._explain(at, batch, error)
            return False
        finally:
            self.deadline = None
        at.note(batch)
        if self.late:
            self._explain_late(at, batch)
        elif self.stopping and at.open_transaction():  # a driver may report a cancelled statement as an ended one
            self._roll_back_stopped(at)
        return not self.late and not self.stopping

    def _send(self, at: Server, batch: Batch) -> None:
        text, values = bind(batch, self.parameters, at.style, at.dialect.name == "postgresql")
        wrapped = at.wrap(text, batch)
        try:
            self._execute(at, wrapped, values)
        except at.dialect.loaded_dbapi.Error as error:
            if wrapped == text or not at.misread(error):
                raise
            self._execute(at, text, values)

    def _execute(self, at: Server, text: str, values: Any) -> None:
        cursor = at.connection.cursor()
        at.cursor = cursor
        try:
            self._call(at, cursor.execute, text, *([values] if values else []))
            at.began()
            while True:
                talked = at.messages(cursor)
                if cursor.description is not None:
                    self._rows(at, cursor)
                elif cursor.rowcount >= 0 and self.request.result != "none" and not talked:  # then it is an old count
                    say(f"({cursor.rowcount:,} {'row' if cursor.rowcount == 1 else 'rows'} affected)")
                if not self._has_next(at, cursor):
                    break
            at.messages(cursor)
        except at.dialect.loaded_dbapi.Error:
            at.messages(cursor)
            raise
        finally:
            at.cursor = None
            at.wait_for_cancel()
            cursor.close()

    def _call(self, at: Server, function: Callable[..., T], *arguments: Any) -> T:
        """Call the driver. Another thread may cancel the call. It has finished when this method returns."""
        try:
            return function(*arguments)
        finally:
            at.wait_for_cancel()

    def _has_next(self, at: Server, cursor: Any) -> bool:
        """Go to the next result of a batch. Returns whether there is one."""
        try:
            return hasattr(cursor, "nextset") and bool(self._call(at, cursor.nextset))
        except at.dialect.loaded_dbapi.NotSupportedError:
            if at.dialect.name == "mssql":  # an error of the next result
                raise
            return False  # as psycopg2 says, whose statements have one

    def _rows(self, at: Server, cursor: Any) -> None:
        names = column_names([column[0] for column in cursor.description])
        kind, table, count, size = self.request.result, None, 0, 1
        kept = self._first_row
        while not self.stopping and not self.late and (rows := self._call(at, cursor.fetchmany, size)):
            if count == 0:
                kept = (names, rows[0])
                if kind == "rows" and size_of(rows) < PIECE:
                    rows += self._call(at, cursor.fetchmany, FIRST_ROWS - 1)
            count += len(rows)
            if kind == "json":
                write("".join(json_line(names, row) for row in rows))
            elif kind == "rows":
                first, table = table is None, table or Table(names, rows)
                write(table.head() if first else table.rows(rows))
            size = max(1, min(1000, PIECE * len(rows) // max(1, size_of(rows))))
        self._first_row = kept if count else None
        if kind == "rows":
            write(Table(names, []).head() if table is None else "")
            say(f"({count:,} {'row' if count == 1 else 'rows'})")

    # What is said

    def _message(self, text: str) -> None:
        """Write a message of the server, and report its progress."""
        plain = self.request.hide(text.rstrip())
        say(plain)
        if (found := PROGRESS.match(plain)) is not None and float(found[1]) <= 100:
            self._progress(float(found[1]) / 100, plain.strip()[:200])

    def _progress(self, fraction: float, message: str) -> None:
        """Report progress, at most once a second, so many messages do not fill the report."""
        now = time.monotonic()
        if fraction == 1 or now >= self._next_report:
            self._next_report = now + REPORT_EVERY
            with suppress(OSError):  # a full disk; the script goes on
                job.progress(fraction, message)

    def _explain(self, at: Server, batch: Batch, error: Exception) -> None:
        if at.is_lost(error) and not self.stopping:
            raise error
        if self.stopping or self.late:
            if self.late and not self.stopping:
                self._explain_late(at, batch)
            elif at.open_transaction():
                self._roll_back_stopped(at)
            else:
                self.undone = "it was cancelled in the server; what it has committed stays"
            return
        failure: Failure = at.explain(error, batch)
        sentence = self.request.hide(str(failure))
        try:
            if undone := self._roll_back(at, batch):
                sentence += f"; its transaction was {undone}"
        finally:
            self._fail(sentence)

    def _roll_back(self, at: Server, batch: Batch) -> str:
        """Roll back the transaction of a batch that failed. Returns what was done, in words; empty: there was none.

        A transaction of SQL Server ends with its batch. Others may continue in the following batches.
        """
        if not at.open_transaction() and not at.was_undone():
            return ""
        at.rollback()
        self._cut_off = at.dialect.name != "mssql" and not batch.ends_transaction
        is_skipped = self._cut_off and self.request.on_error == "continue"
        return "rolled back and its rest skipped" if is_skipped else "rolled back"

    def _roll_back_stopped(self, at: Server) -> None:
        at.rollback()
        self.undone = "it was cancelled in the server and rolled back"

    def _explain_late(self, at: Server, batch: Batch) -> None:
        limit = write_duration(self.request.timeout or 0)
        end = f" and {undone}" if (undone := self._roll_back(at, batch)) else ""
        self._fail(f"batch {self._batches} ran longer than its timeout of {limit} and was cancelled{end}")

    def _lost(self, error: Exception) -> None:
        unknown = "; what was committed before stays, and whether that batch was is not known"
        where = f"in batch {self._batches}{unknown}" if self._batches else "before the first batch"
        said = f"the connection to the database was lost {where} ({' '.join(str(error).split())})"
        self._fail(self.request.hide(said))

    def _fail(self, sentence: str) -> None:
        self._failures.append(sentence)
        say(sentence, error=True)

    def _report_outputs(self, names: list[str], row: Any) -> None:
        found, left_out = outputs(names, row)
        for sentence in left_out:
            say(sentence, error=True)
        if found:
            job.outputs(**found)

    def _summary(self) -> Ended:
        if self._failures:
            more = len(self._failures) - 1
            others = f" (and {more} more {'failure' if more == 1 else 'failures'})" if more else ""
            return Ended(False, self._failures[0] + others)
        if self.stopping:
            place = f"batch {self._batches}"
            ended = f"stopped after {place}" if self._batches else "stopped before the first batch"
            sentence = f"stopped in {place}: {self.undone}" if self.undone else ended
            say(sentence, error=True)
            return Ended(False, sentence)
        return Ended(True, f"{self._batches} {'batch' if self._batches == 1 else 'batches'}")
