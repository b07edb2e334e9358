"""Opens an output file or a job's directory with the rights of another user, in a short-lived helper process.

All threads of a process share one effective user, so a worker cannot switch for one `open`. The helper starts as the
worker's user, loads its modules, switches permanently to the other user, opens the path, and sends the descriptor back
through a socket.

It runs as `python -I -S opening.py SOCKET REQUEST` and imports little, to start in milliseconds.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    # Empty packages replace the real ones, so this process does not load the imports of `jobfac.programs`.
    programs = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    for name, place in (("jobfac", os.path.dirname(programs)), ("jobfac.programs", programs)):  # noqa: PTH120
        bare = type(sys)(name)
        bare.__path__ = [place]
        sys.modules[name] = bare

from jobfac.programs.failures import StartError, explain_directory
from jobfac.programs.files.destinations import Kind, open_path

SECONDS = 10.0
"""Time limit in seconds for opening a file. A network file system may hang."""


def open_as(user: str, kind: Kind, path: Path, rotate_at: int, keep: int) -> int | None:
    """Open the output file as `user`; returns the descriptor, or None if that is this process's own user.

    Raises:
        StartError: the user does not exist, this process may not switch to it, or the file cannot be opened.
    """
    return _ask(user, f"the output file {str(path)!r}", path, kind=kind, rotate_at=rotate_at, keep=keep)


def enter_as(user: str, directory: Path) -> int | None:
    """Open a directory that `user` may enter; returns its descriptor, or None if that is this process's own user.

    A new process changes its directory before it changes its user. With the path of a directory, it would follow links
    of that user with this process's rights.

    Raises:
        StartError: the user does not exist, this process may not switch to it, or the user may not enter the directory.
    """
    return _ask(user, f"the directory {str(directory)!r}", directory, kind="enter")


def _ask(user: str, what: str, path: Path, **request: str | int) -> int | None:
    """Let a helper process open a path. `what` names it in messages."""
    from jobfac.programs.children import children
    from jobfac.programs.posix import account

    identity = account(user)
    if not identity:
        return None
    command = [sys.executable, "-I", *(["-S"] if sys.platform == "linux" else []), __file__]
    text = json.dumps({**request, "user": user, "path": os.path.abspath(path), "identity": identity})  # noqa: PTH100
    ours, theirs = socket.socketpair()
    with ours:
        with theirs, children.lock:
            try:
                # The helper stays in this process's session, so the sweep for orphans ignores it.
                helper = subprocess.Popen(
                    [*command, str(theirs.fileno()), text], pass_fds=[theirs.fileno()], cwd="/", env={}
                )
            except OSError as error:
                raise StartError(f"{what} cannot be opened: {error.strerror}") from error
        try:
            ours.settimeout(SECONDS)
            answer, descriptors, _, _ = socket.recv_fds(ours, 65536, 1)
        except TimeoutError:
            answer, descriptors = f"{what} was not opened within {SECONDS:g} s".encode(), []
        finally:
            helper.kill()
            helper.wait()
    if not descriptors:
        raise StartError(answer.decode() or f"{what} cannot be opened: its helper has died")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    request = json.loads(sys.argv[2])
    user, identity = request["user"], request["identity"]
    try:
        os.setgroups(identity["extra_groups"])
        os.setresgid(*[identity["group"]] * 3)
        os.setresuid(*[identity["user"]] * 3)
    except PermissionError:
        channel.sendall(f"this worker may not switch to user {user!r}; run it as root or as that user".encode())
        return
    path, who = Path(request["path"]), f"user {user!r}"
    try:
        if request["kind"] == "enter":
            opened = _entered(path, who)
        else:
            opened = open_path(request["kind"], path, request["rotate_at"], request["keep"], who)
    except StartError as error:
        channel.sendall(str(error).encode())
        return
    socket.send_fds(channel, [b"!"], [opened])


def _entered(directory: Path, who: str) -> int:
    """Enter a directory with this process's rights; returns its descriptor, which needs no right to read it."""
    try:
        os.chdir(directory)
        return os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(explain_directory(str(directory), error, who)) from error


if __name__ == "__main__":
    main()
