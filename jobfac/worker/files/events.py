"""Waits until something happens in a folder: inotify on Linux, elsewhere only until woken.

A network drive reports only what this machine does itself, so the caller also scans at intervals.
"""

import contextlib
import ctypes
import os
import select
import struct
import sys
import threading
from collections.abc import Collection
from typing import Protocol

# Source: inotify(7) and <sys/inotify.h>.
_CLOSE_WRITE, _MOVED_TO, _CREATE, _DELETE_SELF, _OVERFLOW, _IGNORED = 0x8, 0x80, 0x100, 0x400, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_MASK = _CLOSE_WRITE | _MOVED_TO | _CREATE | _DELETE_SELF | _ONLYDIR
_EVENT = struct.Struct("iIII")


class FolderEvents(Protocol):
    """Events of folders. One thread waits for them; ``add`` and ``wake`` are safe for any thread."""

    def add(self, folders: Collection[str]) -> bool:
        """Report events of these folders, too. Returns True if one of them is new.

        Waits as long as the file server of a new folder lets it wait.
        """

    def remove(self, folders: Collection[str]) -> None:
        """Report events of these folders no more."""

    def wait(self, seconds: float | None) -> Collection[str]:
        """Wait at most so long (None: any time); return the folders in which something has happened.

        ``wake`` ends the wait, too.
        """

    def wake(self) -> None:
        """End a wait."""

    def close(self) -> None:
        """Release all resources."""


def folder_events() -> FolderEvents:
    """Return what this platform has."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # too many instances: scans find everything, only later
            return Inotify()
    return NoEvents()


class NoEvents:
    """Reports no events."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def add(self, folders: Collection[str]) -> bool:
        return False

    def remove(self, folders: Collection[str]) -> None:
        pass

    def wait(self, seconds: float | None) -> Collection[str]:
        self._woken.wait(None if seconds is None else max(0.0, seconds))
        self._woken.clear()
        return ()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        pass


class Inotify:
    """Events of folders by inotify. A folder that cannot be watched is left to the scans.

    ``_names`` and ``_numbers`` are written under ``_lock``.
    """

    def __init__(self) -> None:
        """Raises ``OSError`` if the kernel gives no instance."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._names: dict[int, set[str]] = {}  # a folder may have several names: links
        self._numbers: dict[str, int] = {}
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def add(self, folders: Collection[str]) -> bool:
        with self._lock:
            missing = set(folders) - self._numbers.keys()
        is_new = False
        for folder in missing:
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _MASK)
            if number >= 0:
                with self._lock:
                    self._numbers[folder] = number
                    self._names.setdefault(number, set()).add(folder)
                is_new = True
        return is_new

    def remove(self, folders: Collection[str]) -> None:
        with self._lock:
            for folder in self._numbers.keys() & set(folders):
                number = self._numbers.pop(folder)
                self._names[number].discard(folder)
                if not self._names[number]:
                    del self._names[number]
                    self._libc.inotify_rm_watch(self._fd, number)

    def wait(self, seconds: float | None) -> Collection[str]:
        ready = {fd for fd, _ in self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000)}
        if self._woken in ready:
            os.read(self._woken, 4096)
        return self._read() if self._fd in ready else ()

    def _read(self) -> Collection[str]:
        found: set[str] = set()
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return found
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            with self._lock:
                if mask & _OVERFLOW:
                    return set(self._numbers)
                found |= self._names.get(number, set())
                if mask & _IGNORED:  # the folder was deleted or unmounted
                    for folder in self._names.pop(number, ()):
                        del self._numbers[folder]
        return found

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full, so the wait ends anyway
            os.write(self._waker, b"x")

    def close(self) -> None:
        for fd in (self._fd, self._woken, self._waker):
            os.close(fd)
