"""Splits a script into batches and finds the parameters in it. Pure.

T-SQL is split at GO, which may have a count; a script for another database at semicolons. Texts,
quoted names and comments contain no separators and no parameters.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from jobfac.errors import JobfacError

MOST_REPEATS = 100_000


class ScriptError(JobfacError):
    """The script cannot be run. The message is a clause that says why."""


class Placeholder(NamedTuple):
    """``${parameters.NAME}`` at these positions of a batch's text."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Batch:
    """A part of a script that is sent to the server at once.

    ``line``: its first line in the script, from 1. ``repeats``: how often it runs (the count after GO). ``words``: the
    first words of its code, in upper case.
    """

    text: str
    line: int
    repeats: int = 1
    placeholders: tuple[Placeholder, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def begins_transaction(self) -> bool:
        """Whether it is a statement that begins a transaction."""
        return self.words[:1] == ("BEGIN",) or self.words[:2] == ("START", "TRANSACTION")

    @property
    def ends_transaction(self) -> bool:
        """Whether it is a statement that ends the whole transaction, and begins no other one."""
        if "CHAIN" in self.words and "NO" not in self.words:
            return False
        is_rollback = self.words[:1] in (("ROLLBACK",), ("ABORT",)) and "TO" not in self.words  # a savepoint
        return is_rollback or self.words[:1] in (("COMMIT",), ("END",))


_QUOTED = {
    "mssql": r"""'[^']*+(?:''[^']*+)*+(?:'|\Z)|"[^"]*+(?:""[^"]*+)*+(?:"|\Z)|\[[^\]]*+(?:\]\][^\]]*+)*+(?:\]|\Z)""",
    "postgresql": r"""(?<!\w)[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z)|'[^']*+(?:''[^']*+)*+(?:'|\Z)|"[^"]*+(?:"|\Z)"""
    r"""|(?<!\w)\$(?P<tag>(?:[A-Za-z_]\w*)?)\$(?:(?!\$(?P=tag)\$).)*+(?:\$(?P=tag)\$|\Z)""",
    "sqlite": r"""'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z)""",
    "mysql": r"""'(?:[^'\\]|\\.|'')*+(?:'|\Z)|"(?:[^"\\]|\\.)*+(?:"|\Z)|`[^`]*+(?:`|\Z)""",
}
_QUOTED["mariadb"] = _QUOTED["mysql"]
_OTHER = r"""'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)"""
_PARAMETER = re.compile(r"\$\{\s*parameters\.((?:[^{}]*[^{}\s])?)\s*\}")
_GO = re.compile(r"go(?:[ \t]++(\d++))?[ \t]*+;?[ \t]*+(?:--[^\n]*+)?\r?(?:\n|\Z)", re.IGNORECASE)
_EDGE = re.compile(r"/\*|\*/")
NESTING = ("mssql", "postgresql")
"""Dialects with nested comments."""

_COMMENT = r"--[^\n]*+"
_COMMENTS = dict.fromkeys(("mysql", "mariadb"), r"(?:--(?=\s|\Z)|\#)[^\n]*+")  # 5--1 is 6 there
"""Comments up to the end of the line."""

_EXECUTED = re.compile(r"/\*M?!")
"""The beginning of a comment that MySQL or MariaDB executes, as most lines at the beginning of a dump."""


class _Piece(NamedTuple):
    kind: str
    start: int
    end: int


def split(text: str, dialect: str) -> list[Batch]:
    """Return the batches of a script that contain code.

    Raises:
        ScriptError: a parameter is inside quotes, a placeholder is not a parameter, or a count after GO is too large.
    """
    pieces = list(_pieces(text, dialect))
    cuts = _go_cuts(text, pieces) if dialect == "mssql" else _semicolon_cuts(text, pieces, dialect)
    batches = []
    start = first = counted = 0
    line = 1
    for cut in cuts:
        last = first
        while last < len(pieces) and pieces[last].start < cut.end:
            last += 1
        code = cut.end - len(text[start : cut.end].lstrip())
        line += text.count("\n", counted, code)
        counted = code
        batch = _batch(text, code, cut, line, [piece for piece in pieces[first:last] if code <= piece.start])
        if batch is not None:
            batches.append(batch)
        start, first = cut.after, last
    return batches


class _Cut(NamedTuple):
    """The end of a batch, the beginning of the next one, and how often the batch runs."""

    end: int
    after: int
    repeats: int


def _go_cuts(text: str, pieces: list[_Piece]) -> Iterator[_Cut]:
    for piece in pieces:
        if piece.kind == "go":
            count = _GO.match(text, piece.start)
            repeats = int(count[1]) if count is not None and count[1] else 1
            if repeats > MOST_REPEATS:
                line = text.count("\n", 0, piece.start) + 1
                raise ScriptError(f"line {line}: GO {repeats} repeats too often; at most {MOST_REPEATS:,} are possible")
            yield _Cut(piece.start, piece.end, repeats)
    yield _Cut(len(text), len(text), 1)


def _semicolon_cuts(text: str, pieces: list[_Piece], dialect: str) -> Iterator[_Cut]:
    start = 0
    words: list[str] = []
    for piece in pieces:
        if piece.kind == "word":
            words.append(text[piece.start : piece.end].upper())
        if piece.kind != "semicolon":
            continue
        if dialect == "sqlite" and not sqlite3.complete_statement(text[start : piece.end]):
            continue  # the body of a trigger
        if dialect == "postgresql" and _is_in_body(words):
            continue
        yield _Cut(piece.start, piece.end, 1)
        start, words = piece.end, []
    yield _Cut(len(text), len(text), 1)


def _is_in_body(words: list[str]) -> bool:
    """Whether a statement with these words so far is in the body of a standard function: BEGIN ATOMIC ... END."""
    begun = list(pairwise(words)).count(("BEGIN", "ATOMIC"))  # BEGIN alone may be the name of a column
    return bool(begun) and begun + words.count("CASE") > words.count("END")


def _batch(text: str, start: int, cut: _Cut, line: int, pieces: list[_Piece]) -> Batch | None:
    """Return the batch from ``start``, its first character that is not space; None: it has no code."""
    placeholders: list[Placeholder] = []
    words: list[str] = []
    coded = False
    for piece in pieces:
        content = text[piece.start : piece.end]
        if piece.kind == "parameter":
            found = _PARAMETER.match(text, piece.start)
            assert found is not None
            placeholders.append(Placeholder(found[1], piece.start - start, piece.end - start))
        elif piece.kind == "quoted" and (inside := _PARAMETER.search(content)):
            where = line + text.count("\n", start, piece.start + inside.start())
            raise ScriptError(
                f"line {where}: {inside[0]} stands inside of quotes, where nothing can be bound; write it without them"
            )
        elif piece.kind == "other":
            where = line + text.count("\n", start, piece.start)
            raise ScriptError(
                f"line {where}: {content} cannot be bound in a script; give the job a parameter with it as default"
            )
        elif piece.kind == "word" and len(words) < 8:
            words.append(content.upper())
        coded = coded or piece.kind not in ("comment", "semicolon")
    if not coded:
        return None
    return Batch(text[start : cut.end].rstrip(), line, cut.repeats, tuple(placeholders), tuple(words))


def _pieces(text: str, dialect: str) -> Iterator[_Piece]:
    """Yield the tokens that matter, in order: texts, comments, words and signs."""
    token = re.compile(
        rf"(?P<space>\s++)|(?P<comment>{_COMMENTS.get(dialect, _COMMENT)})|(?P<block>/\*)"
        rf"|(?P<quoted>{_QUOTED.get(dialect, _OTHER)})"
        r"|(?P<parameter>\$\{\s*parameters\.[^{}]*\})|(?P<other>\$\{\s*(?:due|run|previous|trigger)\.[^{}]*\})|(?P<semicolon>;)"
        rf"|(?P<word>[^\W\d][\w$@{'' if dialect in _COMMENTS else '#'}]*+)|(?P<code>.)",
        re.DOTALL,
    )
    at = 0
    fresh = True  # nothing but space stands before this place in its line
    while at < len(text):
        found = token.match(text, at)
        assert found is not None  # the last alternative takes any character
        kind, end = str(found.lastgroup), found.end()
        if kind == "block":
            is_code = dialect in _COMMENTS and _EXECUTED.match(text, at)
            kind, end = "code" if is_code else "comment", _comment_end(text, at, dialect)
        elif kind == "word" and fresh and dialect == "mssql" and (separator := _GO.match(text, at)):
            kind, end = "go", separator.end()
        elif kind == "tag":
            kind = "quoted"
        if kind != "space":
            yield _Piece(kind, at, end)
        broken = "\n" in found[0] if kind == "space" else kind == "go"
        fresh = (fresh and kind == "space") or broken
        at = end


def _comment_end(text: str, at: int, dialect: str) -> int:
    if dialect not in NESTING:
        end = text.find("*/", at + 2)
        return len(text) if end < 0 else end + 2
    depth = 0
    for edge in _EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


class Bound(NamedTuple):
    """A batch's text in the driver's form, and the values to bind: by position, or by name for ``named``."""

    text: str
    values: list[Any] | dict[str, Any]


def bind(batch: Batch, values: Mapping[str, Any], style: str, arrays: bool = False) -> Bound:
    """Put the driver's placeholders (``style``: the paramstyle of the DB-API) in place of the parameters.

    A list is bound as its JSON. ``arrays``: as it is, because the driver knows arrays.

    Raises:
        ScriptError: the run has no such parameter.
    """
    if not batch.placeholders:
        return Bound(batch.text, [])
    parts, found, at = [], [], 0
    percent = style in ("format", "pyformat")
    for number, (name, start, end) in enumerate(batch.placeholders, start=1):
        if name not in values:
            known = ", ".join(sorted(values)) or "none"
            raise ScriptError(f"the parameter '{name}' is not one of the run's, which are: {known}; define it")
        signs = {
            "qmark": "?",
            "format": "%s",
            "pyformat": "%s",
            "numeric": f":{number}",
            "numeric_dollar": f"${number}",
        }
        code = batch.text[at:start]
        parts += [code.replace("%", "%%") if percent else code, signs.get(style, f":p{number}")]
        value = values[name]
        found.append(json.dumps(value, ensure_ascii=False) if isinstance(value, list) and not arrays else value)
        at = end
    code = batch.text[at:]
    parts.append(code.replace("%", "%%") if percent else code)
    if style == "named":
        return Bound("".join(parts), {f"p{number}": value for number, value in enumerate(found, start=1)})
    return Bound("".join(parts), found)
