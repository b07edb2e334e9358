"""Detects faults of the machine that prevent starts, such as a full disk or too many open files."""

import errno
import os
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobfac.machine.disk import FAILING
from jobfac.machine.faults import PassingFault
from jobfac.programs import (
    NO_ROOM,
    InstallationFault,
    check_installation,
    descriptor_limit,
    file_in_the_way,
    room_for_programs,
)
from jobfac.programs.files.accounts import UserInDoubt
from jobfac.store.workers.draining import LEAVING
from jobfac.store.workers.suspects import ISOLATING
from jobfac.worker.machine import Machine

FIRST_PAUSE = 1.0
"""Seconds between the first fault and the next examination of the machine. The pause doubles with each fault."""

LONGEST_PAUSE = 60.0

AMPLE = 10
"""If there are descriptors for so many times the programs that are wanted, they are not counted again for a second,
unless the limit changes."""

PROBE = 64 * 1024
"""Bytes that must fit into the spool folder for the worker to be healthy."""


DISK = FAILING | {errno.EROFS}
"""Faults of the disk on which the spool folder lies. ``examine`` finds them, too."""


class Condition(StrEnum):
    """The condition of the machine."""

    WELL = "well"
    UNHEALTHY = "unhealthy"  # nothing is claimed
    PROBATION = "probation"  # the fault is gone; one run is claimed, and if it starts, the machine is well


MOVES: dict[Condition, frozenset[Condition]] = {
    Condition.WELL: frozenset({Condition.UNHEALTHY}),
    Condition.UNHEALTHY: frozenset({Condition.PROBATION}),
    Condition.PROBATION: frozenset({Condition.WELL, Condition.UNHEALTHY}),
}


class Health:
    """The health of the machine. Only the worker's loop uses it. Times are monotonic seconds.

    Attributes:
        retry_at: when to examine the machine again; None: no fault is known.
    """

    def __init__(self, log: Any) -> None:
        """``log``: the worker's logger."""
        self.retry_at: float | None = None
        self._log = log
        self._machine = Machine(Condition.WELL, MOVES)
        self._pause = FIRST_PAUSE
        self._message = ""  # the fault to store; empty: the worker is healthy
        self._overload = ""  # why the machine is too loaded for more programs; empty: it is not
        self._leaving = ""  # that the worker drains; empty: it does not
        self._isolation = ""  # that a run has to run alone; empty: none has
        self._shown = ""  # the message that is stored
        self._warned = False
        self._ample_until = 0.0
        self._limit = 0  # of descriptors, as of then

    @property
    def condition(self) -> Condition:
        """The current condition of the machine."""
        return self._machine.state

    @property
    def is_unhealthy(self) -> bool:
        """Whether the worker must not start programs."""
        return self.condition == Condition.UNHEALTHY

    def to_show(self) -> str | None:
        """Return why this worker claims nothing, to be stored; empty: it claims. None: it is stored already."""
        message = self._leaving or self._message or self._overload or self._isolation
        return None if message == self._shown else message

    def isolates(self, isolates: bool) -> None:
        """Record whether the worker claims nothing because of a run that has to run alone."""
        self._isolation = ISOLATING if isolates else ""

    def shown(self, message: str | None) -> None:
        """Record that this message is stored; None: nothing was to be stored."""
        self._shown = self._shown if message is None else message

    def leaves(self, still_runs: bool) -> None:
        """Record that a signal drains the worker, so that others leave no runs to it and a heavy run does not wait for
        its slots. ``still_runs``: it was told to drain and holds runs. Without runs it leaves at once."""
        self._leaving = LEAVING if still_runs else self._leaving

    def room(self, free: int, running: int, now: float) -> int:
        """Return for how many of ``free`` more programs there are enough file descriptors.

        ``running``: how many programs run.
        """
        limit = descriptor_limit()
        if free <= 0 or (now < self._ample_until and limit == self._limit):
            return free
        room, self._limit = room_for_programs(), limit
        self._ample_until = now + 1.0 if room >= AMPLE * (free + running) else 0.0
        room = min(free, room)
        if room < free and room + running == 0:
            self.fault("too many open files in this worker", now)
        elif room < free and not self._warned:
            self._warned = True
            self._log.warning("not all slots can be used", action="few_descriptors", reason=NO_ROOM, slots=free)
        return room

    def starts(self, most: int) -> int:
        """Return how many of up to ``most`` runs the worker may claim."""
        if self._overload:
            return 0
        return min(most, {Condition.UNHEALTHY: 0, Condition.PROBATION: 1}.get(self.condition, most))

    def fault(self, what: str, now: float) -> None:
        """Record that a start failed because of the machine. ``what``: the fault, such as `no space in /spool`."""
        self._message = f"unhealthy: {what}"
        if self.is_unhealthy:
            return
        self._log.error(
            "a program cannot be started; nothing is claimed until the machine has recovered",
            action="worker_unhealthy",
            reason=self._message,
            seconds=self._pause,
        )
        self._machine.move(Condition.UNHEALTHY)
        self.retry_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def loaded(self, overload: str) -> None:
        """Record why the machine is too loaded for more programs; empty: it is not. The first reason is kept."""
        if overload and not self._overload:
            self._log.warning(overload, action="worker_overloaded")
        elif self._overload and not overload:
            self._log.info("the machine has free resources again", action="worker_relieved")
        self._overload = overload and (self._overload or overload)

    def started(self) -> None:
        """Record that a program was started. This ends a probation."""
        if self.condition == Condition.PROBATION:
            self._machine.move(Condition.WELL)
            self._pause = FIRST_PAUSE

    def examined(self, fault: str | None, now: float) -> None:
        """Record the result of an examination; ``fault``: the fault that remains, None: the machine is well."""
        if fault is not None:
            self._message = f"unhealthy: {fault}"
            self._log.error("still unhealthy", action="worker_unhealthy", reason=self._message, seconds=self._pause)
            self.retry_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._log.info("the machine has recovered", action="worker_healthy")
            self._machine.move(Condition.PROBATION)
            self._message, self.retry_at = "", None

    def recheck(self, folder: Path, now: float) -> bool:
        """After a fault, examine the machine when it is time; returns whether the worker may claim again.

        Args:
            folder: the worker's spool folder.
        """
        if self.retry_at is None or now < self.retry_at:
            return False
        self.examined(examine(folder), now)
        return not self.is_unhealthy


def machine_fault(error: BaseException, folder: Path) -> str | None:
    """Return the machine's fault that caused this error of a start, or None.

    Args:
        error: an OSError concerns a file in the spool folder; that of a program or of a file that the job names is the
            cause of another error.
        folder: the spool folder.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return None
    if isinstance(cause, InstallationFault):
        return str(cause)
    if cause is error and cause.errno in DISK:
        return f"{os.strerror(cause.errno).lower()} in {folder}"
    return {
        errno.ENOSPC: f"no space in {folder}",
        errno.EDQUOT: f"no space in {folder} (quota)",
        errno.EMFILE: "too many open files in this worker",
        errno.ENFILE: "too many open files on this machine",
        errno.EAGAIN: "no more processes can be started",
        errno.ENOMEM: "out of memory",
    }.get(cause.errno or 0)


def passes(error: BaseException) -> bool:
    """Whether a later start may succeed although this one has failed and the machine is well. The run is put off."""
    cause = error.__cause__
    return isinstance(cause, UserInDoubt | PassingFault) or (
        isinstance(cause, OSError) and cause.errno == errno.ETXTBSY
    )


def examine(folder: Path) -> str | None:
    """Test whether files fit into the spool and a program can be started; returns the fault, or None."""
    path = folder / "probe"
    try:
        check_installation()
        if room_for_programs() == 0:
            return "too many open files in this worker"
        try:
            with path.open("wb", buffering=0) as file:
                file.write(bytes(PROBE))
                if file.tell() < PROBE:
                    return f"no space in {folder}"
        finally:
            path.unlink(missing_ok=True)
        # It runs in the worker's own session, so the sweep for orphans neither adopts nor reaps it.
        subprocess.run(
            ["/bin/sh", "-c", ":"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False, timeout=10, env={"PATH": os.defpath},
        )  # fmt: skip
    except FileNotFoundError:
        return None  # the folder was removed; the next start creates it again
    except NotADirectoryError:
        return file_in_the_way(folder)
    except OSError as error:
        return machine_fault(error, folder) or f"{(error.strerror or str(error)).lower()}: {error.filename or folder}"
    except subprocess.TimeoutExpired:
        return "a program does not end within 10 s"
    return None
