"""Whether this machine lets the worker start programs: a full disk or too many open files are no run's fault."""

import errno
import os
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobfac.programs import NO_ROOM, room_for_programs
from jobfac.worker.machine import Machine

FIRST_PAUSE = 1.0
"""Seconds after the first fault until the machine is examined; doubled with each fault that follows."""

LONGEST_PAUSE = 60.0

PROBE = 64 * 1024
"""Bytes that must fit into the spool folder for the worker to be well."""


class Condition(StrEnum):
    """What is known of the machine."""

    WELL = "well"
    UNHEALTHY = "unhealthy"  # nothing is claimed
    PROBATION = "probation"  # the fault has gone; one run is claimed, and if it starts all is well


MOVES: dict[Condition, frozenset[Condition]] = {
    Condition.WELL: frozenset({Condition.UNHEALTHY}),
    Condition.UNHEALTHY: frozenset({Condition.PROBATION}),
    Condition.PROBATION: frozenset({Condition.WELL, Condition.UNHEALTHY}),
}


class Health:
    """Owned by the worker's loop. Times are monotonic seconds.

    Attributes:
        retry_at: when the machine is to be examined again; None: it is not known to be ill.
    """

    def __init__(self, log: Any) -> None:
        """``log``: the worker's."""
        self.retry_at: float | None = None
        self._log = log
        self._machine = Machine(Condition.WELL, MOVES)
        self._pause = FIRST_PAUSE
        self._message = ""  # for the fleet; empty: the worker is well
        self._shown = ""  # in the fleet
        self._warned = False

    @property
    def condition(self) -> Condition:
        """What is known of the machine."""
        return self._machine.state

    @property
    def is_unhealthy(self) -> bool:
        """Whether nothing is to be started."""
        return self.condition == Condition.UNHEALTHY

    def to_show(self) -> str | None:
        """What the fleet is to show of this worker, empty if it is well; None: the fleet shows it already."""
        return None if self._message == self._shown else self._message

    def shown(self, message: str) -> None:
        """The fleet shows this."""
        self._shown = message

    def room(self, free: int, running: int, now: float) -> int:
        """How many of the free slots have the descriptors that a program needs; ``running``: how many programs run."""
        room = min(free, room_for_programs()) if free > 0 else free
        if room < free and room + running == 0:
            self.fault("too many open files in this worker", now)
        elif room < free and not self._warned:
            self._warned = True
            self._log.warning("not all slots can be used", action="few_descriptors", reason=NO_ROOM, slots=free)
        return room

    def slots(self, free: int) -> int:
        """How many of the free slots may be claimed for."""
        most = {Condition.UNHEALTHY: 0, Condition.PROBATION: 1}.get(self.condition, free)
        return min(free, most)

    def fault(self, what: str, now: float) -> None:
        """A start failed by the machine's fault, such as `no space in /spool`."""
        self._message = f"unhealthy: {what}"
        if self.is_unhealthy:
            return
        self._log.error(
            "a program cannot be started; nothing is claimed until the machine is well",
            action="worker_unhealthy",
            reason=self._message,
            seconds=self._pause,
        )
        self._machine.move(Condition.UNHEALTHY)
        self.retry_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def started(self) -> None:
        """A program was started."""
        if self.condition == Condition.PROBATION:
            self._machine.move(Condition.WELL)
            self._pause = FIRST_PAUSE

    def examined(self, fault: str | None, now: float) -> None:
        """The machine was examined; ``fault``: what is still wrong with it."""
        if fault is not None:
            self._message = f"unhealthy: {fault}"
            self._log.error("still unhealthy", action="worker_unhealthy", reason=self._message, seconds=self._pause)
            self.retry_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._log.info("the machine is well again", action="worker_healthy")
            self._machine.move(Condition.PROBATION)
            self._message, self.retry_at = "", None

    def look_again(self, folder: Path, now: float) -> bool:
        """After a fault, examine the machine when it is time; returns whether claims may go on.

        Args:
            folder: the worker's in the spool.
        """
        if self.retry_at is None or now < self.retry_at:
            return False
        self.examined(examine(folder), now)
        return not self.is_unhealthy


def machine_fault(error: BaseException, folder: Path) -> str | None:
    """What is wrong with the machine, if this error of a start, or its cause, says so; ``folder``: of the spool."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError):
        return None
    return {
        errno.ENOSPC: f"no space in {folder}",
        errno.EDQUOT: f"no space in {folder} (quota)",
        errno.EMFILE: "too many open files in this worker",
        errno.ENFILE: "too many open files on this machine",
        errno.EAGAIN: "no more processes can be started",
        errno.ENOMEM: "out of memory",
    }.get(cause.errno or 0)


def examine(folder: Path) -> str | None:
    """What is wrong with the machine now: whether files fit into the spool and a program can be started."""
    path = folder / "probe"
    try:
        if room_for_programs() == 0:
            return "too many open files in this worker"
        try:
            with path.open("wb", buffering=0) as file:
                file.write(bytes(PROBE))
                if file.tell() < PROBE:
                    return f"no space in {folder}"
        finally:
            path.unlink(missing_ok=True)
        # In the worker's own session, and so neither taken for a program's orphan nor reaped by anyone else.
        subprocess.run(
            ["/bin/sh", "-c", ":"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False, timeout=10, env={"PATH": os.defpath},
        )  # fmt: skip
    except FileNotFoundError:
        return None  # somebody removed the folder; the next start makes it again
    except OSError as error:
        return machine_fault(error, folder) or f"{error.strerror or error}"
    except subprocess.TimeoutExpired:
        return "a program does not end within 10 s"
    return None
