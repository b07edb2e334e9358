"""Check T-SQL with Microsoft's own grammar for several versions of SQL Server, with the parser in ``maxdop``.

It checks the syntax only, not whether tables, columns, functions and types exist.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.tds_server.language.lexer import Token, tokenize
from tests.tds_server.language.remembered import remembered

VERSIONS = ("2016", "2019", "2022", "2025")
_MESSAGE = re.compile(r"^maxdop: (?P<file>\d+\.sql): (?P<text>.*?)(?=^maxdop: |\Z)", re.DOTALL | re.MULTILINE)


class Violation(NamedTuple):
    """A syntax error. ``name`` is the name of the text; ``message`` contains the position and the cause."""

    name: str
    version: str
    message: str


def check(texts: Mapping[str, str], versions: Iterable[str] = VERSIONS) -> list[Violation]:
    """Parse texts, by name, with the grammar of each version. Question marks stand for parameters.

    Raises:
        RuntimeError: the parser itself fails.
    """
    prepared = {name: numbered(text) for name, text in texts.items()}
    found = [Violation(name, "any", message) for name, text in prepared.items() for message in unseparated(text)]
    for version in versions:
        found += _parse(prepared, version)
    return found


def check_files(paths: Iterable[Path], versions: Iterable[str] = VERSIONS) -> list[Violation]:
    """Check files, with their paths as names."""
    return check({str(path): path.read_text(encoding="utf-8") for path in paths}, versions)


@remembered
def numbered(text: str) -> str:
    """Replace ``?`` and SQLAlchemy's ``%(name)s`` with the parameters @P1, @P2, ... as the drivers do."""
    parts, end, number = [], 0, 0
    tokens = tokenize(text)
    for position, token in enumerate(tokens):
        named = token.text == "%" and position + 3 < len(tokens) and tokens[position + 1].text == "("
        if token.text == "?" or (named and tokens[position + 3].text == ")" and tokens[position + 4].upper == "S"):
            number += 1
            parts.append(f"{text[end : token.start]}@P{number}")
            end = tokens[position + 4].end if named else token.end
    return "".join(parts) + text[end:]


@remembered
def unseparated(text: str) -> list[str]:
    """Find an error that the parser accepts: a statement that begins with WITH after one without a semicolon."""
    tokens = tokenize(text)
    return [
        f"line {text.count(chr(10), 0, token.start) + 1}: WITH begins a statement, so the one before needs a semicolon"
        for position, token in enumerate(tokens)
        if position and _begins_statement(tokens, position) and not _may_follow(tokens[position - 1])
    ]


def _begins_statement(tokens: list[Token], at: int) -> bool:
    """Whether WITH begins a common table expression, and not hints or options."""
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
