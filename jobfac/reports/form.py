"""Format values as text, for tables in the terminal and for the HTML page."""

from collections.abc import Sequence
from typing import Any

from jobfac.reports.rows import Kind

NUMBERS = frozenset({Kind.COUNT, Kind.PERCENT, Kind.CHANGE, Kind.SECONDS, Kind.HOURS, Kind.MEMORY, Kind.RUN})
"""Kinds of columns that are aligned to the right."""

BARS = "▁▂▃▄▅▆▇█"


def shown(value: Any, kind: Kind) -> str:
    """Return a value as text. None is an empty text, except for a category, where it is "none"."""
    if value is None:
        return "none" if kind is Kind.GROUP else ""
    match kind:
        case Kind.COUNT:
            return f"{value:,}"
        case Kind.PERCENT:
            return f"{value:.1f} %"
        case Kind.CHANGE:
            return f"{value:+.0f} %".replace("-", "−") if round(value) else "0 %"
        case Kind.SECONDS:
            return duration(value)
        case Kind.HOURS:
            return f"{value:,.1f} h"
        case Kind.MEMORY:
            return f"{value / (1 << 20):,.0f} MiB"
        case Kind.MOMENT:
            return f"{value:%Y-%m-%d %H:%M}"
        case Kind.SERIES:
            return bars(value)
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration such as 0.4s, 12.0s, 3m05s or 2h05m."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}m{left:02}s" if minutes < 60 else f"{minutes // 60:,}h{minutes % 60:02}m"


def bars(values: Sequence[float | None]) -> str:
    """Return one bar character for each value, scaled from 0 to the greatest. None and 0 are blanks."""
    most = max((value for value in values if value), default=1)
    return "".join(BARS[min(7, int(8 * value / most))] if value else " " for value in values)
