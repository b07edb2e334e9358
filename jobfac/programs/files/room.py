"""How much of the disk a file takes that a program may change. A program can take blocks that no size shows: behind the
end of a file (`fallocate`), or in the part of an output that was freed because nobody reads it."""

import ctypes
import sys
from typing import NamedTuple

SLACK = 64 * 1024 * 1024
"""Bytes of the disk that a file may take without any reason."""

PREALLOCATED = 8 * 1024**3
"""Bytes that a file system takes in advance for a file that grows, at most: XFS up to twice what the file has, and up
to its longest extent."""

REST = 1024 * 1024
"""Bytes of the disk that are not worth freeing after a program's end."""

PUNCH_HOLE_KEEP_SIZE = 0x03
LIBC = ctypes.CDLL(None)


class Use(NamedTuple):
    """The bytes that a file takes on the disk, those of its content that are needed, and its size."""

    taken: int
    needed: int
    size: int

    @property
    def is_excessive(self) -> bool:
        """Whether the file takes more than content and file system explain."""
        return self.taken > self.needed + min(2 * self.size, PREALLOCATED) + SLACK

    @property
    def is_wasteful(self) -> bool:
        """Whether freeing what is not needed is worth it."""
        return self.taken > self.needed + REST


def punch_hole(fd: int, start: int, length: int) -> bool:
    """Free the blocks of a part of a file without changing its length; returns False if this is not supported."""
    if sys.platform != "linux":
        return False
    return bool(LIBC.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(length)) == 0)
