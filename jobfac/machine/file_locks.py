"""Who holds a lock on a file, as the kernel lists the locks."""

import os
from pathlib import Path

TABLE = Path("/proc/locks")


def writer_of(path: str, byte: int) -> str | None:
    """Return the process that holds a write lock on this byte, such as `process 17 (sqlite3)`; None: it is not known.

    Format: proc_locks(5).
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (a text)
        lines = [line.split() for line in TABLE.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        if line[1:4] == ["POSIX", "ADVISORY", "WRITE"] and line[5] == place and _covers(line[6], line[7], byte):
            return _named(line[4])
    return None


def _covers(first: str, last: str, byte: int) -> bool:
    return int(first) <= byte and (last == "EOF" or byte <= int(last))


def _named(pid: str) -> str:
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return f"process {pid}"
