"""A look at paths, users and keyrings in a thread of its own, because a network drive may hang for hours."""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobfac.machine.threads import BEGINS
from jobfac.programs.files.accounts import accounts
from jobfac.secret_references import SecretError, resolve

OF_ONE_MOUNT = 8
"""Open inquiries about one mounted file system at most, so that a dead drive leaves threads for the others. The same
holds for users."""

LINKS = 40
"""Links of a path that are followed, as in the kernel."""

Seen = tuple[tuple[int, int] | None, ...]
"""By file, its size and the time of its last change in nanoseconds; None: it was not found."""


class User(NamedTuple):
    """A user as whom a program runs. After the answer the account is known (see ``Accounts``)."""

    name: str


class Search(NamedTuple):
    """Where a program is looked for, as in PATH: the first one is executed.

    Attributes:
        user: as whom the program runs; None: as this process. The interpreter that it names is not looked at if another
            user may exchange it, for a link to a device.
    """

    paths: tuple[str, ...]
    user: str | None = None


class Kept(NamedTuple):
    """A secret in a keyring, such as ``keyring:jobfac/smtp``."""

    reference: str


class Opened(NamedTuple):
    """A folder that the start enters as this process's user. It is opened here, too.

    An NFS client asks its server for that, and not for each look at it. Source: nfs(5), close-to-open.
    """

    path: str


Place = str | Opened | User | Search | Kept


class SilentMount(Exception):
    """Enough inquiries wait for this file system, or for the name services, already."""


def no_answer(place: str | User | Kept, seconds: float) -> str:
    """Return the sentence that a place has not answered for so long."""
    if isinstance(place, Kept):
        return f"the secret {place.reference} has not been read within {seconds:g} s; check the keyring"
    if isinstance(place, User):
        return (
            f"the account of user {place.name!r} was not found within {seconds:g} s, because the name services of this "
            "machine do not answer; check those that /etc/nsswitch.conf names"
        )
    return f"{place!r} has not answered for {seconds:g} s; check the file system and its server"


class Inquiry:
    """A look at some places in a thread of its own.

    Attributes:
        over: the thread has ended.
        is_answered: it has found out everything. Not so if it met a file system that enough others wait for.
        at: what is looked at: a path as it was given, a user, or a secret.
        real: how far it has got in a path, without links. So it is known which file system it waits for.
        finds_out: it looks whether a file system answers again for which enough others wait.
        is_late: nobody waits for the answer any more, so it is announced.
        seen: what was found; to be read after the answer.
        steps: the paths without links that it has passed; to be read after the answer.
    """

    def __init__(
        self,
        places: Sequence[Place],
        is_silent: Callable[["Inquiry"], bool],
        on_answer: Callable[[], None],
        finds_out: bool = False,
    ) -> None:
        """``is_silent``: whether enough others wait for the file system of ``real``, or for users."""
        self.over = threading.Event()
        self.is_answered = self._lacked_memory = False
        self.finds_out = finds_out
        self._began = time.monotonic()
        self._has_begun = False
        first = places[0]
        self.at: str | User | Kept
        match first:
            case Search():
                self.at = first.paths[0]
            case Opened():
                self.at = first.path
            case _:
                self.at = first
        self.real = self.at if isinstance(self.at, str) else "/"
        self.is_late = False
        self.seen: Seen = ()
        self._places = places
        self.steps: set[str] = set()
        self._is_silent = is_silent
        self._on_answer = on_answer

    def run(self) -> None:
        """Look at the places. Whether they exist does not matter."""
        self._has_begun = True
        try:
            self.seen = tuple(self._see(one) for one in self._places)
            self.is_answered = True
        except (SilentMount, TimeoutError):
            pass
        except MemoryError:
            self._lacked_memory = True
        finally:
            self.over.set()
        if self.is_late:
            self._on_answer()

    @property
    def is_vain(self) -> bool:
        """Whether there will be no answer: the thread has ended without one, or there was no memory to begin it."""
        return not self.is_answered and (self.over.is_set() or self.is_starved)

    @property
    def is_starved(self) -> bool:
        """Whether the thread had no memory."""
        return self._lacked_memory or not (self._has_begun or time.monotonic() < self._began + BEGINS)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def _see(self, place: Place) -> tuple[int, int] | None:
        if isinstance(place, str):
            found = self._look(place)
            return None if found is None else (found.st_size, found.st_mtime_ns)
        if isinstance(place, (User, Kept)):
            self._find(place)
            return None
        if isinstance(place, Opened):
            found = self._look(place.path)
            if found is not None:
                _open(place.path)
            return None
        for path in place.paths:
            found = self._look(path)
            if found is not None and stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
                if _is_own(place.user) and (interpreter := interpreter_of(path)):
                    self._look(interpreter)
                return found.st_size, found.st_mtime_ns
        return None

    def _find(self, what: User | Kept) -> None:
        self.at = what
        if isinstance(what, Kept):
            with contextlib.suppress(SecretError):  # the start says why
                resolve(what.reference)
        elif not accounts.is_fresh(what.name):
            if self._is_silent(self):
                raise SilentMount
            try:
                accounts.ask(what.name)
            except TimeoutError:
                raise
            except (OSError, ValueError):  # the start asks again, and says why
                pass

    def _look(self, path: str) -> os.stat_result | None:
        self.at = path
        try:
            self._follow(path)
            return look(path)
        except (OSError, ValueError):
            return None

    def _follow(self, path: str) -> None:
        """Follow the links of a path step by step, to know at each step on which file system it is."""
        self.real = "/"
        rest = (path if path.startswith("/") else f"{os.getcwd()}/{path}").split("/")[::-1]  # noqa: PTH109
        links = 0
        while rest and links < LINKS:
            part = rest.pop()
            if part in ("", "."):
                continue
            above = self.real
            self.real = os.path.dirname(above) if part == ".." else f"{above.rstrip('/')}/{part}"  # noqa: PTH120
            if self.real in self.steps:
                continue
            if self._is_silent(self):
                raise SilentMount
            try:
                target = os.readlink(self.real)  # noqa: PTH115 (a string)
            except OSError:  # no link
                self.steps.add(self.real)
                continue
            links += 1
            self.real = "/" if target.startswith("/") else above
            rest += target.split("/")[::-1]


def _open(path: str) -> None:
    """Open a folder, and close it. Nothing else: a file that is closed loses all locks of this process."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC))


def _is_own(user: str | None) -> bool:
    """Whether a program of this user is one of this process's user, as far as it is known."""
    found = None if user is None else accounts.known(user)
    return user is None or (found is not None and found["user"] == os.geteuid())


def interpreter_of(path: str) -> str | None:
    """Return the interpreter that the first line of a script names; None: it is no script, or cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        words = os.read(handle, 256).split(b"\n")[0].removeprefix(b"#!").split()
        return os.fsdecode(words[0]) if words and os.pread(handle, 2, 0) == b"#!" else None
    except OSError:
        return None
    finally:
        os.close(handle)


look = os.stat
