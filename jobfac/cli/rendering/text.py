"""Values as text for people. The type of a value decides its form, never its content."""

import json
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from jobfac.cli.streams import escaped
from jobfac.cli.times import write_time
from jobfac.views.durations import Timed, has_duration

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    "succeeded": "green", "failed": "red", "timed_out": "red", "start_failed": "red", "lost": "red", "mixed": "yellow",
    "stopped": "yellow", "denied": "yellow", "running": "cyan", "stopping": "cyan", "active": "green", "dead": "red",
    "delivered": "green",
}  # fmt: skip
"""The colours of states."""


def text_of(value: object) -> str:
    """Return a value as text: a time as local time with its offset, a list or dict as JSON, None as an empty text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return write_time(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def changed_value(value: object) -> str:
    """A value of a definition that differs, as JSON."""
    return "(default)" if value is None else escaped(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """Replace line ends and control characters, so that a text cannot control the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def printable_lines(text: str, indent: int) -> str:
    """As ``printable``, but keep the lines; those after the first are indented."""
    return ("\n" + " " * indent).join(printable(line) for line in text.splitlines())


def styled(word: object) -> "Text":
    """Return a state in its colour."""
    from rich.text import Text

    return Text(str(word), style=STYLES.get(str(word), ""))


def coloured(word: str, style: str) -> "Text":
    """Return a word of ours in a colour."""
    from rich.text import Text

    return Text(word, style=style)


def cell(value: object) -> "Text":
    """Return a value for a table, a state in its colour. No part of a text is taken for markup."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return styled(value) if isinstance(value, Enum) else Text(text_of(value))


def memory_text(size: int) -> str:
    """Return an amount of memory with one decimal."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << bits:
            return f"{size / (1 << bits):.1f} {unit}"
    return f"{size} B"


def duration(row: Timed) -> str:
    """Return the time from the start to the end, or to now, such as 0.4s or 2h10m00s. Empty: it waits."""
    if row.started_at is None or not has_duration(row):
        return ""
    end = datetime.now(UTC) if row.ended_at is None else row.ended_at
    span = max(0.0, (end - row.started_at).total_seconds())
    if span < 60:
        return f"{span:.1f}s"
    minutes, left = divmod(int(span), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{left:02}s" if hours else f"{minutes}m{left:02}s"
