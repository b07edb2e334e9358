"""Durations as short texts, for the terminal and the pages."""

from datetime import datetime
from typing import Protocol

from jobfac.states import WAITING


class Timed(Protocol):
    """A view with a start and an end, such as a run or an attempt."""

    @property
    def started_at(self) -> datetime | None:
        """The time of the start; None: it has not started."""

    @property
    def ended_at(self) -> datetime | None:
        """The time of the end; None: it has not ended."""


def has_duration(row: Timed) -> bool:
    """Whether it runs or ran. A run that waits again, such as for its next attempt, was started and does not run."""
    return row.started_at is not None and (row.ended_at is not None or getattr(row, "state", None) not in WAITING)


def short_duration(seconds: float) -> str:
    """Return seconds in one or two units: 0.4s, 12s, 3m05s, 2h10m, 4d3h. Negative seconds are shown as 0.0s."""
    larger, smaller = _units(seconds)
    if smaller is None:
        return "".join(larger)
    number, unit = smaller
    return f"{larger[0]}{larger[1]}{number if unit == 'h' else number.zfill(2)}{unit}"


def spaced_duration(seconds: float) -> str:
    """Return the same with spaces: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h."""
    if 0 <= seconds < 10:  # most of the thousands on a page
        return f"{seconds:.1f} s"
    pairs = [pair for pair in _units(seconds) if pair is not None]
    return " ".join(f"{number} {'min' if unit == 'm' else unit}" for number, unit in pairs)


def _units(seconds: float) -> tuple[tuple[str, str], tuple[str, str] | None]:
    """Return the largest unit that is not 0 and the next smaller one, each as its number and its letter."""
    if seconds < 10:
        return (f"{max(0.0, seconds):.1f}", "s"), None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return (str(days), "d"), (str(hours), "h")
    if hours:
        return (str(hours), "h"), (str(minutes), "m")
    return ((str(minutes), "m"), (str(rest), "s")) if minutes else ((str(rest), "s"), None)
