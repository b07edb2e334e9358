"""Splits a T-SQL script into tokens: texts, numbers, names, variables, signs and the separator GO."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["text", "number", "variable", "word", "name", "sign", "go"]

_TOKEN = re.compile(
    r"""
    (?P<space>\s++)
  | (?P<remark>--[^\n]*+)
  | (?P<comment>/\*)
  | (?P<text>[nN]?+'[^']*+(?:''[^']*+)*+')
  | (?P<bracket>\[[^\]]*+(?:\]\][^\]]*+)*+\])
  | (?P<quoted>"[^"]*+(?:""[^"]*+)*+")
  | (?P<variable>@@?[\w$\#@]++)
  | (?P<number>0[xX][0-9A-Fa-f]*+|\d++(?:\.\d*+)?)
  | (?P<word>[^\W\d][\w$\#@]*+)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_GO = re.compile(r"go(?:[ \t]++\d++)?[ \t]*+;?[ \t]*+(?:--[^\n]*+)?(?:\n|$)", re.IGNORECASE)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class Broken(ValueError):
    """The script ends inside a text, a name or a comment. ``line``: where that begins, from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"{what} that begins here has no end")
        self.line = line


class Token(NamedTuple):
    """A token. ``value`` of a text or a name in brackets: without its quotes. ``line``: from 1."""

    kind: Kind
    value: str
    line: int


def tokens(script: str) -> Iterator[Token]:
    """Yield the tokens of a script without comments. Its lines must end with a line feed.

    Raises:
        Broken: the rest of the script cannot be read.
    """
    at, line = 0, 1
    fresh = True  # nothing but space stands before this place in its line
    while at < len(script):
        found = _TOKEN.match(script, at)
        assert found is not None  # the last alternative takes any character
        kind, text, end = str(found.lastgroup), found[0], found.end()
        if kind == "comment":
            end = _comment_end(script, at, line)
            text = script[at:end]
        elif kind == "sign" and text in "'[\"":
            raise Broken(line, "a text" if text == "'" else "a name")
        elif kind == "word" and fresh and (separator := _GO.match(script, at)) is not None:
            yield Token("go", "go", line)
            text, end = separator[0], separator.end()
        elif kind not in ("space", "remark"):
            yield _token(kind, text, line)
        lines = text.count("\n")
        fresh = lines > 0 if kind != "space" else fresh or lines > 0
        line += lines
        at = end


def _token(kind: str, text: str, line: int) -> Token:
    if kind == "text":
        return Token("text", text[text.index("'") + 1 : -1].replace("''", "'"), line)
    if kind == "bracket":
        return Token("name", text[1:-1].replace("]]", "]"), line)
    if kind == "quoted":
        return Token("name", text[1:-1].replace('""', '"'), line)
    kinds: dict[str, Kind] = {"number": "number", "variable": "variable", "word": "word"}
    return Token(kinds.get(kind, "sign"), text, line)


def _comment_end(script: str, at: int, line: int) -> int:
    """Return the end of a comment. Comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(script, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise Broken(line, "a comment")
