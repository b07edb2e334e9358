"""Limits of memory, CPU and processes by cgroup v2, in a part of the cgroup tree that is delegated to the worker.

Under systemd, ``Delegate=yes`` in the worker's unit delegates the unit's cgroup. A cgroup that passes controllers on to
its children must contain no process itself. So before the first limited program starts, the worker moves everything in
its cgroup into the child ``jobfac-worker``. Each limited program gets a child of its own beside it.
"""

import contextlib
import errno
import functools
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jobfac.machine.faults import fault_behind
from jobfac.programs.failures import StartError
from jobfac.programs.usage import Usage

LEAF = "jobfac-worker"
PREFIX = "jobfac-run-"
CONTROLLERS = {"memory": "memory", "cpu": "cpu", "processes": "pids"}
"""By limit, the controller that it needs."""

REFUSED = "this worker cannot enforce the job's limits: {why}; {remedy}, or remove limits from the job"
DELEGATE = "set Delegate=yes in the [Service] section of the worker's systemd unit and restart it"
PERIOD = 100_000  # microseconds in which a program may use its share of CPU time
MOST_TRIES = 100  # groups that are tried again at a start
REMOVE_FOR = 0.2  # seconds to wait until the kernel has removed the last process


class Limits(NamedTuple):
    """Limits of one program with its tree; None: no limit. ``memory`` in bytes, ``cpu`` in processors."""

    memory: int | None = None
    cpu: float | None = None
    processes: int | None = None

    def settings(self) -> dict[str, str]:
        """The contents of the control files, by name."""
        files: dict[str, str] = {}
        if self.memory is not None:
            files |= {"memory.max": str(self.memory), "memory.swap.max": "0", "memory.oom.group": "1"}
        if self.cpu is not None:
            files["cpu.max"] = f"{max(1000, round(self.cpu * PERIOD))} {PERIOD}"
        if self.processes is not None:
            files["pids.max"] = str(self.processes)
        return files


OPTIONAL = ("memory.swap.max", "memory.oom.group")
"""Control files that are missing in some kernels: those without swap accounting, and those before 4.19."""


class Group:
    """The cgroup of one program."""

    def __init__(self, folder: Path, left: "deque[Path] | None" = None) -> None:
        """``left``: takes the folder if it cannot be removed."""
        self._folder = folder
        self._left = left

    def enter(self, pid: int) -> None:
        """Move a process into the group. Processes that it starts later are in the group, too. Raises OSError."""
        (self._folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def usage(self, known: Usage) -> Usage:
        """What the whole group has used, by its control files; ``known``: what to return for files that are missing."""
        cpu, peak = known
        with contextlib.suppress(OSError, KeyError, ValueError):
            cpu = int(self._counters("cpu.stat")["usage_usec"]) / 1e6
        with contextlib.suppress(OSError, ValueError):
            peak = int((self._folder / "memory.peak").read_text(encoding="ascii"))  # since Linux 5.19
        return Usage(cpu, peak)

    def hit_memory_limit(self) -> bool:
        """Whether the kernel has killed a process of the group because of its memory limit, and not because the memory
        of the machine, or of a group above, was out."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            return self.was_killed_for_memory() and int(self._counters("memory.events")["oom"]) > 0
        return False

    def was_killed_for_memory(self) -> bool:
        """Whether the kernel has killed a process of the group because some memory was out."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            return int(self._counters("memory.events")["oom_kill"]) > 0
        return False

    def refused_processes(self) -> int:
        """How often the limit of processes has refused a new one."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            return int(self._counters("pids.events")["max"])
        return 0

    def remove(self) -> None:
        """Remove the group. One with living processes stays; the next groups' delegation, or a later worker, removes
        it."""
        end = time.monotonic() + REMOVE_FOR
        while True:
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or self._is_populated() or time.monotonic() > end:
                    if self._left is not None:
                        self._left.append(self._folder)
                    return
                time.sleep(0.001)
            else:
                return

    def _is_populated(self) -> bool:
        with contextlib.suppress(OSError, KeyError):
            return self._counters("cgroup.events")["populated"] == "1"
        return False

    def _counters(self, name: str) -> Mapping[str, str]:
        lines = (self._folder / name).read_text(encoding="ascii").splitlines()
        return dict(line.split(maxsplit=1) for line in lines if " " in line)


class Delegation:
    """The cgroup that is delegated to this worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared: set[str] | None = None
        self._left: deque[Path] = deque()  # groups of programs that have ended, with processes that they have left

    def group(self, name: str, limits: Limits) -> Group:
        """Make the cgroup of a program.

        Raises:
            StartError: a limit cannot be kept here. Its cause is an OSError if the machine may be at fault.
        """
        needed = {CONTROLLERS[limit] for limit, value in limits._asdict().items() if value is not None}
        missing = needed - self._prepare()
        if missing:
            raise _refused(f"its cgroup lacks the controller {', '.join(sorted(missing))}", DELEGATE)
        self._remove_left()
        folder = self._folder / f"{PREFIX}{name}"
        try:
            folder.mkdir(exist_ok=True)
            for file, text in limits.settings().items():
                self._set(folder / file, text)
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise _refused(f"{folder} cannot be set up ({error.strerror})", DELEGATE) from fault_behind(error)
        return Group(folder, self._left)

    def _remove_left(self) -> None:
        """Remove the groups that are empty by now. Otherwise a detached program would leave one for each run."""
        for _ in range(min(MOST_TRIES, len(self._left))):
            try:
                folder = self._left.popleft()
            except IndexError:  # another thread has it
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # something in it is alive
                self._left.append(folder)

    def _set(self, file: Path, text: str) -> None:
        try:
            file.write_text(text, encoding="ascii")
        except OSError:
            if file.name not in OPTIONAL:
                raise

    def _prepare(self) -> set[str]:
        """Make room for groups, once; returns the controllers that they have."""
        if self._prepared is not None:
            return self._prepared
        leaf = self._folder / LEAF
        try:
            leaf.mkdir(exist_ok=True)
            self._empty_into(leaf / "cgroup.procs")
            there = (self._folder / "cgroup.controllers").read_text(encoding="ascii").split()
            control = self._folder / "cgroup.subtree_control"
            wanted = sorted(set(CONTROLLERS.values()) & set(there))
            if wanted:
                control.write_text(" ".join(f"+{controller}" for controller in wanted), encoding="ascii")
            self._prepared = set(control.read_text(encoding="ascii").replace("+", "").split())
        except OSError as error:
            why = f"its cgroup {self._folder} cannot be divided ({error.strerror})"
            raise _refused(why, DELEGATE) from fault_behind(error)
        for old in self._folder.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):  # something in it is alive
                old.rmdir()
        return self._prepared

    def _empty_into(self, target: Path) -> None:
        """Move all processes. Several rounds, because one that is being moved may start another."""
        for _ in range(10):
            pids = (self._folder / "cgroup.procs").read_text(encoding="ascii").split()
            if not pids:
                return
            for pid in pids:
                try:
                    target.write_text(pid, encoding="ascii")
                except ProcessLookupError:
                    continue


def _refused(why: str, remedy: str) -> StartError:
    return StartError(REFUSED.format(why=why, remedy=remedy))


def own_folder(mounts: str, membership: str) -> Path | None:
    """The folder of a process's cgroup v2; None: there is none.

    Args:
        mounts: the content of its ``/proc/PID/mountinfo``.
        membership: the content of its ``/proc/PID/cgroup``.
    """
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if path is not None and after.split(" ", 1)[0] == "cgroup2":
            top, point = before.split()[3:5]
            below = path[len(top) :] if top != "/" and path.startswith(f"{top}/") else path
            folder = Path(point) / below.lstrip("/")
            return folder.parent if folder.name == LEAF else folder
    return None


def is_delegated(folder: Path) -> bool:
    """Whether this process may divide a cgroup.

    Root may write to every cgroup. Under systemd only the mark of ``Delegate=yes`` shows that it may use this one.
    """
    writable = (os.access(folder / name, os.W_OK) for name in (".", "cgroup.procs", "cgroup.subtree_control"))
    if not all(writable) or not (folder / "cgroup.type").exists():  # the root of the tree has no such file
        return False
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir():
        return True
    return any(_attribute(folder, name) == b"1" for name in ("user.delegate", "trusted.delegate"))


def _attribute(folder: Path, name: str) -> bytes:
    try:
        return os.getxattr(folder, name)
    except OSError:
        return b""


@functools.cache
def delegation() -> Delegation:
    """The cgroup that is delegated to this process. Found once: the process moves into a child of it.

    Raises:
        StartError: there is none. Its cause is an OSError if the machine may be at fault.
    """
    try:
        folder = own_folder(
            Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"),
            Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape"),
        )
    except FileNotFoundError:
        folder = None
    except OSError as error:
        why = f"its cgroup cannot be found ({error.strerror})"
        raise _refused(why, "repair this machine") from fault_behind(error)
    if folder is None:
        raise _refused("this machine has no cgroup v2", "run it on a worker on Linux with cgroup v2")
    if not is_delegated(folder):
        raise _refused("its cgroup is not delegated to it", DELEGATE)
    return Delegation(folder)
