"""Values as text for people: what a value looks like follows from its type, never from its letters."""

import json
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

STYLES = {
    "succeeded": "green", "failed": "red", "timed_out": "red", "start_failed": "red", "lost": "red", "mixed": "yellow",
    "stopped": "yellow", "denied": "yellow", "running": "cyan", "stopping": "cyan", "active": "green", "dead": "red",
    "delivered": "green",
}  # fmt: skip
"""The colours of states."""


class Timed(Protocol):
    """Something that begins and ends."""

    @property
    def started_at(self) -> datetime | None:
        """When it began, None: not yet."""

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, None: not yet."""


def text_of(value: object) -> str:
    """A value for people: a time is local, to the second; a structure is JSON; None is nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def changed_value(value: object) -> str:
    """A value of a definition that differs, as JSON."""
    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)


def printable(text: str) -> str:
    """The text on one line, and without the escape sequences by which a program could paint over the screen."""
    return "".join(one if one.isprintable() else " " for one in text)


def printable_lines(text: str, indent: int) -> str:
    """The text as ``printable``, but with its lines; those after the first are indented."""
    return ("\n" + " " * indent).join(printable(line) for line in text.splitlines())


def styled(word: Any) -> str:
    """A state in its colour, as markup."""
    text = str(word)
    return f"[{STYLES[text]}]{text}[/]" if text in STYLES else text


def cell(value: object) -> str:
    """A value as markup for a table: a state has its colour."""
    from rich.markup import escape

    return styled(value) if isinstance(value, Enum) else escape(text_of(value))


def lasted(row: Timed) -> str:
    """How long it took, or has taken so far."""
    if row.started_at is None:
        return ""
    end = datetime.now(UTC) if row.ended_at is None else row.ended_at
    span = max(0.0, (end - row.started_at).total_seconds())
    if span < 60:
        return f"{span:.1f}s"
    minutes, left = divmod(int(span), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{left:02}s" if hours else f"{minutes}m{left:02}s"
