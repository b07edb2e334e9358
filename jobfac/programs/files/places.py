"""Looks at paths, users and keyrings without waiting for them: a network drive may hang for hours."""

import time
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from threading import Lock

from jobfac.machine.mounts import Remote, mounts_of
from jobfac.machine.threads import AGAIN, Tries
from jobfac.programs.files.inquiry import OF_ONE_MOUNT, Inquiry, Kept, Place, Seen, User

AT_ONCE = 0.02
"""Seconds to wait for an answer. A file system that answers takes some microseconds."""

MOST = 64
"""Open inquiries at most. Each has a thread, which may hang as long as its file system."""

TO_PROBE = MOST * 3 // 4
"""Open inquiries at which none begins only to find out whether a file system answers again."""

USERS = "users"
"""Stands for the name services among mount points and references to secrets."""

FRESH = 1.0
"""Seconds for which an answer counts, because a thread for each start would slow a burst of starts."""

FRESH_REMOTE = 0.05
"""The same for a file system with a server. A server that stops answering meanwhile holds the worker's loop."""

REMEMBERED = 1000
"""Answers at most that are remembered."""


class Places:
    """Inquiries about paths. One thread asks at a time. At most one inquiry about the same paths is open."""

    def __init__(self, on_answer: Callable[[], None]) -> None:
        """``on_answer``: called by the thread of an inquiry at its end, if nobody waited for it so long."""
        self._on_answer = on_answer
        self._open: dict[tuple[Place, ...], Inquiry] = {}
        self._fresh: dict[Place, float] = {}  # until when an answer counts (monotonic)
        self._remote = Remote()
        self._left: list[Inquiry] = []  # whose threads hang, and whose places have been asked about again
        self._tries = Tries(AGAIN)  # by drive
        self._lock = Lock()  # of ``_tries``

    def silent(self, places: Sequence[Place]) -> str | User | Kept | None:
        """Return what has not answered; None: all have.

        Waits ``AT_ONCE`` seconds, for the same places once.
        """
        now = time.monotonic()
        if all(self._fresh.get(place, 0.0) > now for place in places):
            return None
        inquiry = self._ask(tuple(places))
        if not inquiry.is_answered:
            return inquiry.at
        if len(self._fresh) >= REMEMBERED:
            self._fresh.clear()
        is_local = inquiry.steps and not self._remote.has_any(inquiry.steps, now)
        self._fresh |= dict.fromkeys(places, now + (FRESH if is_local else FRESH_REMOTE))
        return None

    def seen(self, paths: Sequence[str]) -> Seen | None:
        """Return what the files are like now, or were at the last answer; None: no answer yet. Waits as ``silent``."""
        inquiry = self._ask(tuple(paths))
        return inquiry.seen or None  # without a thread or memory nobody has looked

    def _ask(self, places: tuple[Place, ...]) -> Inquiry:
        """Return the open inquiry about these places, or a new one. One that is over is open no more."""
        inquiry, wait = self._open.get(places), 0.0
        again = inquiry is not None and self._is_left_alone(inquiry)
        if inquiry is None or inquiry.is_vain or again:
            self._open.pop(places, None)
            if inquiry is not None and inquiry.is_starved:
                return _taken_as_answered(inquiry)
            inquiry = Inquiry(places, self._is_silent, self._on_answer, again)
            if len(self._open) >= MOST:  # some ended after nobody waited any more
                self._open = {known: one for known, one in self._open.items() if not (one.over.is_set() or one.is_vain)}
            if len(self._open) >= MOST:
                return inquiry
            try:
                # Not Thread.start: without memory the thread does not begin, and that would wait for it for ever.
                start_new_thread(inquiry.run, ())
            except RuntimeError:  # no more threads
                return _taken_as_answered(inquiry)
            self._open[places], wait = inquiry, AT_ONCE
        if not inquiry.over.wait(wait):
            inquiry.is_late = True
            if not inquiry.over.is_set():  # asked again, because the thread may have looked before it was late
                return inquiry
        del self._open[places]
        if inquiry.finds_out and inquiry.is_answered:
            with self._lock:
                self._tries.clear()  # the others on this drive need not wait
        return _taken_as_answered(inquiry) if inquiry.is_starved else inquiry

    def _is_left_alone(self, inquiry: Inquiry) -> bool:
        """Whether it hangs for so long that another one takes its place."""
        self._left = [one for one in self._left if not one.over.is_set()]
        if inquiry.over.is_set() or inquiry.age <= AGAIN or len(self._left) >= MOST // 2:
            return False
        if not self._may_try(_drives([inquiry])[0], inquiry.age):
            return False
        self._left.append(inquiry)
        return True

    def _may_try(self, drive: str, age: float) -> bool:
        """Whether to ask a drive again that has not answered. ``age``: seconds that the last one hangs at least."""
        with self._lock:
            return age > AGAIN and self._tries.may(drive, time.monotonic())

    def _is_silent(self, inquiry: Inquiry) -> bool:
        """Whether enough other inquiries wait for the same as this one: the file system that it has got to, or users.

        If all of them hang for long, this one finds out whether there is an answer again. Nobody may ever ask about
        their places any more, such as a file with the number of a run. Any thread may call it.
        """
        if inquiry.finds_out or len(self._open) < OF_ONE_MOUNT:
            return False
        waiting = [one for one in list(self._open.values()) if one.is_late and not one.over.is_set()]
        waiting = [one for one in waiting if one is not inquiry]
        if len(waiting) < OF_ONE_MOUNT:  # then the table of mounts need not be read
            return False
        here, *there = _drives([inquiry, *waiting])
        alike = [one for one, drive in zip(waiting, there, strict=True) if drive == here]
        if not here or len(alike) < OF_ONE_MOUNT:
            return False
        inquiry.finds_out = len(self._open) <= TO_PROBE and self._may_try(here, min(one.age for one in alike))
        return not inquiry.finds_out


def _drives(inquiries: Sequence[Inquiry]) -> list[str]:
    """Return for each of these what it waits for: a mount point, users, or a secret. Empty: unknown."""
    points = mounts_of([one.real for one in inquiries])
    return [_drive(one.at, point) for one, point in zip(inquiries, points, strict=True)]


def _drive(at: str | User | Kept, point: str) -> str:
    if isinstance(at, Kept):
        return at.reference
    return USERS if isinstance(at, User) else point


def _taken_as_answered(inquiry: Inquiry) -> Inquiry:
    """Let the start find out why the machine has no thread or no memory for an inquiry."""
    inquiry.is_answered = True
    return inquiry
