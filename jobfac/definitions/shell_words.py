"""A command that is given as a text: its words as a shell splits it, and what only a shell would understand."""

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from jobfac.definitions.problems import Finding, finding

_WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^ \t\r\n'"\\])+""", re.DOTALL)
"""A word of a text as ``shlex.split`` finds it, with its quotes: what is quoted is meant for the program."""

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_ESCAPED = re.compile(r"\\.", re.DOTALL)

_IN_QUOTES = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\\W""", re.DOTALL)
"""What is quoted, or escaped so that it stands for itself."""

_OPERATOR = re.compile(r"&&|\|\|?|;|&|<|[012&]?>{1,2}(?:&[012]|[\w./~$-]+)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_ENDS_A_COMMAND = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
"""Options of ``find``, whose program ends with the word ``;``."""


def split(command: str) -> list[str]:
    """Return the words of a command.

    Raises:
        ValueError: a quote is not closed.
    """
    return shlex.split(_joined(command))


def _joined(command: str) -> str:
    """Return a command without the ends of lines that a backslash escapes. For ``shlex`` they are letters."""
    if "\\\n" not in command:
        return command
    return _QUOTED.sub(lambda found: found[0] if found[0][0] == "'" else _ESCAPED.sub(_continued, found[0]), command)


def _continued(escaped: re.Match[str]) -> str:
    return "" if escaped[0] == "\\\n" else escaped[0]


def for_a_shell(body: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a warning for the first word of a command that a shell would read as more than an argument."""
    command = body.get("command")
    if not isinstance(command, str) or body.get("shell"):
        return
    text = _joined(command)
    found = list(_WORD.finditer(text))
    words = [one[0] for one in found]
    if words and _ASSIGNMENT.match(words[0]):
        path, name = ("command",), words[0].partition("=")[0]
        yield finding(path, f"begins with {name}=, which no program is; use environment, or set shell: true")
        return
    if word := next((one for one in words if "\\" in _IN_QUOTES.sub("", one)), None):
        yield finding(("command",), f"has {word}, which loses its \\ as in a shell; put it in single quotes")
        return
    if word := next((one for one in words if _is_for_a_shell(one, words)), None):
        why = f"has {word}, which is passed to the program unchanged"
    elif any("\n" in text[one.end() : two.start()] and two[0][0] != "-" for one, two in pairwise(found)):
        why = "has several lines, which are arguments of one program"
    else:
        return
    yield finding(("command",), f"{why}; for a shell, set shell: true")


def _is_for_a_shell(word: str, words: list[str]) -> bool:
    if words[0].rpartition("/")[2] == "expr":  # its operators are words
        return False
    if word.endswith(";") and not word.endswith("\\;"):
        return word != ";" or _ENDS_A_COMMAND.isdisjoint(words)
    return _OPERATOR.fullmatch(word) is not None or re.search(r"\$\(|`", _IN_QUOTES.sub("", word)) is not None
