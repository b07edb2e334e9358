"""The standard streams. `jobfac --help` imports this module, so it imports little."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

NOT_UTF8 = "is not text in UTF-8; pass bytes to a program as base64, or in a file."
"""The end of the error for a payload or an argument that cannot be stored."""

NO_ROOM = "There is no room for the output: the disk is full."


def prepare_streams() -> None:
    """Replace closed standard streams by the null device, and escape characters that standard output cannot encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their descriptors
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def discard_output(stream: IO[str] | None = None) -> None:
    """Discard what is not written yet, including what Python flushes at its end, and all that follows."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())


def flush_streams() -> None:
    """Write what is buffered. What cannot be written is discarded, because Python would end with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard_output(stream)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Write to standard output, and go on without it if its reader has closed the pipe: the exit code counts.

    So it does if the disk is full. Who repeats a command that seems to have failed would do all again.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        discard_output()
        note(NO_ROOM)


_CONTROLS = re.compile(
    rb"\x1b(?!\[[0-9;:]*m)|\xc2[\x80-\x9f]|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
    rb"|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]"  # changes of direction, in UTF-8
)
"""What controls a terminal, except colours, ends of lines, tabs and the way back that progress bars take."""


def for_terminal(output: bytes) -> bytes:
    """Return output of a program in which only colours control the terminal of the person who reads it."""
    return _CONTROLS.sub(lambda found: escaped(found[0].decode()).encode(), output)


def note(text: str) -> None:
    """Print a line on standard error. Control characters are escaped, so that a text cannot control the terminal.

    A line that nobody reads, or that a disk has no room for, does not change what the command does.
    """
    try:
        sys.stderr.write(escaped(text) + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        discard_output(sys.stderr)
    except OSError:
        pass  # such as a full disk, which has room later: a role logs there


def escaped(text: str) -> str:
    """Return the text with an escape for each control character, but not for the ends of lines."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )
