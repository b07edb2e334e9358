"""Becomes another user, then a program of that user: the part of a start that users can hold up.

A user can stop its own processes, and let them wait for a file system of its own. So the worker starts this process,
which is the worker's own user until it has read the request, and does not wait until it has become the program. After
that, output files and the directory are opened with the rights of the other user, so that its links lead nowhere else.

Output files of the worker's own user are opened here, too. Another user may own the file or its folder: to empty one of
very many pieces takes as long as that user likes, and the worker loses the locks of a file that it opens and closes.

It runs as `python -I -S becoming.py SOCKET` and imports little, to start in milliseconds. It answers through the
socket: a line with the output files, and if the program cannot start, a line with the number of the error that may be
the machine's fault (0: it is not) and a sentence.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # Empty packages replace the real ones, so this process does not load the imports of `jobfac.programs`.
    programs = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    for name, place in (("jobfac", os.path.dirname(programs)), ("jobfac.programs", programs)):  # noqa: PTH120
        bare = type(sys)(name)
        bare.__path__ = [place]
        sys.modules[name] = bare

from jobfac.machine.faults import LACKING
from jobfac.programs.failures import InstallationFault, StartError, check_installation, explain, explain_directory
from jobfac.programs.files.destinations import Kind, open_path

SECONDS = 10.0
"""Time limit in seconds for the new process to read its request."""

LONGEST = 10_000
"""Characters of a reason at most."""

NOT_STARTED = 127
"""The exit code of a process that has not become the program."""

KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
"""By machine, the number of the system call for keys. The C library has no function for it."""

JOIN_SESSION_KEYRING = 1
CAPABILITIES = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
"""The header of capset: its version, and this process."""

File = tuple[int, int]  # device and inode


class OutputFile(NamedTuple):
    """A file that a stream is redirected to, to be opened as the program's user."""

    kind: Kind
    path: str
    rotate_at: int
    keep: int
    mark: str


class Becoming:
    """The start of a program by the process that becomes it. The holder of ``children.lock`` calls it.

    Attributes:
        uid: the id of its other user; None: it has none.
        files: the output files that the process has opened; None: it has not got there.
        failure: why it has not become the program; None: it has, or it has not got there yet. Its cause is an OSError
            only if the machine may be at fault.
    """

    def __init__(self, channel: socket.socket, user: str | None, uid: int | None) -> None:
        self.uid = uid
        self.files: frozenset[File] | None = None
        self.failure: StartError | None = None
        self._what = "the process that " + ("opens the output files" if user is None else f"becomes user {user!r}")
        self._channel = channel
        self._text = b""

    def request(self, text: bytes, pid: int) -> None:
        """Send the request to the process. It is killed if it does not begin to read."""
        self._channel.settimeout(SECONDS)
        try:
            self._channel.sendall(text)
            self._channel.shutdown(socket.SHUT_WR)
        except TimeoutError:  # without the whole request it would wait for ever
            os.kill(pid, signal.SIGKILL)
            self.failure = _failure(
                f"{self._what} did not begin within {SECONDS:g} s; give this worker fewer slots",
                errno.EAGAIN,
            )
        except OSError:  # it has died, which its exit shows
            pass
        self._channel.setblocking(False)

    def read(self) -> None:
        """Read what the process has answered so far. Never blocks."""
        if self._channel.fileno() < 0:
            return
        try:
            while part := self._channel.recv(65536):
                self._text += part
            self._channel.close()  # it has become the program, or has ended
        except BlockingIOError:
            pass
        except OSError:  # it was killed before it had read the request
            self._channel.close()
        files, found, failure = self._text.partition(b"\n")
        number, _, sentence = failure.partition(b"\n")
        if found:
            self.files = frozenset((device, inode) for device, inode in json.loads(files))
        if sentence:
            self.failure = _failure(sentence.decode(errors="replace"), int(number))

    def ended(self, code: int | None) -> None:
        """Call at the end of the process, with its exit code; None: a signal ended it."""
        self.read()
        self.close()
        if code is not None and self.files is None and self.failure is None:
            why = (
                f"{self._what} ended with exit code {code} before the program began; "
                "repair the installation of jobfac on this worker"
            )
            self.failure = StartError(why)
            self.failure.__cause__ = InstallationFault(why)

    def close(self) -> None:
        """Stop listening."""
        self._channel.close()


def _failure(sentence: str, number: int) -> StartError:
    error = StartError(sentence)
    error.__cause__ = OSError(number, os.strerror(number)) if number else None
    return error


def become(
    user: str | None,
    identity: Mapping[str, Any] | None,
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str | None,
    files: Sequence[OutputFile | None],
    marker: str,
    *streams: int,
) -> tuple[int, Becoming]:
    """Start the process that becomes the user and then the program; returns its PID. The caller reaps it.

    Args:
        user, identity: the other user; None: it stays the worker's own.
        environment: of the program. The process itself must not have it: it may name code of the user, to be loaded.
        files: by stream, stdout first, the output file; None: the stream stays as it is.
        streams: the descriptors of stdin, stdout and stderr.

    Raises:
        OSError: the process cannot be started.
    """
    check_installation()
    request = {
        "user": user,
        "identity": identity,
        "argv": [os.fsencode(one).hex() for one in argv],
        "environment": {os.fsencode(name).hex(): os.fsencode(text).hex() for name, text in environment.items()},
        "directory": directory,
        "files": files,
    }
    command = [sys.executable, "-I", *(["-S"] if sys.platform == "linux" else []), __file__]
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            handle = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**_libraries(), "JOBFAC_MARKER": marker},  # by which the guardian finds it
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    handle.returncode = 0  # prevents Popen from reaping the process
    becoming = Becoming(ours, user, None if identity is None else identity["user"])
    becoming.request(json.dumps(request).encode(), handle.pid)
    return handle.pid, becoming


def _libraries() -> dict[str, str]:
    """Return the variable that the interpreter may need to start."""
    return {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    text = b""
    while part := channel.recv(1 << 20):
        text += part
    request = json.loads(text)
    try:
        _become(channel, request)
    except Exception as error:  # without a reason, the exit code would count as the program's
        reason = str(error) if isinstance(error, StartError) else f"the program cannot be started: {error!r}"
        # The worker reads it only after this process has ended, so the socket must hold it. A part of it could end in
        # the middle of a secret, which would then not be masked.
        if len(reason) > LONGEST:
            reason = "its paths or its command are too long to start it"
        channel.sendall(f"{_number(error)}\n{reason}".encode(errors="backslashreplace"))
    os._exit(NOT_STARTED)


def _number(error: Exception) -> int:
    """Return the number of the error that may be the machine's fault; 0: there is none."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return (cause.errno or 0) if isinstance(cause, OSError) else errno.ENOMEM * isinstance(error, MemoryError)


def _become(channel: socket.socket, request: dict[str, Any]) -> None:
    """Become the user and the program. Raises StartError."""
    user, identity, directory = request["user"], request["identity"], request["directory"]
    who = "this worker" if user is None else f"user {user!r}"
    opened = []
    try:
        if user is not None:
            _switch(user, identity)
        for stream, file in enumerate(request["files"], 1):
            if file is not None:
                kind, path, rotate_at, keep, mark = file
                try:
                    descriptor = open_path(kind, Path(path), rotate_at, keep, mark, who)
                except StartError as error:
                    if isinstance(error.__cause__, OSError) and error.__cause__.errno in LACKING:
                        raise
                    raise StartError(str(error)) from None  # the job chose this file
                os.dup2(descriptor, stream)
                found = os.fstat(descriptor)
                opened.append((found.st_dev, found.st_ino))
    finally:
        channel.sendall(json.dumps(opened).encode() + b"\n")
    if user is not None or directory is not None:
        _enter(directory, who)
    argv = [bytes.fromhex(one) for one in request["argv"]]
    environment = {bytes.fromhex(name): bytes.fromhex(text) for name, text in request["environment"].items()}
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, environment)
    except (OSError, ValueError) as error:
        names = {os.fsdecode(name): os.fsdecode(text) for name, text in environment.items()}
        sentence = explain([os.fsdecode(one) for one in argv], names, directory, user, error)
        raise StartError(sentence) from error


def _switch(user: str, identity: Mapping[str, Any]) -> None:
    """Become the user, and leave behind what a process keeps when its user changes: keys and capabilities."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and (number := KEYCTL.get(os.uname().machine)) is not None:
        # A process that possesses a keyring may read its keys, even those of other users. The call comes before the
        # switch, because the user may have no room for a further key. A container may forbid it.
        libc.syscall(number, JOIN_SESSION_KEYRING, None)
    try:
        os.setgroups(identity["extra_groups"])
        os.setresgid(*[identity["group"]] * 3)
        os.setresuid(*[identity["user"]] * 3)
    except PermissionError:
        raise StartError(f"this worker may not switch to user {user!r}; run it as root or as that user") from None
    except OSError as error:  # a container may not have all users
        raise StartError(f"this worker cannot switch to user {user!r}: {error.strerror}") from error
    # Those of a process that was not root stay, and the ambient ones even after exec.
    if sys.platform == "linux" and libc.capset(CAPABILITIES, bytes(24)) != 0:
        raise StartError("this worker cannot drop its capabilities; run it as root")


def _enter(directory: str | None, who: str) -> None:
    """Enter the directory with the rights of the user; without one that of the worker.

    Where another user may not enter that, it is /. A process in a folder reads files there even if it could not get
    there.
    """
    try:
        os.chdir(os.getcwd() if directory is None else directory)  # noqa: PTH109
    except OSError as error:
        if directory is not None:
            raise StartError(explain_directory(directory, error, who)) from error
        os.chdir("/")


if __name__ == "__main__":
    main()
