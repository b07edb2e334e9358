"""Indents JSON for the pages, as far as that makes it no much longer text."""

import json
from typing import Any

from jobfac.views.serialization import read_json

LONGEST = 2**18
"""A longer text is shown as it is: nobody reads it, and indenting it takes seconds."""

GROWTH = 4
"""An indented text has at most this many times the characters. Deep values would have a thousand times as many."""


def indented(text: str) -> str:
    """Return JSON indented; a text that is no object or list, or grows too much, as it is."""
    if len(text) > LONGEST or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return _within(read_json(text), GROWTH * len(text) + 1000) or text
    except (ValueError, RecursionError):
        return text


def _within(value: Any, limit: int) -> str | None:
    """Return a value's indented JSON, or None if it has more characters than ``limit``."""
    pieces: list[str] = []
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        limit -= len(piece)
        if limit < 0:
            return None
        pieces.append(piece)
    return "".join(pieces)
