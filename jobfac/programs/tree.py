"""Which processes belong to an execution, and killing them until none is left.

A program starts in a session of its own. Its tree is that session, all descendants, the sessions that they opened, and
every process that carries the execution's marker in its environment. Little is imported here, because the guardian runs
this too.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

if sys.platform == "linux":
    from jobfac.programs.procfs import Entry, entries, entry, marker, now, send
else:
    from jobfac.programs.portable import entries, entry, marker, now, send
    from jobfac.programs.procfs import Entry

__all__ = ["Entry", "Table", "entry", "hunt", "kill_marked", "marker", "now", "send"]

PAUSE = 0.005  # seconds between two looks that find nothing new


class Table:
    """One look at all processes of the machine."""

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
        """Whether this very process is in the table, and not another one with its number."""
        found = self.entries.get(pid)
        return found is not None and found.start == start

    def carriers(self, since: int = 0) -> dict[str, list[int]]:
        """Processes by the marker that they carry, among those that started at `since` (clock ticks) or later."""
        found: dict[str, list[int]] = {}
        for one in self.entries.values():
            if one.start >= since and (carried := marker(one.pid)) is not None:
                found.setdefault(carried, []).append(one.pid)
        return found

    def family(self, seeds: Iterable[int], sessions: Iterable[int] = ()) -> dict[int, Entry]:
        """The living among the seeds, their descendants, and the sessions of all of these, by number.

        A session whose leader lives and is not of the family is not the family's: it was only inherited, or its number
        has been given to a stranger. This process is never included.
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
                # (0 stands for a leader outside this process namespace.)
                if session and (session in found or session not in self.entries):
                    open_sessions.discard(session)
                    waiting += (pid for pid in self._sessions.get(session, ()) if pid not in found)
            if not waiting:
                return {pid: self.entries[pid] for pid in found if not self.entries[pid].dead}


def hunt(look: Callable[[], Iterable[Entry]]) -> int:
    """KILL whatever `look` finds until two looks in a row find nothing new; returns how many were killed.

    Two looks, because a process that was missed in the first (it was born while the table was read) may have forked.
    A process that has been sent KILL forks no more, so this ends.
    """
    killed: set[tuple[int, int]] = set()
    done = 0
    quiet = 0
    while quiet < 2:
        fresh = [one for one in look() if (one.pid, one.start) not in killed]
        for one in fresh:
            killed.add((one.pid, one.start))
            done += send(one.pid, one.start, signal.SIGKILL)
        if fresh:
            quiet = 0
        else:
            quiet += 1
            time.sleep(PAUSE)
    return done


def kill_marked(prefix: str) -> int:
    """Kill all trees on this machine whose marker is `prefix` or begins with it and a slash; returns how many died.

    For what a dead worker and its dead guardian left behind. Only what the operating system lets this user look at and
    signal is found.
    """
    start = prefix.rstrip("/") + "/"

    def look() -> Iterable[Entry]:
        table = Table.read()
        marked = [pids for name, pids in table.carriers().items() if f"{name}/".startswith(start)]
        return table.family(pid for pids in marked for pid in pids).values()

    return hunt(look)
