"""Mounted file systems, as the kernel lists them. The list touches none of them, so it never waits for a server."""

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/self/mountinfo")

FRESH = 1.0
"""Seconds for which the table counts. It may have thousands of lines."""

LOCAL = frozenset(
    {
        "bcachefs", "btrfs", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "erofs",
        "exfat", "ext2", "ext3", "ext4", "f2fs", "hugetlbfs", "iso9660", "jfs", "mqueue", "msdos", "nsfs", "ntfs3",
        "overlay", "proc", "pstore", "ramfs", "reiserfs", "rootfs", "securityfs", "squashfs", "sysfs", "tmpfs",
        "tracefs", "udf", "vfat", "xfs", "zfs",
    }
)  # fmt: skip
"""Types of file systems that ask no server and no other process."""


class Mount(NamedTuple):
    """A mounted file system.

    Attributes:
        point: path at which it is mounted.
        kind: its type, such as ``ext4`` or ``nfs4``.
    """

    point: str
    kind: str


def mounts() -> list[Mount]:
    """Return all mounted file systems; empty where the kernel does not tell. Format: proc_pid_mountinfo(5)."""
    try:
        lines = TABLE.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []
    fields = [(line.split(" "), line.partition(" - ")[2].split(" ")) for line in lines if line]
    return [Mount(re.sub(r"\\(\d{3})", _unescaped, left[4]), right[0]) for left, right in fields]


def _unescaped(octal: re.Match[str]) -> str:
    return chr(int(octal[1], 8))


def mount_of(path: str, points: Sequence[str]) -> str:
    """Return the mount point of a path without links; empty: it is below none of these."""
    return max((point for point in points if f"{path}/".startswith(_below(point))), key=len, default="")


def mounts_of(paths: Collection[str]) -> list[str]:
    """Return the mount point of each of these paths without links; empty for one whose mount point is unknown."""
    points = [mount.point for mount in mounts()]
    return [mount_of(path, points) for path in paths]


def neighbours(path: str, others: Collection[str]) -> int:
    """Return how many of the other paths are on the file system of ``path``, all without links; 0 if none is known."""
    here, *there = mounts_of([path, *others])
    return there.count(here) if here else 0


def _below(point: str) -> str:
    return f"{point.rstrip('/')}/"


class Remote:
    """The file systems that may wait for a server. Mounts of the last second may be missing."""

    def __init__(self) -> None:
        self._points: tuple[str, ...] = ()
        self._read_at = -math.inf

    def has_any(self, paths: Collection[str], now: float) -> bool:
        """Whether one of these paths without links is on such a file system. ``now``: monotonic seconds."""
        if now > self._read_at + FRESH:
            known = mounts() or [Mount("/", "unknown")]
            self._points = tuple(_below(mount.point) for mount in known if mount.kind not in LOCAL)
            self._read_at = now
        return any(f"{path}/".startswith(self._points) for path in paths)
