"""The threads that free the disk of the spool and remove its files.

To cut a file, to free a part of it and to remove it, the kernel takes the lock of the file, which a program has while
it writes. One write of a gigabyte at the lowest priority takes minutes. Only these threads wait for it: neither the
loop, which would lose its lease, nor the thread that ships output.
"""

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

from jobfac.machine import threads
from jobfac.programs import abandoned
from jobfac.store.runs import Outcome
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.executions.silence import states_of
from jobfac.worker.spool_folder import SpoolFolder

INTERVAL = 0.25
"""Seconds between two looks at the files of an execution. While it floods the disk, they are a fifth of that."""

PATIENCE = 1.0
"""Seconds after which another helper goes on with the other files."""

MOST = 32
"""The most helpers at once. All but one of them wait for a program."""


class Keeper:
    """Looks at what the files of executions take, and removes those of ended ones. The worker's loop calls it.

    Attributes:
        live: returns the executions under way.
        fenced: executions of a lost lease. Their output is not stored yet, or KILL has not ended their programs.
    """

    def __init__(
        self,
        spool: SpoolFolder,
        old_files: OldFiles,
        live: Callable[[], Collection[Execution]],
        over: Callable[[], Collection[tuple[Execution, Outcome]]],
        wake: Callable[[], None],
        log: Any,
    ) -> None:
        """
        Args:
            live: see ``Keeper``.
            over: returns those whose outcomes are not stored yet. A full disk may be the reason.
            wake: wakes the loop: the program of one has to be ended (``Execution.room``), or its report was read.
        """
        self.fenced: list[Execution] = []
        self._spool = spool
        self._old_files = old_files
        self.live = live
        self._over = over
        self._wake = wake
        self._log = log
        self._actions: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._seen: WeakKeyDictionary[Execution, Any] = WeakKeyDictionary()  # what living programs' reports were like
        self._parses = threading.Lock()  # many that parse at once would keep the processor from the loop
        self._ended = threading.Event()
        self._helpers: list[_Helper] = []
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._help()
        self._thread.start()

    def remove(self, executions: Collection[Execution]) -> None:
        """Remove the files of executions soon, except for output that is left to the next worker."""
        for execution in executions:
            self._spool.is_left |= execution.leaves_output
            if self._helpers and not self._ended.is_set():
                self._actions.put(execution.close)
            else:
                execution.close()
            self._old_files.after(execution.definition.retention, execution.series())

    def leave(self, executions: Collection[Execution]) -> None:
        """Remove the files of executions, but leave their output to the next worker of this machine."""
        for execution in executions:
            execution.leaves_output = True
        self.remove(executions)
        if executions:
            why = "the next worker of this machine stores it"
            self._log.warning("output is left in the spool", action="output_left", reason=why)

    def read_report(self, execution: Execution, room: int) -> bool | None:
        """Read the report of a program that has ended, up to ``room`` bytes.

        Returns True if all of it is read; the caller holds ``execution.shipping`` then. False: call again. None: call
        again when the loop is woken. Another user may let the reader of a report wait, so a thread of its own reads
        those.
        """
        report = execution.report
        if not execution.shipping.acquire(blocking=False):
            return None
        if report.is_foreign and not report.is_at_end:
            self._begin_to_read(execution, True)
            return None
        if report.is_at_end or report.read(final=True, most=room):
            return True
        execution.shipping.release()
        return None if report.is_blocked else False

    def read_foreign(self, executions: Collection[Execution]) -> None:
        """Read what programs of other users have reported, in threads: each may have to wait."""
        for execution in executions:
            if not execution.report.is_foreign or execution.report.is_at_end:
                continue
            found = states_of([execution.report.path])
            if found != self._seen.get(execution) and execution.shipping.acquire(blocking=False):
                self._seen[execution] = found
                self._begin_to_read(execution, False)

    def _begin_to_read(self, execution: Execution, final: bool) -> None:
        try:
            threads.begin(self._read_report, execution, final)
        except RuntimeError:  # no more threads: the next call tries again
            self._seen.pop(execution, None)
            execution.shipping.release()

    def _read_report(self, execution: Execution, final: bool) -> None:
        report = execution.report
        report.turn = self._parses
        try:
            while not (is_read := report.read(final)) and final and not report.is_blocked:
                pass
            if not is_read:
                self._seen.pop(execution, None)
        finally:
            execution.shipping.release()
            if execution.is_over() and not report.is_blocked:  # the loop may wait for it
                self._wake()

    def fence(self, executions: Collection[Execution]) -> None:
        """Keep the files of these until their output is stored, by the thread that ships output."""
        for execution in executions:
            execution.room.program_ended(execution.definition.detach or not execution.is_over())
        self.fenced += executions

    def remove_shipped(self) -> None:
        """Remove the files of fenced executions that have ended, and whose output is stored by now."""
        for execution in [one for one in self.fenced if one.is_shipped and one.is_over()]:
            self.fenced.remove(execution)
            self.remove([execution])

    def is_storing(self) -> bool:
        """Whether output of fenced executions that have ended is still to be stored."""
        return any(not one.is_shipped and one.is_over() for one in self.fenced)

    def size(self) -> int:
        """Return how many bytes of the disk the files took when they were looked at last. Safe for any thread."""
        return sum(execution.room.taken for execution in self._kept())

    def close(self) -> None:
        """Remove what is left to remove. What waits for a program is left undone."""
        self.remove_shipped()
        self.leave(self.fenced)
        self._ended.set()
        if not self._helpers:
            return
        self._thread.join(timeout=5.0)
        for _ in self._helpers:
            self._actions.put(None)
        self._helpers[-1].ended.wait(5.0)

    def _keep(self) -> None:
        pause = INTERVAL
        while not self._ended.wait(pause):
            pause = INTERVAL
            try:
                if self._keep_once():
                    pause = INTERVAL / 5
            except Exception:  # such as want of memory: nobody else looks
                self._log.exception("a look at the spool failed", action="look_failed")

    def _kept(self) -> list[Execution]:
        return [*self.live(), *(one for one, _ in self._over()), *self.fenced]

    def _keep_once(self) -> bool:
        """Returns whether a program floods the disk."""
        executions = self._kept()
        found = [self._look(execution) for execution in executions]
        if any(found):
            self._wake()
        if self._actions.qsize() <= len(executions):  # otherwise the helpers have enough to do
            for execution in executions:
                self._actions.put(execution.room.free)
            self._actions.put(abandoned.trim)
        self._relieve()
        return any(execution.room.floods for execution in executions)

    def _look(self, execution: Execution) -> bool:
        try:
            return execution.room.look()
        except Exception:  # the files of one execution must not stop the looks at those of others
            self._log.exception("a look at the spool failed", action="look_failed")
            return False

    def _relieve(self) -> None:
        """Start another helper if the last one waits. The one that waits ends afterwards."""
        self._helpers = [one for one in self._helpers if not one.ended.is_set()]
        last = self._helpers[-1] if self._helpers else None
        if last is None or (last.waits(time.monotonic()) and len(self._helpers) < MOST):
            with suppress(RuntimeError):  # the machine has no thread for it now
                self._help()
                if last is not None:
                    last.is_relieved = True

    def _help(self) -> None:
        helper = _Helper(self._actions, self._log)
        threads.begin(helper.run)
        self._helpers.append(helper)


class _Helper:
    """Does one action after the other, in a thread."""

    def __init__(self, actions: "SimpleQueue[Callable[[], None] | None]", log: Any) -> None:
        self.is_relieved = False
        self.ended = threading.Event()
        self._actions = actions
        self._log = log
        self._since: float | None = None

    def waits(self, now: float) -> bool:
        """Whether it has been busy with one action for long."""
        since = self._since
        return since is not None and now - since > PATIENCE

    def run(self) -> None:
        """Work until it is relieved."""
        while not self.is_relieved and (action := self._actions.get()) is not None:
            self._since = time.monotonic()
            try:
                action()
            except Exception:  # as above
                self._log.exception("files in the spool were not freed", action="free_failed")
            self._since = None
        self.ended.set()
