"""Finds what only a shell understands in a command that is given as a text and runs without a shell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jobfac.definitions.problems import Finding, finding

_WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^ \t\r\n'"\\])+""", re.DOTALL)
"""A word of a text as ``shlex.split`` finds it, with its quotes: what is quoted is meant for the program."""

_OPERATOR = re.compile(r"&&|\|\|?|;|&|<|[012&]?>{1,2}(?:&[012]|[\w./~$-]+)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_ENDS_A_COMMAND = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
"""Options of ``find``, whose program ends with the word ``;``."""


def for_a_shell(body: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a warning for the first word of a command that a shell would read as more than an argument."""
    command = body.get("command")
    if not isinstance(command, str) or body.get("shell"):
        return
    words = _WORD.findall(command)
    if words and _ASSIGNMENT.match(words[0]):
        path, name = ("command",), words[0].partition("=")[0]
        yield finding(path, f"begins with {name}=, which no program is; use environment, or set shell: true")
        return
    if word := next((one for one in words if _is_for_a_shell(one, words)), None):
        yield finding(
            ("command",), f"has {word}, which is passed to the program unchanged; for a shell, set shell: true"
        )


def _is_for_a_shell(word: str, words: list[str]) -> bool:
    if words[0].rpartition("/")[2] == "expr":  # its operators are words
        return False
    if word.endswith(";") and not word.endswith("\\;"):
        return word != ";" or _ENDS_A_COMMAND.isdisjoint(words)
    return _OPERATOR.fullmatch(word) is not None
