"""Read files that a user names: they may be devices without an end, pipes without a writer, or just too large."""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

MOST = 64 * 1024 * 1024
"""Bytes of a file at most."""

WRITER = 2.0
"""Seconds to wait for somebody who writes to a pipe, which a shell may start at the same time."""

PAUSE = 0.02
"""Seconds between two looks for a writer."""

PIECE = 1024 * 1024


def read_bytes(path: str | Path, most: int = MOST, check: Callable[[os.stat_result], None] | None = None) -> bytes:
    """Return the content of a file. A pipe, as in ``<(command)``, is read to its end.

    ``check`` gets the properties of the file that was opened, which may be another one than a moment ago.

    Raises:
        OSError: it cannot be read, is too large, or is a pipe to which nobody writes. ``strerror`` says which.
    """
    # Of a pipe, it does not wait for a writer; of a file that a file server has reserved, it waits.
    late = os.O_NONBLOCK if stat.S_ISFIFO(Path(path).stat().st_mode) else 0
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | late)
    with open(handle, "rb", buffering=0) as source:  # noqa: PTH123 (a descriptor)
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if check is not None:
            check(found)
        first = _first_piece(handle) if stat.S_ISFIFO(found.st_mode) else b""
        os.set_blocking(handle, True)
        pieces, size = [first], len(first)
        while size <= most and (piece := source.read(PIECE)):
            pieces.append(piece)
            size += len(piece)
    if size > most:
        raise OSError(errno.EFBIG, f"it has more than {most // 1024 // 1024:,} MiB, which is the most")
    return b"".join(pieces)


def read_text(
    path: str | Path,
    encoding: str = "utf-8",
    errors: str = "strict",
    check: Callable[[os.stat_result], None] | None = None,
) -> str:
    """Return a text file with line feeds as line ends. ``check``, and raises, as ``read_bytes``.

    Raises:
        UnicodeDecodeError: it has another encoding.
    """
    return read_bytes(path, check=check).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def _first_piece(handle: int) -> bytes:
    """Return the first bytes of a pipe; empty: its writer has written nothing yet.

    Raises:
        OSError: nobody writes to it.
    """
    end = time.monotonic() + WRITER
    while True:
        try:
            if piece := os.read(handle, PIECE):
                return piece
        except BlockingIOError:  # there is a writer
            return b""
        if time.monotonic() > end:
            raise OSError(errno.EPIPE, "it is a pipe to which nobody writes")
        time.sleep(PAUSE)
