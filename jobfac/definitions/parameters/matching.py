"""Matches values against a pattern of a definition, in bounded time.

Some patterns, such as `(a+)+`, take a time that doubles with each character of the value. Python's `re` cannot be
interrupted, and no other thread of the process runs meanwhile. So only simple patterns are matched here; all others are
matched in a process of their own, which may use one second.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

SECONDS = 1
"""CPU time in seconds for one match."""

WALL = 30.0
"""Seconds to wait for the process on a machine that is busy."""

_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\(\?P<\w+>|(?<!\))\{\d+\}", re.DOTALL)
"""What contains no choice: escapes, classes, the beginnings of groups, and a character repeated a fixed number of
times. A repeated group counts as a choice, because it multiplies those in it."""

_CHOICE = re.compile(r"[*+?|{]")

_PROGRAM = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS} + 1))
pattern, texts = json.load(sys.stdin)
match = re.compile(pattern).fullmatch
print(next((at for at, text in enumerate(texts) if not match(text)), -1))
"""


class TooSlowError(Exception):
    """A match would take too long."""


def is_simple(pattern: str) -> bool:
    """Whether a match takes little time for every value: at most one place of the pattern leaves a choice."""
    return len(_CHOICE.findall(_LITERAL.sub("", pattern))) <= 1


def first_mismatch(pattern: str, texts: Sequence[str]) -> str | None:
    """Return the first of the texts that does not match the pattern as a whole; None: all match.

    Raises:
        TooSlowError: the match takes longer than ``SECONDS``, or no process could be started for it.
    """
    if is_simple(pattern):
        match = re.compile(pattern).fullmatch
        return next((text for text in texts if not match(text)), None)
    place = _in_a_process(pattern, tuple(texts))
    return None if place < 0 else texts[place]


@lru_cache(maxsize=256)
def _in_a_process(pattern: str, texts: tuple[str, ...]) -> int:
    """Return the place of the first text that does not match; -1: all match."""
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    given = json.dumps([pattern, texts]).encode()
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=WALL, check=True, env={}, cwd="/")
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise TooSlowError from error
