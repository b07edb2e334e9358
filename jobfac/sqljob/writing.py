"""Writes what a script says: results and messages to standard output, errors to standard error."""

import sys
from contextlib import suppress

from jobfac.sqljob.scripts import ScriptError


class OutputError(ScriptError):
    """The standard output cannot be written, as on a full disk."""


def write(text: str) -> None:
    """Write to standard output and flush it."""
    _put(text.encode(errors="backslashreplace"))


def say(text: str, error: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    data = text.encode(errors="backslashreplace") + b"\n"
    if not error:
        _put(data)
        return
    with suppress(OSError):  # the message of the run says it, too
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _put(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(f"the output could not be written: {error.strerror}") from None
