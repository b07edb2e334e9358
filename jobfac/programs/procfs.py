"""The process table of Linux, read directly from /proc. This is about ten times cheaper than psutil's objects."""

import errno
import os
import signal
import time
from collections.abc import Collection

from jobfac.programs.reading import read_each

TICKS = os.sysconf("SC_CLK_TCK")
MARKER = b"\0JOBFAC_MARKER="

MOST = 64 * 1024
"""Bytes of a file of /proc at most. The environment of a process may have megabytes, or be any part of its memory. If
the reader took them all, a few idle processes of one user would keep it busy for seconds."""

ENTRIES = 16
"""Entries of an environment at most that are looked at one by one."""

NOT_READ = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing about the process. A process that counted as gone because of them would survive a stop."""

NO_PIDFD = frozenset({errno.ENOSYS, errno.EPERM})
"""Errors of a kernel before 5.3, and of a container whose seccomp filter does not know descriptors of processes."""


class Entry:
    """One process: PIDs of parent, group and session; start in clock ticks since boot; dead if it is a zombie.

    PID and start together identify a process permanently. A PID alone is reused.
    """

    __slots__ = ("dead", "group", "parent", "pid", "session", "start")

    def __init__(self, pid: int, parent: int, group: int, session: int, start: int, dead: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.start = start
        self.dead = dead


def now() -> int:
    """The current time on the scale of `Entry.start`."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * TICKS // 1_000_000_000


def entry(pid: int) -> Entry | None:
    """The process with this PID, or None. Raises OSError if the machine has no descriptor to read it (``NOT_READ``)."""
    try:
        fields = _fields(pid)
    except OSError as error:
        _check(error)
        return None
    # A zombie with more than one thread is a program that is alive although its first thread has ended.
    dead = fields[0] in b"ZX" and int(fields[17]) <= 1
    return Entry(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), dead)


def _fields(pid: int) -> list[bytes]:
    """The fields of ``/proc/PID/stat`` from the third one on, so number N of proc(5) is at N - 3. May raise OSError."""
    text = _content(f"/proc/{pid}/stat")
    # The name in brackets may contain any characters, including brackets and spaces.
    return text[text.rindex(b")") + 2 :].split()


def entries() -> dict[int, Entry]:
    """Every process of this machine that this user may read, by PID."""
    found = (entry(int(name)) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 (hot)
    return {one.pid: one for one in found if one is not None}


def tracer_of(pid: int) -> int | None:
    """Return the process that traces this one, such as a debugger; None: none does."""
    return _status(pid, b"TracerPid") or None


def user_of(pid: int) -> int | None:
    """Return the real user of a process, which a program with the setuid bit does not change; None: it is gone."""
    return _status(pid, b"Uid")


def _status(pid: int, name: bytes) -> int | None:
    """Return the first number of a field of the process's status; None: it is gone."""
    try:
        found = _content(f"/proc/{pid}/status").partition(b"\n" + name + b":")[2].split(None, 1)[:1]
    except OSError as error:
        _check(error)
        return None
    return int(found[0]) if found else None


def number_of(marker: str) -> int:
    """The number that stands for the execution with this marker, or one that begins with TOKEN/RUN/ATTEMPT."""
    execution = "/".join(marker.split("/")[:3])
    return int.from_bytes(os.fsencode(execution), "big") % (2**61 - 1)


def mark_of(marker: str) -> str:
    """What ``markers`` returns for a process of this execution if this user may not read its environment."""
    return f"#{number_of(marker)}"


def markers(pids: Collection[int], known: Collection[str] = ()) -> dict[int, str]:
    """The markers in the initial environments of these processes, by PID, without those that have none.

    ``known``: what has one of these marks is not read further, so it is found although it has cleared its environment
    (``env -i``) or its memory is locked. A helper of the worker may have the mark of a program that another thread
    started at the same time, so this is for programs of dead workers.

    A process may forbid its own user to read its environment (ssh-agent does), and a root without CAP_SYS_PTRACE, as in
    a container, may not read that of other users. Others write a title over it, some have more than is read, and one
    that becomes another program has none for a moment. Then it is the mark of the execution (``mark_of``), as well as
    where the environment could not be read in time.
    """
    by_mark = {pid: mark for pid in pids if (mark := _mark(pid)) in known} if known else {}
    rest = [pid for pid in pids if pid not in by_mark]
    read = read_each(_marker, user_of, rest)
    found = by_mark | {pid: read[pid] if pid in read else _mark(pid) for pid in rest}
    return {pid: name for pid, name in found.items() if name}


def _marker(pid: int) -> str | None:
    try:
        environment = _content(f"/proc/{pid}/environ")
        if not environment and _has_environment(pid):
            environment = _content(f"/proc/{pid}/environ")
            if not environment:
                return _mark(pid)
    except PermissionError:
        return _mark(pid)
    except OSError as error:
        _check(error)
        return None
    is_cut = len(environment) >= MOST
    _, found, rest = (b"\0" + environment).partition(MARKER)
    marker, ends, _ = rest.partition(b"\0")
    if found and (ends or not is_cut):
        return os.fsdecode(marker)
    return _mark(pid) if is_cut or _is_overwritten(environment) else None


def _has_environment(pid: int) -> bool:
    """Whether a process whose environment was read as empty has one, or gets one: it becomes another program (exec).

    Then the end of its code is set after the environment. One that was started with an empty environment has none, nor
    has a zombie or a thread of the kernel.
    """
    fields = _fields(pid)
    size, code_ends, begins, ends = (int(fields[number - 3]) for number in (23, 27, 50, 51))
    return size > 0 and (code_ends == 0 or ends > begins)


def _is_overwritten(environment: bytes) -> bool:
    """Whether a process has written its title over its environment, as perl's ``$0 = ...`` and ssh do.

    The title ends in the first entries, or zeros follow it. That of a helper never is overwritten. A helper may have
    the mark of a program that another thread started at the same time.
    """
    if environment.startswith(b"\0") or b"\0\0" in environment:
        return True
    entries = environment.split(b"\0", ENTRIES)[:-1]  # the last one is empty, or the rest
    return any(b"=" not in entry for entry in entries) or (bool(environment) and not entries)


def _mark(pid: int) -> str | None:
    """The mark of a process; None: it has none, or this user may not signal it. Reads nothing of its memory."""
    try:
        os.kill(pid, 0)  # what this user may not signal is none of its programs
        limits = _content(f"/proc/{pid}/limits")
    except OSError as error:
        _check(error)
        return None
    soft = limits.partition(b"Max file locks")[2].split(None, 1)[:1]
    return f"#{soft[0].decode()}" if soft and soft[0].isdigit() else None


def send(pid: int, start: int, number: int) -> bool:
    """Send a signal to exactly this process; returns False if it is gone or this user may not signal it."""
    try:
        return _send(pid, start, number)
    except OSError as error:
        _check(error)
        if error.errno not in NO_PIDFD:
            return False
    found = entry(pid)
    if found is None or found.start != start:
        return False
    try:
        os.kill(pid, number)  # the PID may be reused just before it, which is less likely than a program that lives on
    except OSError:
        return False
    return True


def _send(pid: int, start: int, number: int) -> bool:
    """Send a signal through a descriptor of the process, which cannot become another one's. May raise OSError."""
    descriptor = os.pidfd_open(pid)
    try:
        found = entry(pid)
        if found is None or found.start != start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
    return True


def _check(error: OSError) -> None:
    """Raise the error if it is one of ``NOT_READ``."""
    if error.errno in NOT_READ:
        raise error


def _content(path: str) -> bytes:
    """Return the content of a file, up to ``MOST`` bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = b""
        while len(content) < MOST and (part := os.read(descriptor, MOST - len(content))):
            content += part
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
    else:
        return content
    finally:
        os.close(descriptor)
