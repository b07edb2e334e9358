"""What a process remembers of sequence runs between transactions: which raise errors, and which have to go on.

A transaction in which one sequence run raises an error is rolled back and repeated without that run, so everything else
in it is done. A savepoint for each run would cost a request, and some errors of SQL Server end a whole transaction.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from jobfac.database.dialects import dialect_of
from jobfac.definitions.parameters.matching import Pending

LEFT_OUT_FOR = 60.0
"""Seconds for which the transactions of this process leave a sequence run out after an error."""

TOGETHER = 2.0
"""Seconds after which a worker or scheduler continues no further sequences, but does its other work first."""

OF_THE_DATA = sa.exc.DataError, sa.exc.IntegrityError, sa.exc.ProgrammingError
"""Errors that a statement causes by its values. The others are those of the connection or of the server."""

_log = logging.getLogger("jobfac.sequences")


class SequenceMemory:
    """What a process knows of sequence runs from earlier transactions. Used by all threads that use one ``Database``.

    It only saves time: a sweep finds in the database which sequences have to go on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left_out: dict[int, float] = {}  # until when, by run, in monotonic seconds
        self._unfinished: set[int] = set()

    def leave_out(self, run_id: int) -> None:
        """Leave a run out of transactions for ``LEFT_OUT_FOR`` seconds."""
        with self._lock:
            self._left_out[run_id] = time.monotonic() + LEFT_OUT_FOR

    def left_out(self) -> frozenset[int]:
        """Return the runs to leave out now."""
        now = time.monotonic()
        with self._lock:
            if self._left_out:
                self._left_out = {run_id: until for run_id, until in self._left_out.items() if until > now}
            return frozenset(self._left_out)

    def note_unfinished(self, run_id: int) -> None:
        """Remember a run that could advance further, but not in the same transaction."""
        with self._lock:
            self._unfinished.add(run_id)

    @property
    def is_unfinished(self) -> bool:
        """Whether there is a run that can advance further."""
        return bool(self._unfinished)

    def unfinished(self) -> Iterator[set[int]]:
        """Yield the runs that can advance further, again and again, until there are none or ``TOGETHER`` is over."""
        end = time.monotonic() + TOGETHER
        while found := self.take_unfinished():
            yield found
            if time.monotonic() > end:
                break  # the next turn or a sweep does what is left

    def take_unfinished(self) -> set[int]:
        """Return and forget the runs that can advance further. Some may be of transactions that were rolled back."""
        with self._lock:
            found, self._unfinished = self._unfinished, set()
            return found


class Faulty(Exception):
    """A transaction has to be repeated without one sequence run. The cause is the error that this run has raised."""

    def __init__(self, memory: SequenceMemory, run_id: int) -> None:
        super().__init__(f"sequence run {run_id} cannot be advanced")
        self._memory = memory
        self._run_id = run_id

    def resolve(self) -> None:
        """Leave the run out of the next transactions, and log why."""
        self._memory.leave_out(self._run_id)
        if _log.hasHandlers():  # a command shows no log
            sentence = f"cannot advance a sequence; it is tried again after {LEFT_OUT_FOR:g} s, and others go on"
            fields = {"action": "advance_failed", "run": self._run_id, "reason": repr(self.__cause__)}
            _log.error("%s", sentence, exc_info=self.__cause__, extra={"fields": fields})


def memory_of(conn: sa.Connection) -> SequenceMemory:
    """Return the memory of this connection's ``Database``."""
    found: SequenceMemory = conn.get_execution_options()["sequence_memory"]
    return found


def leave_out(conn: sa.Connection, run_id: int, why: Exception) -> None:
    """Leave a run out of the next transactions, and log why. This transaction goes on, and must not have changed it."""
    fault = Faulty(memory_of(conn), run_id)
    fault.__cause__ = why
    fault.resolve()


@contextmanager
def guarded(conn: sa.Connection, run_id: int) -> Iterator[None]:
    """Inside this block, an error is that of the sequence run, unless it is one of the database.

    Raises:
        Faulty: ``Database.transact`` repeats the transaction, which leaves the run out.
    """
    try:
        yield
    except (Faulty, Pending):
        raise
    except sa.exc.SQLAlchemyError as error:
        if isinstance(error, OF_THE_DATA) and not dialect_of(conn).is_transient(error):
            raise Faulty(memory_of(conn), run_id) from error
        raise
    except Exception as error:
        raise Faulty(memory_of(conn), run_id) from error
