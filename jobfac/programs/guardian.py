"""The guardian: a second process beside each worker that outlives it just long enough to kill its programs.

It reads lines from the worker through a pipe:

    + MARKER             a program is about to be started
    = MARKER PID         it was started; PID leads its session
    - MARKER             it has ended
    until SECONDS        the worker's lease is to be trusted until then, on the clock of `clock()`
    bye                  the worker ends in good order

When the pipe ends without a bye, the worker was killed: all its programs are killed, and the guardian ends. When the
lease runs out, the worker is frozen or cut off from the database: its programs are killed, and the guardian waits on.

It runs as `python -I -S guardian.py` and imports little, to stay small.
"""

import os
import select
import signal
import sys
import time

if __name__ == "__main__":
    # A bare package in place of the real one spares this process all that `jobfac.programs` imports.
    bare = type(sys)("jobfac.programs")
    bare.__path__ = [os.path.dirname(__file__)]  # noqa: PTH120 (pathlib is larger than all of this)
    sys.modules["jobfac.programs"] = bare

from jobfac.programs.tree import Entry, Table, hunt, now

PIPE = 0
LOOK = 1.0  # seconds after which the clock is looked at again, since a suspended machine does not count a timeout


def clock() -> float:
    """Seconds on a clock that all processes of this machine share, and that goes on while it is suspended."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Ward:
    """The programs that the guardian knows of, and until when the worker may keep them."""

    def __init__(self) -> None:
        self.leaders: dict[str, int] = {}  # by marker; 0: about to be started
        self.known: dict[str, int] = {}  # when the leader was named, in clock ticks
        self.until: float | None = None

    def hear(self, line: str) -> bool:
        """Take note of one line; False after the worker's farewell."""
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
        elif word == "-":
            self.forget([rest[0]])
        return True

    def forget(self, markers: list[str]) -> None:
        for marker in markers:
            self.leaders.pop(marker, None)
            self.known.pop(marker, None)

    def kill(self) -> None:
        """Kill all trees and forget them."""
        markers = list(self.leaders)
        hunt(lambda: self._family(Table.read()).values())
        self.forget(markers)

    def _family(self, table: Table) -> dict[int, Entry]:
        seeds = [pid for marker, pids in table.carriers().items() if marker in self.leaders for pid in pids]
        sessions = []
        for marker, known in self.known.items():
            leader = table.entries.get(self.leaders[marker])
            if leader is None:
                sessions.append(self.leaders[marker])
            elif leader.start <= known and leader.session == leader.pid:  # else the number has a new owner
                seeds.append(leader.pid)
        return table.family(seeds, sessions)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the lease runs out; None: there is nothing to kill, or no lease yet."""
        return None if self.until is None or not self.leaders else self.until - clock()


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ward = Ward()
    pipe = select.poll()
    pipe.register(PIPE, select.POLLIN)
    text = b""
    while True:
        seconds_left = ward.seconds_left
        if pipe.poll(None if seconds_left is None else 1000 * max(0.0, min(seconds_left, LOOK))):
            part = os.read(PIPE, 1 << 20)
            if not part:
                ward.kill()
                return
            *lines, text = (text + part).split(b"\n")
            for line in lines:
                if not ward.hear(line.decode()):
                    return
        elif seconds_left is not None and seconds_left <= 0:
            ward.kill()


if __name__ == "__main__":
    main()
