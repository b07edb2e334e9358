"""Looks at paths without waiting for their file systems: a network drive may hang for hours."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

AT_ONCE = 0.02
"""Seconds to wait for an answer. A file system that answers takes some microseconds."""

MOST = 64
"""Open inquiries at most. Each has a thread, which may hang as long as its file system."""

OF_ONE_MOUNT = 8
"""Open inquiries about one mounted file system at most, so that a dead drive leaves threads for the others."""

FRESH = 1.0
"""Seconds for which an answer counts, because a thread for each start would slow a burst of starts."""

REMEMBERED = 1000
"""Answers at most that are remembered."""

Seen = tuple[tuple[int, int] | None, ...]
"""By file, its size and the time of its last change in nanoseconds; None: it was not found."""


class Inquiry:
    """A look at some paths in a thread of its own.

    Attributes:
        at: the path that is looked at.
        is_late: nobody waits for the answer any more, so it is announced.
        seen: what was found; to be read after the answer.
    """

    def __init__(self, paths: Sequence[str], on_answer: Callable[[], None]) -> None:
        self.answered = threading.Event()
        self.at = paths[0]
        self.is_late = False
        self.seen: Seen = ()
        self._paths = paths
        self._on_answer = on_answer

    def run(self) -> None:
        """Look at the paths. Whether they exist does not matter."""
        found: list[tuple[int, int] | None] = []
        for path in self._paths:
            self.at = path
            try:
                one = look(path)
                found.append((one.st_size, one.st_mtime_ns))
            except (OSError, ValueError):
                found.append(None)
        self.seen = tuple(found)
        self.answered.set()
        if self.is_late:
            self._on_answer()


look = os.stat


class Places:
    """Inquiries about paths. One thread asks at a time. At most one inquiry about the same paths is open."""

    def __init__(self, on_answer: Callable[[], None]) -> None:
        """``on_answer``: called by the thread of an inquiry at its end, if nobody waited for it so long."""
        self._on_answer = on_answer
        self._open: dict[tuple[str, ...], Inquiry] = {}
        self._fresh: dict[str, float] = {}  # until when an answer counts, by path (monotonic)

    def silent(self, paths: Sequence[str]) -> str | None:
        """Return a path that has not answered; None: all have. Waits ``AT_ONCE`` seconds, for the same paths once."""
        now = time.monotonic()
        if all(self._fresh.get(path, 0.0) > now for path in paths):
            return None
        inquiry = self._ask(tuple(paths))
        if not inquiry.answered.is_set():
            return inquiry.at
        if len(self._fresh) >= REMEMBERED:
            self._fresh.clear()
        self._fresh |= dict.fromkeys(paths, now + FRESH)
        return None

    def seen(self, paths: Sequence[str]) -> Seen | None:
        """Return what the files are like now, or were at the last answer; None: no answer yet. Waits as ``silent``."""
        inquiry = self._ask(tuple(paths))
        return inquiry.seen if inquiry.answered.is_set() else None

    def _ask(self, paths: tuple[str, ...]) -> Inquiry:
        """Return the open inquiry about these paths, or a new one. One that is answered is open no more."""
        inquiry, wait = self._open.get(paths), 0.0
        if inquiry is None:
            inquiry = Inquiry(paths, self._on_answer)
            if len(self._open) >= MOST:  # some were answered after nobody waited any more
                self._open = {known: one for known, one in self._open.items() if not one.answered.is_set()}
            if (silent := self._on_silent_mount(paths)) is not None:
                inquiry.at = silent
                return inquiry
            if len(self._open) >= MOST:
                return inquiry
            try:
                threading.Thread(target=inquiry.run, name="places", daemon=True).start()
            except RuntimeError:  # no more threads: the start will find out why
                inquiry.answered.set()
                return inquiry
            self._open[paths], wait = inquiry, AT_ONCE
        if not inquiry.answered.wait(wait):
            inquiry.is_late = True
            if not inquiry.answered.is_set():  # asked again, because the thread may have looked before it was late
                return inquiry
        del self._open[paths]
        return inquiry

    def _on_silent_mount(self, paths: tuple[str, ...]) -> str | None:
        """Return a path on a file system of which enough inquiries have no answer; None: there is none."""
        silent = [one.at for one in self._open.values() if not one.answered.is_set()]
        if len(silent) < OF_ONE_MOUNT:
            return None
        points = mount_points()
        waiting = Counter(_mount_of(path, points) for path in silent)
        return next((path for path in paths if waiting[_mount_of(path, points)] >= OF_ONE_MOUNT), None)


def mount_points() -> list[str]:
    """Return where file systems are mounted, without a look at them; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [line.split(" ")[4].replace("\\040", " ") for line in lines]


def _mount_of(path: str, points: Sequence[str]) -> str:
    """Return the mount point of a path by its name. Links are not followed, because that is a look."""
    full = os.path.abspath(path)  # noqa: PTH100 (it makes no Path)
    above = (point for point in points if point == "/" or full == point or full.startswith(f"{point}/"))
    return max(above, key=len, default="")
