"""What a program prints, kept in a file of its own until it is stored, at a bounded cost of disk and memory.

A file and not a pipe: the program is never blocked, nothing is lost when the worker dies, and a grandchild that keeps
the file open holds nothing up. One trait of files remains: a program that opens its own output anew and truncates it
(`> /dev/stdout`) erases what was not yet read.
"""

import contextlib
import ctypes
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jobfac.programs.failures import StartError, explain_file
from jobfac.programs.masking import Mask

CHUNK = 256 * 1024  # bytes in one chunk at most
BATCH = 16 * CHUNK  # bytes that one read() returns at most, unless it is told otherwise
FLOOD = 4 * 1024 * 1024  # bytes between two reads from which on a stream counts as flooding
HOLE = 64 * 1024  # bytes that are worth a system call to give back to the disk
BLOCK = 4096
PUNCH_HOLE_KEEP_SIZE = 0x03
LIBC = ctypes.CDLL(None)


class Chunk(NamedTuple):
    """Bytes of a stream, and where in the stream they begin."""

    offset: int
    data: bytes


class Spool:
    """One output stream of one execution. Offsets are positions in what the program wrote.

    Stored are the first `limit // 2` bytes (the head) and as much again of the last (the tail); what lies between is
    the cut, to be seen as a gap between the chunks. `fd` is for the program. One thread at a time may use this. Raises
    StartError if the file cannot be created.
    """

    def __init__(self, path: Path, limit: int, secrets: Sequence[bytes] = ()) -> None:
        self.path = path
        self.head = limit // 2
        self.tail = limit - self.head
        self.flooding = False
        """Whether the program wrote so much between the last two reads that the next one should come soon."""
        self._mask = Mask(secrets)
        self._position = 0  # everything before it has been returned, or lies in the cut
        self._base = 0  # where in the stream the file begins: not at 0 once the file was truncated
        self._length = 0  # of the file, when last looked at
        self._carry = b""  # what stood right before the base, as far as it is needed
        self._freed = self.head
        self._open = True
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self.fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise StartError(explain_file("the spool file", path, error)) from error
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            os.close(self.fd)
            raise StartError(f"the spool file {str(path)!r} is not a file of this worker's own; remove it")
        os.set_blocking(self.fd, True)

    @property
    def size(self) -> int:
        """How many bytes the program had written when last looked."""
        return self._base + self._length

    @property
    def keep_from(self) -> int | None:
        """Stored chunks wholly between the head's end and here are to be deleted; None: nothing is cut."""
        start = self.size - self.tail
        return start if start > self.head else None

    @property
    def unread(self) -> int:
        """Bytes that are to be stored and were not returned yet, as far as the program has written them by now."""
        self._look()
        start = self._position
        head = max(0, min(self.head, self.size) - start)
        return head + max(0, self.size - max(start, self.head, self.size - self.tail))

    def read(self, final: bool = False, most: int = BATCH) -> list[Chunk]:
        """The bytes to store since the last call, secrets masked; at most `most`, so ask until there are none.

        The beginning of what may become a secret is held back. `final`: the program has ended, so nothing is.
        """
        before = self.size
        self._look()
        self.flooding = self.size - before >= FLOOD
        chunks: list[Chunk] = []
        if self._position < self.head:
            chunks += self._take(self._position, self.head, most, final)
        if self._position >= self.head:
            room = most - sum(len(chunk.data) for chunk in chunks)
            chunks += self._take(max(self._position, self.size - self.tail), self.size, room, final)
        self._free()
        return chunks

    def close(self, delete: bool) -> None:
        """Close the file and, if wanted, delete it. Harmless when repeated."""
        if self._open:
            self._open = False
            os.close(self.fd)
            if delete:
                with contextlib.suppress(OSError):  # not there, or what the program has put there instead
                    self.path.unlink()

    def _look(self) -> None:
        """Take note of how the file has grown, or that the program truncated it: then all of it counts as new."""
        length = os.fstat(self.fd).st_size
        if length < self._length:
            self._base += self._length
            self._position = max(self._position, self._base)
            self._carry = b""
            self._freed = max(self.head, self._base)
        self._length = length

    def _take(self, start: int, stop: int, room: int, final: bool) -> list[Chunk]:
        """Move on through [start, stop), as far as it exists, fits and need not be held back."""
        stop = min(stop, self.size, start + room)
        # A secret may begin before it or end behind it.
        before = max(0, start - self._mask.reach)
        raw = self._raw(before, min(self.size, stop + self._mask.reach))
        ready = len(raw) if final else len(raw) - self._mask.unfinished(raw)
        data = self._mask.apply(raw)[start - before : max(0, min(stop - before, ready))]
        self._position = start + len(data)
        return [Chunk(start + at, data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]

    def _raw(self, start: int, stop: int) -> bytes:
        """The stream's bytes in [start, stop); zeros stand for what is no longer known."""
        known = self._base - len(self._carry)
        parts = [bytes(max(0, min(known, stop) - start)), self._carry[max(0, start - known) : max(0, stop - known)]]
        start = max(start, self._base)
        while start < stop and (part := os.pread(self.fd, stop - start, start - self._base)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _free(self) -> None:
        """Give the disk back what lies between the head and the tail and has been passed over."""
        start = max(self._freed, self._base)
        stop = min(self._position, self.size - self.tail) - self._mask.reach
        if stop - start < HOLE:
            return
        first = -(-(start - self._base) // BLOCK) * BLOCK
        last = (stop - self._base) // BLOCK * BLOCK
        if punch_hole(self.fd, first, last - first):
            self._freed = self._base + last
        else:
            self._start_over()

    def _start_over(self) -> None:
        """Empty the file; the program goes on at its beginning. What it writes in that very microsecond is lost."""
        end = self._base + os.fstat(self.fd).st_size
        needed = max(self._position, end - self.tail) - self._mask.reach
        self._carry = self._raw(needed, end)
        os.ftruncate(self.fd, 0)
        self._base = self._freed = end
        self._length = 0


def punch_hole(fd: int, start: int, length: int) -> bool:
    """Free the blocks of a part of a file without changing its length; False if the system or file system cannot."""
    if sys.platform != "linux":
        return False
    return bool(LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(length)) == 0)


class SpoolName(NamedTuple):
    """Which execution and which stream a spool file belongs to."""

    run: int
    attempt: int
    stream: str


def spool_path(folder: Path, run: int, attempt: int, stream: str) -> Path:
    """The spool file of a stream ('stdout' or 'stderr')."""
    return folder / f"{run}-{attempt}.{stream}"


def parse_name(path: Path) -> SpoolName | None:
    """The inverse of `spool_path`; None for any other file, numbers that no run can have included."""
    found = re.fullmatch(r"([1-9][0-9]{0,17})-([1-9][0-9]{0,8})\.(stdout|stderr)", path.name)
    return SpoolName(int(found[1]), int(found[2]), found[3]) if found else None


def recover(folder: Path) -> list[tuple[SpoolName, Path]]:
    """The spool files that a dead worker left in its folder, in the order of runs; empty if there is no such folder.

    A `Spool` on such a path reads it from its beginning: the head and the tail are still there.
    """
    if not folder.is_dir():
        return []
    return sorted((name, path) for path in folder.iterdir() if (name := parse_name(path)))
