"""The children of this process: programs that it started, helpers, and orphans that it adopted.

On Linux a worker adopts the processes that its programs leave behind (it is a 'child subreaper'). Every living
descendant of a dead program is then a descendant of a process that this process adopted. So when a program has ended,
the kernel's list of this process's children shows whether any process of it is left, without a search of all processes.
"""

import contextlib
import ctypes
import os
import signal
import stat
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from jobfac.programs.failures import StartError
from jobfac.programs.files.becoming import File
from jobfac.programs.reading import read_each
from jobfac.programs.tree import mark_of, markers, user_of
from jobfac.programs.usage import Meter

PR_SET_CHILD_SUBREAPER = 36

Dead = list[str | None]
"""The markers of dead orphans; None: it is not known whose one was."""

SWEEPS = 4
"""Sweeps at most for one decision. A daemon forks two or three times."""

SELF = "/proc/self"
"""Names the PID of the process that reads it, if /proc belongs to its PID namespace."""


class Started(Protocol):
    """The properties of a started program that identify its orphans."""

    pid: int
    marker: str
    meter: Meter
    user: int

    @property
    def outputs(self) -> frozenset[File]:
        """The regular files that its output goes to."""


class Children:
    """The child processes; one instance per operating system process.

    A caller that needs a consistent result of two calls holds the lock during both.
    """

    def __init__(self) -> None:
        # Held while a child is started, reaped or signalled, so a PID is not reused in between.
        self.lock = threading.RLock()
        self._programs: dict[int, Started] = {}
        self._helpers: set[int] = set()
        self._users: set[int] = set()  # other users, as which programs were started
        self._earlier: set[int] = set()  # children that existed before the adoption began
        self._orphans: dict[int, str | None] = {}
        # Of ended programs with orphans. A meter lasts as long as its owner, a ``Process``.
        self._meters: WeakValueDictionary[str, Meter] = WeakValueDictionary()
        self._list: int | None = None
        self._fault: OSError | None = None

    def failed(self, error: OSError) -> None:
        """Record that the machine could not show its processes. What depends on it is done later."""
        self._fault = error

    def take_fault(self) -> OSError | None:
        """Return why a look at processes failed since the last call; None: none did."""
        fault, self._fault = self._fault, None
        return fault

    @property
    def adopting(self) -> bool:
        """Whether this process adopts orphans."""
        return self._list is not None

    def become_subreaper(self) -> bool:
        """Adopt the processes that programs leave behind. A repeated call does nothing.

        Returns False if the system does not support it.
        """
        with self.lock:
            if self._list is None and sys.platform == "linux":
                # The kernel assigns orphans to the first living thread, which is the main thread.
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
        if program.user != os.geteuid():
            self._users.add(program.user)

    def remove_program(self, program: Started) -> None:
        """Call after a sweep that followed the end of the program."""
        self._programs.pop(program.pid, None)
        if program.marker in self._orphans.values():
            self._meters[program.marker] = program.meter

    def _meter(self, marked: str | None) -> Meter | None:
        living = (program.meter for program in self._programs.values() if program.marker == marked)
        return next(living, None) or self._meters.get(marked or "")

    def holds(self, program: Started) -> bool:
        """Whether the program is not reaped yet. Then its PID cannot be reused."""
        return self._programs.get(program.pid) is program

    def add_helper(self, pid: int) -> None:
        """Register a child with its own session that is neither a program nor an orphan."""
        self._helpers.add(pid)

    def remove_helper(self, pid: int) -> None:
        self._helpers.discard(pid)

    def try_sweep(self) -> Dead:
        """Call ``sweep``, unless the machine cannot show its processes now (see ``failed``)."""
        try:
            return self.sweep()
        except OSError as error:
            self.failed(error)
            return []

    def sweep(self) -> Dead:
        """Record new orphans and reap the ended ones. This process adopts their children, which the next call finds.

        Raises:
            OSError: the machine cannot show its processes now. Nothing was done.
        """
        with self.lock:
            if self._list is None:
                return []
            self._adopt()
            return self._reap()

    def sweep_for(self, programs: Sequence[Started]) -> None:
        """Sweep before it is decided whether these programs have left something.

        Once more, while one of them may have: an orphan was dead that may be its own, as of a daemon that forks twice,
        and no other is there. Dead ones of other programs count for nothing: these may fork and end for ever.

        Raises:
            OSError: as ``sweep``.
        """
        for _ in range(SWEEPS):
            dead = set(self.sweep())
            if not any({program.marker, None} & dead and not self.orphans(program) for program in programs):
                return

    def _adopt(self) -> None:
        here = os.getsid(0)
        listed = self._listed()
        self._earlier &= listed
        sessions = {}
        for pid in listed - self._programs.keys() - self._helpers - self._earlier - self._orphans.keys():
            with contextlib.suppress(ProcessLookupError):
                sessions[pid] = os.getsid(pid)
        # A child in our own session was started by another part of this process, which reaps it itself.
        if fresh := {pid: session for pid, session in sessions.items() if session != here}:
            self._orphans |= self._owners(fresh)

    def _reap(self) -> Dead:
        dead: Dead = []
        for pid in list(self._orphans):
            try:
                done, _, used = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:
                del self._orphans[pid]
                continue
            if done == pid:
                dead.append(marked := self._orphans.pop(pid))
                meter = self._meter(marked)
                if meter is not None:
                    meter.add_orphan(used)
        return dead

    def orphans(self, owner: Started | None) -> list[int]:
        """Return the adopted processes of this program; with None, those of unknown origin."""
        if owner is None:
            return [pid for pid, marked in self._orphans.items() if marked is None]
        by_marker: dict[str, list[int]] = {}
        for pid, name in self._orphans.items():
            by_marker.setdefault(name or "", []).append(pid)
        return self.marked(owner, by_marker)

    def marked(self, program: Started, by_marker: Mapping[str, Sequence[int]]) -> list[int]:
        """Return the PIDs of the processes with the marker or the mark of a program, as ``tree.marked``.

        Every user may read a mark and copy it. Processes of others with the mark of this program would keep it from
        ending. So a mark does not count if the process can be none of the program's by its user.
        """
        mark = mark_of(program.marker)
        by_mark = () if mark == program.marker else by_marker.get(mark, ())
        return [*by_marker.get(program.marker, ()), *(pid for pid in by_mark if self._may_be_of(program, pid))]

    def _may_be_of(self, program: Started, pid: int) -> bool:
        """Whether a process may be one of a program by its user. Of a program of root it may have become any user,
        except one as which other programs were started."""
        user = user_of(pid) if self._users else None
        return user is None or user == program.user or user not in self._users

    def _listed(self) -> set[int]:
        assert self._list is not None
        text = b""
        while part := os.pread(self._list, 65536, len(text)):
            text += part
        return {int(word) for word in text.split()}

    def _owners(self, sessions: Mapping[int, int]) -> dict[int, str | None]:
        """Return by orphan the marker of its execution, found by its marker, its session, or its output file.

        ``sessions``: the session of each. Nothing but that is left of a dead one, and there may be thousands.
        """
        living = [pid for pid in sessions if not is_dead(pid)]
        known = {program.marker for program in self._programs.values()}
        by_mark = {mark_of(program.marker): program for program in self._programs.values()}
        own: dict[int, str] = {}
        for pid, name in markers(living).items():
            marked = by_mark.get(name)
            if marked is None or self._may_be_of(marked, pid):
                own[pid] = name if marked is None else marked.marker
        found = {
            pid: own.get(pid) if own.get(pid) in known else self._programs[session].marker
            for pid, session in sessions.items()
            if own.get(pid) in known or session in self._programs
        }
        held = read_each(outputs_of, user_of, [pid for pid in living if pid not in found])
        for pid in sessions.keys() - found.keys():
            files = held.get(pid, set())
            owners = [
                program.marker
                for program in self._programs.values()
                if program.outputs & files and self._may_be_of(program, pid)
            ]
            found[pid] = owners[0] if len(owners) == 1 else own.get(pid)
        return found


def is_dead(pid: int) -> bool:
    """Whether a child has ended. It is not reaped. Also if somebody else has reaped it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def outputs_of(pid: int) -> set[File]:
    """Return the regular files to which a process writes its output.

    A file that it only reads does not count: every user may be allowed to read the output file of a job.
    """
    places = (f"/proc/{pid}/fd/{number}" for number in (1, 2))
    return {file for place in places if _is_written(place) and (file := regular_file(place))}


def _is_written(place: str) -> bool:
    try:
        return bool(os.lstat(place).st_mode & stat.S_IWUSR)  # the kernel shows there how the file was opened
    except OSError:
        return False


def regular_file(file: int | str) -> File | None:
    """Return device and inode of an open file or a path; None if it is not a regular file or does not exist."""
    try:
        found = os.stat(file)  # noqa: PTH116 (descriptors too)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def do_nothing(number: int, frame: object) -> None:
    """A signal handler that does nothing. Unlike SIG_IGN, programs do not inherit it."""


def unignore_signals() -> None:
    """Let programs start with default signal handling, even if this process ignores signals (nohup, a shell's `&`).

    Called once, by the main thread. Ignored signals get a handler that does nothing: this process still ignores them,
    and exec resets the handler. An ignored SIGCHLD would lose exit codes, so it gets the default handling. (Every start
    restores SIGPIPE and SIGXFSZ.)
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, do_nothing)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


children = Children()


def become_subreaper() -> bool:
    """Adopt orphans in this process; called once by the worker. See `Children.become_subreaper`.

    Raises:
        StartError: /proc does not show the processes that this one starts, so none of them could be stopped.
    """
    _check_process_table()
    return children.become_subreaper()


def _check_process_table() -> None:
    if sys.platform != "linux":
        return
    try:
        shown = os.readlink(SELF)  # noqa: PTH115 (a PID, not a path)
    except OSError:
        shown = ""
    if shown != str(os.getpid()):
        raise StartError(
            "/proc is not mounted, or it is that of another PID namespace, so no program could be stopped; mount it in "
            "this worker's namespace (mount -t proc proc /proc, unshare --mount-proc)"
        )
