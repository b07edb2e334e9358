"""Finds the processes of an execution, and kills them until none is left.

A program starts in its own session. Its tree consists of that session, all descendants, the sessions that they opened,
and every process with the execution's marker in its environment, or with its mark if that cannot be read. This module
imports little, because the guardian runs it, too.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

if sys.platform == "linux":
    from jobfac.programs.procfs import Entry, entries, entry, mark_of, markers, now, send, tracer_of, user_of
else:
    from jobfac.programs.portable import entries, entry, mark_of, markers, now, send, tracer_of, user_of
    from jobfac.programs.procfs import Entry

__all__ = [
    "Entry",
    "Looks",
    "Table",
    "entry",
    "kill_found",
    "kill_marked",
    "mark_of",
    "marked",
    "markers",
    "now",
    "refuses_signals",
    "send",
    "tracer_of",
    "user_of",
]

Program = TypeVar("Program")

PAUSE = 0.005  # seconds after a search that found no new process

LONG = 10.0
"""Seconds after which a search for further processes ends. Somebody outside of the tree, who uses its marker, could
start new ones without end."""


class Table:
    """A snapshot of all processes of the machine."""

    def __init__(self, found: dict[int, Entry]) -> None:
        self.entries = found
        self._children: dict[int, list[int]] = {}
        self._sessions: dict[int, list[int]] = {}
        for one in found.values():
            self._children.setdefault(one.parent, []).append(one.pid)
            self._sessions.setdefault(one.session, []).append(one.pid)

    @classmethod
    def read(cls) -> "Table":
        return cls(entries())

    def holds(self, pid: int, start: int) -> bool:
        """Whether exactly this process is in the table, and not another one with the same PID."""
        found = self.entries.get(pid)
        return found is not None and found.start == start

    def pids_by_marker(self, since: int = 0, known: Collection[str] = ()) -> dict[str, list[int]]:
        """Return by marker, or by mark, the PIDs of processes that started at `since` (clock ticks) or later.

        ``known``: marks that identify a process without a look at its environment (see ``procfs.markers``).
        """
        found: dict[str, list[int]] = {}
        pids = [one.pid for one in self.entries.values() if one.start >= since]
        for pid, its_marker in markers(pids, known).items():
            found.setdefault(its_marker, []).append(pid)
        return found

    def family(self, seeds: Iterable[int], sessions: Iterable[int] = ()) -> dict[int, Entry]:
        """Return the living processes among the seeds, their descendants, and the sessions of all of these, by PID.

        A session does not count if its leader is alive and not in the family: the session was inherited, or its number
        was reused. This process is never included.
        """
        found: set[int] = set()
        open_sessions = set(sessions)
        waiting = [pid for pid in seeds if pid in self.entries]
        while True:
            while waiting:
                pid = waiting.pop()
                if pid in found or pid == os.getpid():
                    continue
                found.add(pid)
                open_sessions.add(self.entries[pid].session)
                waiting += self._children.get(pid, ())
            for session in list(open_sessions):
                # Session 0 has its leader outside this PID namespace.
                if session and (session in found or session not in self.entries):
                    open_sessions.discard(session)
                    waiting += (pid for pid in self._sessions.get(session, ()) if pid not in found)
            if not waiting:
                return {pid: self.entries[pid] for pid in found if not self.entries[pid].dead}


class Looks(Generic[Program]):
    """Limits how often the worker looks at the processes that programs have left. Each look reads the whole table.

    With thousands of processes a look takes a second. The worker's loop must not do nothing else, or its lease ends and
    the programs of all users are killed. So one look is for all programs, and looks take a small part of the time,
    except for the first one at a program. What a program has left is noticed to have ended later then.
    """

    PART = 10
    """Looks take at most one part in so many of the time."""

    LONGEST = 15.0
    """Seconds between two looks at most: a worker that stood still during one has not learned how long they take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at: WeakKeyDictionary[Program, bool] = WeakKeyDictionary()
        self._next = 0.0

    def add(self, program: Program) -> None:
        """Call when a program has ended and left processes. The next look at another one is its first, too."""
        self._looked_at[program] = False

    def due(self, program: Program) -> list[Program]:
        """Return the programs to look at now, with this one; empty: it is too early."""
        if self._looked_at.setdefault(program, False) and self._clock() < self._next:
            return []
        return list(self._looked_at)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Take the time of a look at all of them inside the block. One that fails is repeated."""
        began = self._clock()
        yield
        now = self._clock()
        self._next = now + min(self.PART * (now - began), self.LONGEST)
        for program in list(self._looked_at):
            self._looked_at[program] = True

    def forget(self, program: Program) -> None:
        """Call when a program has left nothing any more."""
        self._looked_at.pop(program, None)


def marked(by_marker: Mapping[str, Sequence[int]], marker: str) -> list[int]:
    """Return the PIDs of the processes with this marker or its mark, from a result of ``Table.pids_by_marker``."""
    return [pid for name in {marker, mark_of(marker)} for pid in by_marker.get(name, ())]


def kill_found(find: Callable[[], Iterable[Entry]], seconds: float = LONG) -> int:
    """Kill the processes that `find` returns, until two calls in a row return no new one; returns how many were killed.

    One call is not enough, because it may miss a process that started while the table was read, and that process may
    fork. A process that has received KILL cannot fork, so the loop soon ends; at the latest after so many `seconds`.
    """
    end = time.monotonic() + seconds
    killed: set[tuple[int, int]] = set()
    number = 0
    calls_without_new = 0
    while calls_without_new < 2 and time.monotonic() < end:
        new = [one for one in find() if (one.pid, one.start) not in killed]
        for one in new:
            killed.add((one.pid, one.start))
            number += send(one.pid, one.start, signal.SIGKILL)
        if new:
            calls_without_new = 0
        else:
            calls_without_new += 1
            time.sleep(PAUSE)
    return number


def kill_marked(*prefixes: str) -> int:
    """Kill all trees on this machine whose marker is one of these, or begins with one and a slash; returns how many
    processes were killed.

    Used for the programs that a dead worker and its dead guardian left running. It finds only processes that this user
    may read and signal.
    """
    starts = tuple(f"{one.rstrip('/')}/" for one in prefixes)
    known = {mark_of(one) for one in prefixes}

    def find() -> Iterable[Entry]:
        table = Table.read()
        found = table.pids_by_marker(known=known)
        whole = [pid for name, pids in found.items() if f"{name}/".startswith(starts) for pid in pids]
        by_mark = [pid for one in prefixes for pid in marked(found, one)]
        return table.family([*whole, *by_mark]).values()

    return kill_found(find)


def refuses_signals(pid: int) -> bool:
    """Whether this user may not signal a process, because it has become another user."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
