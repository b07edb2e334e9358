"""Matches values against a pattern of a definition, in bounded time.

Some patterns, such as `(a+)+`, take a time that doubles with each character of the value. Python's `re` cannot be
interrupted, and no other thread of the process runs meanwhile. So only simple patterns are matched with it. All others
are matched by the library `regex`, which may use one second, and lets other threads run.

No transaction waits for such a match, because on SQLite all heartbeats would wait, too. ``Pending`` ends the
transaction; it is repeated after the match, whose result is remembered.
"""

import hashlib
import json
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple

import regex

SECONDS = 1
"""CPU time in seconds for one match."""

TOGETHER = 3
"""CPU time in seconds for all matches with one pattern for a transaction: a step may have thousands of texts, and the
worker or scheduler that starts its jobs waits."""

LONG = 100_000
"""Characters beyond which even a simple pattern is matched in bounded time, and one with groups is not matched: what
they match takes memory."""

AT_ONCE = 0.01
"""Seconds of the first try of a match."""

REMEMBERED = 250_000
"""How many results to remember: more than one transaction needs, which starts some 30,000 runs at most. Of one that
needed more, the first ones would be forgotten each time before it is repeated."""

SLOW_FOR = 600.0
"""Seconds for which to remember a match that took too long, perhaps because of those before it."""

_LITERAL = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\(\?P<\w+>|(?<!\))\{\d+\}", re.DOTALL)
"""What contains no choice: escapes, classes, the beginnings of groups, and a character repeated a fixed number of
times. A repeated group counts as a choice, because it multiplies those in it, and so does what repeats the text of a
group."""

_VERBOSE = re.compile(r"\(\?(?:#|[A-Za-z-]*x)")
"""A comment, or the flag that allows some. A bracket or backslash in a comment begins no literal."""

_CHOICE = re.compile(r"[*+?|{]|\\[1-9]")


class TooSlowError(Exception):
    """A match would take too long."""


class TooLongError(Exception):
    """A match would take too much memory."""


class Match(NamedTuple):
    """Texts to match with a pattern."""

    pattern: str
    texts: tuple[str, ...]

    @property
    def key(self) -> bytes:
        """A hash: the texts may be long."""
        return hashlib.sha256(json.dumps(self).encode()).digest()


class Pending(Exception):
    """A transaction needs the result of matches that are not made inside of one.

    ``parts``: the matches of independent work; each part may use ``TOGETHER`` seconds.
    """

    def __init__(self, *matches: Match, parts: Sequence["Pending"] = ()) -> None:
        self.matches = matches
        self.parts = parts

    def resolve(self) -> None:
        """Make the matches, so that the transaction finds their results when it is repeated."""
        end = time.thread_time() + TOGETHER
        for part in self.parts:
            part.resolve()
            if time.thread_time() > end:  # the others raise it again when the transaction is repeated
                break
        unknown = [one for one in dict.fromkeys(self.matches) if _results.get(one) is None]
        for pattern in dict.fromkeys(one.pattern for one in unknown):
            _make([one for one in unknown if one.pattern == pattern])


_in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)


@contextmanager
def inside_transaction() -> Iterator[None]:
    """Inside this block no match is made that takes long; it raises ``Pending`` instead."""
    before = _in_transaction.set(True)
    try:
        yield
    finally:
        _in_transaction.reset(before)


class _Results:
    """Results of matches: the place of the first text that does not match, -1 if all match, None if it took too long.

    Used by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[int | None, float]] = OrderedDict()  # with the time to forget it

    def get(self, match: Match) -> tuple[int | None] | None:
        """Return the result in a tuple; None: it is not known."""
        with self._lock:
            result, until = self._known.get(match.key, (None, 0.0))
            return (result,) if time.monotonic() < until else None

    def add(self, match: Match, result: int | None) -> None:
        with self._lock:
            self._known[match.key] = result, math.inf if result is not None else time.monotonic() + SLOW_FOR
            self._known.move_to_end(match.key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


_results = _Results()


@lru_cache(maxsize=1024)
def is_simple(pattern: str) -> bool:
    """Whether a match takes little time for every value: at most one place of the pattern leaves a choice."""
    return _VERBOSE.search(pattern) is None and len(_CHOICE.findall(_LITERAL.sub("", pattern))) <= 1


def is_quick(pattern: str, length: int) -> bool:
    """Whether to match texts of this length together, in characters, without a limit of time."""
    return is_simple(pattern) and length <= LONG


def first_mismatch(pattern: str, texts: Sequence[str]) -> str | None:
    """Return the first of the texts that does not match the pattern as a whole; None: all match.

    Raises:
        TooSlowError: the match takes longer than ``SECONDS``.
        TooLongError: a text has more than ``LONG`` characters, and the pattern has groups.
        Pending: the match has to be made outside of the transaction first.
    """
    if is_quick(pattern, sum(map(len, texts))):
        match = re.compile(pattern).fullmatch
        return next((text for text in texts if not match(text)), None)
    if "(" in pattern and any(len(text) > LONG for text in texts):
        raise TooLongError
    match_ = Match(pattern, tuple(texts))
    known = _results.get(match_)
    if known is None:
        if _in_transaction.get():
            raise Pending(match_)
        _make([match_])
        known = _results.get(match_)
    if known is None or known[0] is None:
        raise TooSlowError
    return None if known[0] < 0 else texts[known[0]]


def _make(matches: list[Match]) -> None:
    """Make matches with the same pattern, and remember their results. Those that exceed the time count as too slow."""
    end = time.thread_time() + TOGETHER
    for one in matches:
        left = end - time.thread_time()
        _results.add(one, _match(one, min(SECONDS, left)) if left > 0 else None)


_READ_OTHERWISE = re.compile(
    r"\\N\{[^}]*\}|\\.|\(\?#[^)]*\)|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?!\d*,?\d*\})|\((?:\?P<\w+>|(?!\?))", re.DOTALL
)
"""Classes, braces that repeat nothing, and groups that keep what they match; besides escapes and comments. `regex` has
named classes such as `[:digit:]` and fuzzy matches such as `{e<=1}`, which are plain characters to `re`."""

_INNER = re.compile(r"\\.|\[", re.DOTALL)
_REFERENCE = re.compile(r"\\[1-9]|\(\?P=|\(\?\(")


def as_plain(pattern: str) -> str:
    """Return a pattern of `re` so that it means the same to `regex`, and its groups keep nothing: that takes memory."""
    keeps = _REFERENCE.search(pattern) is not None

    def plain(found: re.Match[str]) -> str:
        text = found[0]
        if text == "{":
            return r"\{"
        if text[0] == "[":
            return "[" + _INNER.sub(lambda part: r"\[" if part[0] == "[" else part[0], text[1:])
        return "(?:" if text[0] == "(" and not (keeps or text.startswith("(?#")) else text

    return _READ_OTHERWISE.sub(plain, pattern)


def _match(one: Match, seconds: float) -> int | None:
    """Return the result of a match that may use so many seconds of CPU time; None: it takes longer."""
    try:
        match = regex.compile(as_plain(one.pattern)).fullmatch
        used = 0.0
        for place, text in enumerate(one.texts):
            wait = AT_ONCE
            while True:
                began = time.thread_time()
                try:
                    # To let other threads run costs a switch, which most matches are not worth.
                    found = match(text, timeout=wait, concurrent=wait > AT_ONCE)
                    break
                except TimeoutError:  # it counts the time in which others used the processor, too
                    if used + time.thread_time() - began >= 0.9 * seconds:
                        return None
                    wait = max(2 * wait, seconds)
            used += time.thread_time() - began
            if used > seconds:
                return None
            if not found:
                return place
    except (regex.error, RecursionError, MemoryError):  # `re` knows the pattern, or would take longer still
        return None
    return -1
