"""The guardian: a process beside each worker that kills the worker's programs if the worker dies or loses its lease.

It reads lines from the worker through a pipe:

    + MARKER             a program is about to be started
    = MARKER PID         the program was started; PID is its session leader
    - MARKER             the program has ended
    until SECONDS        the worker's lease is trusted until then, on the clock of `clock()`
    bye                  the worker shuts down normally

If the pipe closes without a bye, the worker was killed: the guardian kills all its programs and exits. If the lease
expires, the worker is frozen or cut off from the database: the guardian kills its programs and keeps waiting.

It runs as `python -I -S guardian.py` and imports little, to stay small.
"""

import errno
import os
import select
import signal
import sys
import time

if __name__ == "__main__":
    # An empty package replaces the real one, so this process does not load the imports of `jobfac.programs`.
    bare = type(sys)("jobfac.programs")
    bare.__path__ = [os.path.dirname(__file__)]  # noqa: PTH120 (pathlib is larger than all of this)
    sys.modules["jobfac.programs"] = bare

from jobfac.programs.tree import PAUSE, Entry, Table, kill_found, marked, now, send

PIPE = 0
MOST = 1 << 16
"""Bytes that are read at once. Where memory is short, there may be none for more."""

PROCESS_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP: the signal is for the group of the process. Source: pidfd_send_signal(2)."""

CLOCK_INTERVAL = (
    1.0  # seconds between two checks of the clock: a timeout does not advance while the machine is suspended
)


def clock() -> float:
    """Seconds on a clock that all processes of this machine share. On Linux it includes suspension."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Guarded:
    """The programs that the guardian guards, and until when the worker may run them."""

    def __init__(self) -> None:
        self.leaders: dict[str, int] = {}  # PID by marker; 0: about to be started
        self.known: dict[str, int] = {}  # by marker: when the worker sent the PID, in clock ticks
        self.handles: dict[str, int] = {}  # by marker: a descriptor of the leader
        self.until: float | None = None

    def process_line(self, line: str) -> bool:
        """Process one line; returns False after a bye."""
        word, *rest = line.split()
        if word == "bye":
            return False
        if word == "until":
            self.until = float(rest[0])
        elif word == "+":
            self.leaders[rest[0]] = 0
        elif word == "=":
            self.leaders[rest[0]] = int(rest[1])
            self.known[rest[0]] = now()
            self._hold(rest[0], int(rest[1]))
        elif word == "-":
            self.forget([rest[0]])
        return True

    def forget(self, markers: list[str]) -> None:
        for marker in markers:
            self.leaders.pop(marker, None)
            self.known.pop(marker, None)
            if (handle := self.handles.pop(marker, None)) is not None:
                os.close(handle)

    def _hold(self, marker: str, leader: int) -> None:
        """Keep a descriptor of the leader: with it the program is stopped without a look at /proc, which any user can
        delay. Half of the descriptors are left for such looks."""
        if len(self.handles) >= os.sysconf("SC_OPEN_MAX") // 2 or marker in self.handles:
            return
        try:
            self.handles[marker] = os.pidfd_open(leader)
        except (OSError, AttributeError):  # it has ended, or the system has no such descriptors
            return
        try:
            is_leader = os.getsid(leader) == leader
        except OSError:
            is_leader = False
        if not is_leader:  # it has ended, and its PID may be another one's
            os.close(self.handles.pop(marker))

    def kill(self) -> None:
        """Kill all process trees and forget them."""
        markers = list(self.leaders)
        self._stop_groups()
        while True:
            try:
                self._kill_known()
                kill_found(lambda: self._family(Table.read()).values())
                break
            except (OSError, MemoryError):  # no free descriptor, or no memory; nobody else would kill them
                time.sleep(PAUSE)
        self.forget(markers)

    def _stop_groups(self) -> None:
        """Let the processes in the groups of the programs stand still until they are killed. To list the processes of
        the machine may take long, and the next attempts begin. A killed leader would no longer tell what descends from
        it."""
        for marker, handle in self.handles.items():
            try:
                signal.pidfd_send_signal(handle, signal.SIGSTOP, None, PROCESS_GROUP)
            except OSError as error:
                if error.errno == errno.EINVAL:  # a kernel before 6.9
                    self._stop_group(handle, self.leaders[marker])

    def _stop_group(self, handle: int, leader: int) -> None:
        try:
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            os.killpg(leader, signal.SIGSTOP)  # while the leader is not reaped, it is that group
        except OSError:  # it was reaped, or has become another user
            return

    def _kill_known(self) -> None:
        """Kill what descends from the leaders. The search for all others reads the environments of all processes of the
        machine, which may take longer than the lease."""
        table = Table.read()
        for one in table.family(*self._roots(table)).values():
            send(one.pid, one.start, signal.SIGKILL)

    def _family(self, table: Table) -> dict[int, Entry]:
        found = table.pids_by_marker()
        seeds, sessions = self._roots(table)
        # While it starts a program, the worker has its mark.
        others = {pid for marker in self.leaders for pid in marked(found, marker)} - {os.getppid()}
        return table.family([*seeds, *others], sessions)

    def _roots(self, table: Table) -> tuple[list[int], list[int]]:
        """Return the leaders that are alive, and the sessions of the others."""
        seeds, sessions = [], []
        for marker, known in self.known.items():
            leader = table.entries.get(self.leaders[marker])
            if leader is None:
                sessions.append(self.leaders[marker])
            elif leader.start <= known and leader.session == leader.pid:  # else the PID was reused
                seeds.append(leader.pid)
        return seeds, sessions

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the lease expires; None: there is no program, or no lease yet."""
        return None if self.until is None or not self.leaders else self.until - clock()


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guarded = Guarded()
    pipe = select.poll()
    pipe.register(PIPE, select.POLLIN)
    text = b""
    while True:
        seconds_left = guarded.seconds_left
        if pipe.poll(None if seconds_left is None else 1000 * max(0.0, min(seconds_left, CLOCK_INTERVAL))):
            try:
                part = os.read(PIPE, MOST)
            except MemoryError:
                time.sleep(PAUSE)
                continue
            if not part:
                guarded.kill()
                return
            *lines, text = (text + part).split(b"\n")
            for line in lines:
                if not guarded.process_line(line.decode()):
                    return
        elif seconds_left is not None and seconds_left <= 0:
            guarded.kill()


if __name__ == "__main__":
    main()
