"""T-SQL into words, for what is decided before any grammar: where statements end, and what to rewrite beforehand."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>N?'(?:[^']|'')*')
      | (?P<quoted>\[(?:[^\]]|\]\])*\]|"(?:[^"]|"")*")
      | (?P<variable>@@?\w+)
      | (?P<word>[A-Za-z_\#][\w$\#]*)
      | (?P<number>0x[0-9a-f]*|\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<sign>[-+*/%]=|<=|>=|<>|!=|.)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class Token(NamedTuple):
    """A word of the text: ``upper`` is the word in capitals, and empty for texts and quoted names."""

    kind: str
    text: str
    upper: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The identifier without its quotes, in lower case: names compare without regard to case."""
        return (self.text[1:-1] if self.kind == "quoted" else self.text).replace("]]", "]").lower()


def tokenize(text: str) -> list[Token]:
    """The words of a text, without spaces and comments."""
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "space":
            upper = "" if kind in ("text", "quoted") else match[0].upper()
            tokens.append(Token(kind, match[0], upper, match.start(), match.end()))
    return tokens


def literal(token: Token) -> str:
    """The value of a text token."""
    return token.text.removeprefix("N").removeprefix("n")[1:-1].replace("''", "'")


def closing(tokens: list[Token], at: int) -> int:
    """Where the bracket that opens at ``at`` closes; the end of the list if it does not."""
    depth = 0
    for position in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
        if depth == 0:
            return position
    return len(tokens)
