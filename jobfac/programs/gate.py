"""What a program begins in: nothing of one with limits runs before it is in its cgroup (the gate), and each inherits a
mark and no blocked signals."""

import contextlib
import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from jobfac.machine.marks import MARK
from jobfac.programs.cgroup import Group, Limits, delegation
from jobfac.programs.procfs import number_of

WAIT = 'read -r _ && exec "$@" </dev/null'
"""The shell waits for a line, then becomes the program. So the process that the worker has started stays the leader."""


def group_name(marker: str) -> str:
    """Return a name for the cgroup of this execution. All users see it, so it does not show the random marker."""
    digest = hashlib.sha256(os.fsencode(marker)).hexdigest()[:16]
    return f"{marker.rpartition('/')[0].replace('/', '-')}-{digest}"


class Gate:
    """Starts a program in its cgroup. Without limits it changes nothing and costs nothing.

    Attributes:
        argv: what to start.
        stdin: its standard input.
        group: the cgroup; None: there are no limits.
    """

    def __init__(self, argv: Sequence[str], limits: Limits | None, marker: str) -> None:
        """``marker``: unique to the execution.

        Raises:
            StartError: the limits cannot be kept on this machine.
        """
        self.argv = argv
        self.stdin = subprocess.DEVNULL
        self.group: Group | None = None
        self._program = argv[0]
        self._button = -1
        if limits is None:
            return
        self.group = delegation().group(group_name(marker), limits)
        try:
            self.stdin, self._button = os.pipe()
        except OSError:
            self.group.remove()
            raise
        self.argv = ("/bin/sh", "-c", WAIT, "sh", *argv)

    def __enter__(self) -> Self:
        return self

    def check(self, environment: Mapping[str, str], directory: str | None) -> None:
        """Find the program, because a shell that cannot become it tells only by its exit code. Raises OSError."""
        if self.group is None:
            return
        if "/" in self._program:
            path = Path(directory or ".", self._program)
            if not path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if not os.access(path, os.X_OK) or path.is_dir():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        elif shutil.which(self._program, path=environment.get("PATH", os.defpath)) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def open(self, pid: int) -> None:
        """Move the started process into its cgroup and let it become the program. Raises OSError."""
        if self.group is None:
            return
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):  # it was killed
            self.group.enter(pid)
            os.write(self._button, b"\n")

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self.group is None:
            return
        for descriptor in (self.stdin, self._button):  # a shell that still waits reads the end and exits
            os.close(descriptor)
        if value is not None:
            self.group.remove()


@contextlib.contextmanager
def inheriting(marker: str) -> Iterator[None]:
    """Prepare what a program inherits from the thread that starts it."""
    with _nothing_blocked(), _marking(marker):
        yield


@contextlib.contextmanager
def _nothing_blocked() -> Iterator[None]:
    """Unblock all signals in this thread, because a program inherits the signal mask of the thread that starts it."""
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _marking(marker: str) -> Iterator[None]:
    """Let what is started inside inherit the mark of an execution (see ``procfs.markers``).

    What another thread starts meanwhile inherits it, too. That does no harm, as its environment can be read.
    """
    if sys.platform != "linux":
        yield
        return
    former = resource.getrlimit(MARK)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
        resource.setrlimit(MARK, (number_of(marker), former[1]))
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(MARK, former)
