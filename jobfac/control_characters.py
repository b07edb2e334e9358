"""Characters that change what a reader sees of other text: control characters, ends of lines, changes of direction."""

import re

_DIRECTION = r"\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates of right-to-left text. Source: Unicode Standard Annex #9."""

REFUSED = rf"\x00-\x1f\x7f-\x9f\u2028\u2029{_DIRECTION}"
"""The characters that no name has, as the inside of a class of a regular expression."""

_CONTROL = re.compile(f"[{REFUSED}]")

_LEFT = re.compile(rf"[\x7f-\x9f\u2028\u2029{_DIRECTION}]")
"""Those that writers of JSON and YAML do not escape."""


def check_name(name: str) -> None:
    """Check that a name is one line, which looks the same everywhere.

    Raises:
        ValueError: it is not; the message continues a sentence that begins with what the name is.
    """
    if found := _CONTROL.search(name):
        raise ValueError(
            f"must be one line of text without control characters, but has {found[0]!r} at position {found.start() + 1}"
        )


def as_name(text: str) -> str:
    """Return the text with a blank in place of each character that ``check_name`` refuses."""
    return _CONTROL.sub(" ", text)


def escape_quoted(document: str) -> str:
    """Escape such characters in a JSON or YAML document, where they stand in double quotes only."""
    return _LEFT.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
