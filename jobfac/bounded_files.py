"""Read files that a user names: they may be devices without an end, pipes without a writer, or just too large."""

import errno
import os
import stat
import time
from pathlib import Path

MOST = 64 * 1024 * 1024
"""Bytes of a file at most."""

WRITER = 2.0
"""Seconds to wait for somebody who writes to a pipe, which a shell may start at the same time."""

PAUSE = 0.02
"""Seconds between two looks for a writer."""

PIECE = 1024 * 1024


def read_bytes(path: str | Path, most: int = MOST) -> bytes:
    """Return the content of a file. A pipe, as in ``<(command)``, is read to its end.

    Raises:
        OSError: it cannot be read, is too large, or is a pipe to which nobody writes. ``strerror`` says which.
    """
    first = b""
    if stat.S_ISFIFO(Path(path).stat().st_mode):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # which does not wait for a writer
        first = _first_piece(handle)
        os.set_blocking(handle, True)
        source = open(handle, "rb", buffering=0)  # noqa: PTH123, SIM115
    else:
        source = Path(path).open("rb", buffering=0)  # noqa: SIM115
    with source:
        pieces, size = [first], len(first)
        while size <= most and (piece := source.read(PIECE)):
            pieces.append(piece)
            size += len(piece)
    if size > most:
        raise OSError(errno.EFBIG, f"it has more than {most // 1024 // 1024:,} MiB, which is the most")
    return b"".join(pieces)


def read_text(path: str | Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return a text file with line feeds as line ends. Raises as ``read_bytes``.

    Raises:
        UnicodeDecodeError: it has another encoding.
    """
    return read_bytes(path).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


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
            os.close(handle)
            raise OSError(errno.EPIPE, "it is a pipe to which nobody writes")
        time.sleep(PAUSE)
