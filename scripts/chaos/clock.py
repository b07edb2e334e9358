"""Steps of the machine's clock, by libfaketime: every role of the site sees the same steps; programs see none."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDERS = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")

CACHE = 1.0
"""Seconds after which a process reads the offset again."""

STEPS = (-20.0, -5.0, 5.0, 20.0, 40.0)
"""Seconds by which the clock steps. A run that waits for a time when the clock steps back waits that much longer."""


def library() -> Path | None:
    """The library that changes a process's clock; None: it is not installed."""
    found = (path for folder in FOLDERS for path in Path("/").glob(f"{folder[1:]}/libfaketimeMT.so.1"))
    return next(found, None)


class Clock:
    """The clock of all roles. It steps back to the true time after each step.

    ``environment``: the variables with which roles are started; empty without libfaketime.
    """

    def __init__(self, folder: Path) -> None:
        self.environment: Mapping[str, str] = {}
        self._file = folder / "clock"
        self._steps: list[tuple[float, float, float]] = []  # true times of the begin and the end, and the offset
        self._ends: float | None = None
        if (path := library()) is not None:
            self._set(0.0)
            self.environment = {
                "LD_PRELOAD": str(path),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_CACHE_DURATION": f"{CACHE:.0f}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    @property
    def is_there(self) -> bool:
        """Whether the clock can be changed."""
        return bool(self.environment)

    def step(self, offset: float, seconds: float) -> None:
        """Step by ``offset`` for so many seconds."""
        self.restore(force=True)
        now = time.time()
        self._ends = now + seconds
        self._steps.append((now, now + seconds, offset))
        self._set(offset)

    def restore(self, force: bool = False) -> None:
        """Return to the true time if the step is over."""
        now = time.time()
        if self._ends is not None and (force or now >= self._ends):
            begin, _, offset = self._steps[-1]
            self._steps[-1] = begin, now, offset
            self._ends = None
            self._set(0.0)

    def true_times(self, moment: float) -> Iterator[float]:
        """The true times at which a role could have read this time (both in seconds since the epoch)."""
        yield from (moment - offset for offset in self.offsets(moment))

    def offsets(self, moment: float) -> Iterator[float]:
        """The offsets with which a role could have read this time."""
        yield 0.0
        for begin, end, offset in self._steps:
            if begin - CACHE <= moment - offset <= end + 2 * CACHE:
                yield offset

    def _set(self, offset: float) -> None:
        other = self._file.with_suffix(".new")
        other.write_text(f"{offset:+.0f}\n", encoding="ascii")
        other.replace(self._file)
