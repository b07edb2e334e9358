"""How much of the disk a file takes that a program may change. A program can take blocks that no size shows: behind the
end of a file (`fallocate`), or in the part of an output that was freed because nobody reads it."""

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import NamedTuple

SLACK = 64 * 1024 * 1024
"""Bytes of the disk that a file may take without any reason."""

PREALLOCATED = 8 * 1024**3
"""Bytes that a file system takes in advance for a file that grows, at most: XFS up to twice what the file has, and up
to its longest extent."""

LEAST = 4 * 1024 * 1024
"""Bytes left on a disk, at most, when a file system gives back what it has taken in advance."""

HOLE = 64 * 1024
"""Bytes that are worth a call of the system."""

REST = 1024 * 1024
"""Bytes of the disk that are not worth freeing after a program's end."""

PUNCH_HOLE_KEEP_SIZE = 0x03
LIBC = ctypes.CDLL(None)


class Use(NamedTuple):
    """The bytes that a file takes on the disk, those of its content that are needed, and its size."""

    taken: int
    needed: int
    size: int

    def is_excessive(self, folder: str) -> bool:
        """Whether the file takes more than content and file system explain. ``folder``: one on the same disk."""
        if self.taken <= self.needed + SLACK:
            return False
        # A program may give the file any size, without content.
        return self.taken > self.needed + min(2 * self.size, PREALLOCATED) + SLACK or _is_full(folder)

    @property
    def is_wasteful(self) -> bool:
        """Whether freeing what is not needed is worth it."""
        return self.taken > self.needed + REST


def _is_full(folder: str) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:  # removed, or of a failing disk
        return False
    return found.f_bavail * found.f_frsize < LEAST


@dataclass
class Space:
    """What an output file takes, and which part of it nobody needs: its cut. All are offsets in the file.

    Attributes:
        fd: a descriptor of its own, which the caller closes.
        base: the offset in the stream at which the file begins.
        first, last: the beginning and the end of the cut.
        freed: the end of what was freed of it.
        seen: the bytes that the file took when it was last looked at.
        can_punch: whether the file system has freed all that it should.
        is_refilled: much was freed where all had been freed before.
    """

    fd: int
    base: int
    first: int
    freed: int
    last: int
    seen: int
    can_punch: bool = True
    is_refilled: bool = False

    def free(self) -> Use:
        """Free the cut. This may wait for as long as the program writes to the file: its write has the file's lock.

        In what was freed before, only a program that means to take the disk has anything. It is freed again if the file
        takes more than at the last look, because it changes the time of the file, as if the program wrote to it.
        """
        found = os.fstat(self.fd)
        taken = found.st_blocks * 512
        if found.st_size < self.last:  # the program has emptied the file meanwhile
            return Use(taken, found.st_size, found.st_size)
        if taken > self.seen and taken > SLACK and self.first < self.freed:
            self._punch(self.first, self.freed)
            self.is_refilled = taken - os.fstat(self.fd).st_blocks * 512 > SLACK
        if self.last - max(self.first, self.freed) >= HOLE and self._punch(max(self.first, self.freed), self.last):
            self.freed = self.last
        found = os.fstat(self.fd)
        self.seen = found.st_blocks * 512
        needed = found.st_size - max(0, self.freed - self.first)
        return Use(taken if self.is_refilled else self.seen, needed, found.st_size)

    def _punch(self, start: int, stop: int) -> bool:
        self.can_punch = self.can_punch and punch_hole(self.fd, start, stop - start)
        return self.can_punch


def punch_hole(fd: int, start: int, length: int) -> bool:
    """Free the blocks of a part of a file without changing its length; returns False if this is not supported."""
    if sys.platform != "linux":
        return False
    return bool(LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(length)) == 0)
