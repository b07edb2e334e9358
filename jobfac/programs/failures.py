"""Explains why a program could not be started, in one sentence for the operator."""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobfac.errors import JobfacError
from jobfac.machine.disk import FAILING


class StartError(JobfacError):
    """A program could not be started. The message is one sentence that names the problem and the remedy."""


class InstallationFault(OSError):
    """jobfac's own programs cannot start, as it was removed or replaced under this worker. No run is at fault."""


SCRIPTS = ("programs/guardian.py", "programs/files/becoming.py", "programs/files/accounts.py", "sqljob/__main__.py")
"""The programs of jobfac that a worker starts, by their places in the package."""


def check_installation() -> None:
    """Check that the interpreter and the programs of jobfac are there. Raises InstallationFault."""
    for path in (Path(sys.executable), *(Path(__file__).parent.parent / script for script in SCRIPTS)):
        if not os.path.exists(path):  # noqa: PTH110 (raises nothing)
            raise InstallationFault(
                f"the installation of jobfac under this worker is gone: there is no {str(path)!r}; install it again "
                "and restart the worker"
            )


MACHINE = {
    errno.EMFILE: "this worker has too many open files; raise its limit (ulimit -n) or give it fewer slots",
    errno.ENFILE: "this machine has too many open files; raise fs.file-max or run less on it",
    errno.EAGAIN: "the limit of processes is reached; raise it (ulimit -u, pids.max) or give this worker fewer slots",
    errno.ENOMEM: "this machine is out of memory; free some or give this worker fewer slots",
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another folder or mount it writable",
    errno.E2BIG: "the arguments and the environment together are too long; pass large input as a payload file",
}


def explain(
    argv: Sequence[str], environment: Mapping[str, str], directory: str | None, user: str | None, error: Exception
) -> str:
    """Return the sentence for an error that the start of `argv` raised. Checks the current state of the file system."""
    name = argv[0]
    if not isinstance(error, OSError):
        return f"{name!r} cannot be started with these arguments or this environment: {error}"
    if isinstance(error, InstallationFault):
        return f"{name!r} cannot be started: {error}"
    if error.errno == errno.EAGAIN and user is not None:
        return (
            f"{name!r} cannot be started: the limit of processes is reached, to which all processes of user {user!r} "
            "count; raise it (LimitNPROC= of the worker's unit, ulimit -u, pids.max) or end some of them"
        )
    if error.errno == errno.ETXTBSY:
        return f"{name!r} cannot be started while somebody writes the file, as a deployment does"
    if error.errno in MACHINE:
        return f"{name!r} cannot be started: {MACHINE[error.errno]}"
    if error.errno in FAILING:  # nothing can be found out, and what is there would seem missing
        why = f"{error.strerror}; check the file systems of the program and of the job's directory"
        return f"{name!r} cannot be started: {why}"
    if directory is not None and (fault := _directory_fault(directory)):
        return fault
    if error.errno == errno.EPERM and user is not None:
        return (
            f"{name!r} cannot be started: this worker may not switch to user {user!r}; run it as root or as that user"
        )
    return _program_fault(name, environment, directory, user, error)


def explain_file(purpose: str, path: Path, error: OSError, who: str = "this worker") -> str:
    """Return the sentence for a file that `who` could not open. `purpose` names the file, as in 'the spool file'."""
    if error.errno == errno.EAGAIN:
        remedy = "another program, such as a file server, has reserved it; close it there"
    elif error.errno in MACHINE:
        remedy = MACHINE[error.errno]
    elif error.errno == errno.ENOENT:
        remedy = f"the folder {str(path.parent)!r} does not exist; create it"
    elif error.errno in (errno.ENOTDIR, errno.EEXIST):
        remedy = f"{str(path.parent)!r} is not a folder; choose another path"
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"{who} has no right to; grant it or choose another path"
    else:
        remedy = f"{error.strerror}; choose another path"
    return f"{purpose} {str(path)!r} cannot be opened: {remedy}"


def explain_directory(directory: str, error: OSError, who: str) -> str:
    """Return the sentence for a directory that `who` could not enter."""
    if error.errno == errno.ENOENT:
        return f"the directory {directory!r} does not exist on this worker; create it or correct the job's directory"
    if error.errno == errno.ENOTDIR:
        return f"{directory!r} is not a directory; correct the job's directory"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"the directory {directory!r} may not be entered by {who}; grant it the right"
    return f"the directory {directory!r} cannot be entered: {error.strerror}; correct the job's directory"


def _directory_fault(directory: str) -> str | None:
    path = Path(directory)
    if not os.path.exists(path):  # noqa: PTH110 (raises nothing for a name that is too long)
        return f"the directory {directory!r} does not exist on this worker; create it or correct the job's directory"
    if not path.is_dir():
        return f"{directory!r} is not a directory; correct the job's directory"
    if not os.access(path, os.X_OK):
        return f"the directory {directory!r} may not be entered by this worker; grant it the right"
    return None


INSTALL = "install it or correct the command"

FOR_A_SHELL = frozenset(
    {".", "alias", "case", "cd", "eval", "exec", "export", "for", "if", "set", "shopt", "source", "trap", "ulimit",
     "umask", "unset", "until", "while", "{", "(", "[["}
)  # fmt: skip
"""Words of a shell that begin a command and that are no programs on most machines."""


def _for_a_shell(name: str) -> str | None:
    """Return the remedy if this is no program but the beginning of a command for a shell."""
    if name in FOR_A_SHELL or re.match(r"[A-Za-z_]\w*=|.*\s(&&|[|;>&]|\|\|)\s", name, re.DOTALL):
        return "only a shell knows it: set shell: true, and give the command as one text"
    return None


def _program_fault(
    name: str, environment: Mapping[str, str], directory: str | None, user: str | None, error: OSError
) -> str:
    if "/" in name:
        path = Path(directory or ".", name)
        if not os.path.exists(path):  # noqa: PTH110 (raises nothing for a name that is too long)
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                return f"{name!r} is no path of a program: {error.strerror}; correct the command"
            if error.errno == errno.EACCES:
                who = "this worker" if user is None else f"user '{user}'"
                return f"{name!r} is in a folder that {who} may not enter; grant it the right"
            return f"there is no program {name!r} on this worker; {_for_a_shell(name) or INSTALL}"
    else:
        search = environment.get("PATH", os.defpath)
        found = shutil.which(name, mode=os.F_OK, path=search)
        if found is None:
            remedy = _for_a_shell(name) or "install it on this worker or give its full path"
            return f"there is no program {name!r} in PATH ({search}); {remedy}"
        path = Path(found)
    if path.is_dir():
        return f"{name!r} is a directory, not a program; correct the command"
    if error.errno == errno.ENOEXEC:
        return f"{name!r} is not a program of this machine and has no '#!' line that names its interpreter; add one"
    if error.errno == errno.ENOENT:
        # What its user has placed there is not read: a link such as /proc/self/fd/5 leads elsewhere in this process.
        line = b"" if user is not None else _first_line(path)
        if line.startswith(b"#!") and line.endswith(b"\r\n"):
            return f"{name!r} has the line ends of Windows, which its '#!' line must not have; convert it (dos2unix)"
        interpreter = _interpreter(line) if user is None else "an interpreter or a loader"
        return (
            f"{name!r} names {interpreter} to run it, which this worker does not have; install it or correct the file"
        )
    if error.errno == errno.EACCES:
        return _not_executable(name, path, user)
    return f"{name!r} cannot be started: {error.strerror}; correct the command"


def _not_executable(name: str, path: Path, user: str | None) -> str:
    """Return the sentence for a program that exists but may not be executed."""
    who = "this worker" if user is None else f"user {user!r}"
    if not path.is_file():
        return f"{name!r} is not a regular file; correct the command"
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return f"{name!r} is on a file system that is mounted noexec; move it, or mount that with exec"
    if user is None and os.access(path, os.X_OK):
        interpreter = _interpreter(_first_line(path))
        return f"{name!r} names {interpreter} to run it, which {who} may not execute; correct the file"
    return f"{name!r} may not be executed by {who}; make it executable (chmod +x)"


def _interpreter(line: bytes) -> str:
    """Return what runs a program that begins with this line, in words."""
    words = line.removeprefix(b"#!").split()
    if not line.startswith(b"#!") or not words:
        return "a loader" if line else "an interpreter"
    return repr(os.fsdecode(words[0]))


def _first_line(path: Path) -> bytes:
    """Return the first line of a program; empty if it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123 (a descriptor)
            return file.readline(256) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:
        return b""
