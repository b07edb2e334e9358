"""The children of this process: programs that it started, helpers, and orphans that it adopted.

On Linux a worker makes itself the parent of whatever its programs leave behind (a 'child subreaper'). So when a program
has ended, the kernel's list of our children says whether anything of it is left, and the machine need not be searched:
every living descendant of a dead program hangs below a process that was handed to us.
"""

import ctypes
import os
import signal
import stat
import sys
import threading
from typing import Protocol

from jobfac.programs.tree import marker

PR_SET_CHILD_SUBREAPER = 36

File = tuple[int, int]  # device and inode


class Started(Protocol):
    """What must be known of a started program to recognise its orphans."""

    pid: int
    marker: str
    outputs: frozenset[File]


class Children:
    """One to each operating system process. Whoever needs two calls to agree holds the lock over both."""

    def __init__(self) -> None:
        # Held while a child is born, reaped or signalled, so that a number never changes its owner in between.
        self.lock = threading.RLock()
        self._programs: dict[int, Started] = {}
        self._helpers: set[int] = set()
        self._earlier: set[int] = set()  # children from before we adopted
        self._orphans: dict[int, str | None] = {}
        self._list: int | None = None

    @property
    def adopting(self) -> bool:
        """Whether orphans come to us."""
        return self._list is not None

    def become_subreaper(self) -> bool:
        """Adopt what programs leave behind; False where the system does not offer it. Harmless when repeated."""
        with self.lock:
            if self._list is None and sys.platform == "linux":
                # The kernel hands orphans to the first living thread, which is the main thread.
                try:
                    listing = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
                except OSError:
                    return False
                if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
                    os.close(listing)
                    return False
                self._list = listing
                self._earlier = self._listed()
            return self.adopting

    def add_program(self, program: Started) -> None:
        self._programs[program.pid] = program

    def remove_program(self, program: Started) -> None:
        self._programs.pop(program.pid, None)

    def holds(self, program: Started) -> bool:
        """Whether the program is not yet reaped, so that its number is still its own."""
        return self._programs.get(program.pid) is program

    def add_helper(self, pid: int) -> None:
        """A child with a session of its own that is neither a program nor an orphan."""
        self._helpers.add(pid)

    def remove_helper(self, pid: int) -> None:
        self._helpers.discard(pid)

    def sweep(self) -> None:
        """Take note of new orphans and reap the dead ones."""
        with self.lock:
            if self._list is None:
                return
            here = os.getsid(0)
            listed = self._listed()
            self._earlier &= listed
            for pid in listed - self._programs.keys() - self._helpers - self._earlier - self._orphans.keys():
                try:
                    session = os.getsid(pid)
                except ProcessLookupError:
                    continue
                # A child in our own session was started by some other part of this process, which will reap it itself.
                if session != here:
                    self._orphans[pid] = self._owner(pid, session)
            for pid in list(self._orphans):
                try:
                    gone = os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    gone = True
                if gone:
                    del self._orphans[pid]

    def orphans(self, owner: str | None) -> list[int]:
        """Adopted processes of the execution with this marker, or with None those that could not be attributed."""
        return [pid for pid, marked in self._orphans.items() if marked == owner]

    def _listed(self) -> set[int]:
        assert self._list is not None
        text = b""
        while part := os.pread(self._list, 65536, len(text)):
            text += part
        return {int(word) for word in text.split()}

    def _owner(self, pid: int, session: int) -> str | None:
        """Whose orphan this is: by its marker, else its session, else the output file that it still holds."""
        carried = marker(pid)
        if any(program.marker == carried for program in self._programs.values()):
            return carried
        if session in self._programs:
            return self._programs[session].marker
        held = {file for number in (1, 2) if (file := regular_file(f"/proc/{pid}/fd/{number}"))}
        owners = [program.marker for program in self._programs.values() if program.outputs & held]
        return owners[0] if len(owners) == 1 else carried


def regular_file(file: int | str) -> File | None:
    """Device and inode of an open file or a path; None for devices, pipes and what is gone."""
    try:
        found = os.stat(file)  # noqa: PTH116 (descriptors too)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def do_nothing(number: int, frame: object) -> None:
    """A signal handler that ignores; unlike 'ignored', it is not inherited by programs."""


def unignore_signals() -> None:
    """Let programs start with default signals although this process was told to ignore some (nohup, a shell's `&`).

    Called once, by the main thread. Ignored signals get a handler that does nothing: the same for us, and reset by
    exec. An ignored SIGCHLD would lose exit codes and becomes the default. (Every start restores SIGPIPE and SIGXFSZ.)
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, do_nothing)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


children = Children()


def become_subreaper() -> bool:
    """Called once by the worker: see `Children.become_subreaper`."""
    return children.become_subreaper()


def unattributed_orphans() -> list[int]:
    """Living processes that some program left behind and of which nothing tells whose they were.

    They wiped their environment, opened a session of their own, gave up their output file, and their parent ended
    before anyone looked. They are reaped when they end, but never signalled.
    """
    with children.lock:
        children.sweep()
        return children.orphans(None)
