"""T-SQL against Microsoft's own grammar, of several versions of SQL Server, by the parser in ``maxdop``.

It knows syntax alone: whether tables, columns, functions and types exist, it does not look at.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.tds_server.language.lexer import Token, tokenize

VERSIONS = ("2016", "2019", "2022", "2025")
_MESSAGE = re.compile(r"^maxdop: (?P<file>\d+\.sql): (?P<text>.*?)(?=^maxdop: |\Z)", re.DOTALL | re.MULTILINE)


class Violation(NamedTuple):
    """``name`` is the text's; ``message`` says where in it and what."""

    name: str
    version: str
    message: str


def check(texts: Mapping[str, str], versions: Iterable[str] = VERSIONS) -> list[Violation]:
    """Parses texts, given by name, with each version's grammar; question marks stand for parameters.

    Raises RuntimeError if the parser itself fails.
    """
    prepared = {name: numbered(text) for name, text in texts.items()}
    found = [Violation(name, "any", message) for name, text in prepared.items() for message in unseparated(text)]
    for version in versions:
        found += _parse(prepared, version)
    return found


def check_files(paths: Iterable[Path], versions: Iterable[str] = VERSIONS) -> list[Violation]:
    """The same for files; their paths are the names."""
    return check({str(path): path.read_text(encoding="utf-8") for path in paths}, versions)


def numbered(text: str) -> str:
    """``?`` and SQLAlchemy's ``%(name)s`` as the parameters @P1, @P2, ... that the drivers make of them."""
    parts, end, number = [], 0, 0
    tokens = tokenize(text)
    for position, token in enumerate(tokens):
        named = token.text == "%" and position + 3 < len(tokens) and tokens[position + 1].text == "("
        if token.text == "?" or (named and tokens[position + 3].text == ")" and tokens[position + 4].upper == "S"):
            number += 1
            parts.append(f"{text[end : token.start]}@P{number}")
            end = tokens[position + 4].end if named else token.end
    return "".join(parts) + text[end:]


def unseparated(text: str) -> list[str]:
    """What the parser does not mind: a WITH that begins a statement although the one before has no semicolon."""
    tokens = tokenize(text)
    return [
        f"line {text.count(chr(10), 0, token.start) + 1}: WITH begins a statement, so the one before needs a semicolon"
        for position, token in enumerate(tokens)
        if position and _begins_statement(tokens, position) and not _may_follow(tokens[position - 1])
    ]


def _begins_statement(tokens: list[Token], at: int) -> bool:
    """WITH name AS ( and WITH name (columns) AS (, in contrast to hints and options."""
    words = tokens[at : at + 3]
    if len(words) < 3 or words[0].upper != "WITH" or words[1].kind not in ("word", "quoted"):
        return False
    return words[2].upper == "AS" or (words[2].text == "(" and tokens[at - 1].upper != "(")


def _may_follow(before: Token) -> bool:
    return before.text in (";", "(") or before.upper in ("BEGIN", "AS", "ELSE", "GO", "THEN")


def _parse(texts: Mapping[str, str], version: str) -> list[Violation]:
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        for number, (name, text) in enumerate(texts.items()):
            names[f"{number}.sql"] = name
            Path(folder, f"{number}.sql").write_text(text, encoding="utf-8")
        command = [str(Path(sys.executable).with_name("maxdop")), "--parser-version", version, "--write", *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False) if names else None
    if done is None or done.returncode == 0:
        return []
    found = [Violation(names[m["file"]], version, m["text"].strip()) for m in _MESSAGE.finditer(done.stderr)]
    if not found:
        raise RuntimeError(f"maxdop failed: {done.stderr.strip() or done.stdout.strip()}")
    return found
