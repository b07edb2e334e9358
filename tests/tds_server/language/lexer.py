"""Split T-SQL into tokens. They are enough to find the ends of statements and to rewrite simple forms."""

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
    """A token. ``upper`` is the word in capitals; it is empty for texts and quoted names."""

    kind: str
    text: str
    upper: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The identifier without quotes in lower case. Names are compared without regard to case."""
        return (self.text[1:-1] if self.kind == "quoted" else self.text).replace("]]", "]").lower()


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a text, without spaces and comments."""
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "space":
            upper = "" if kind in ("text", "quoted") else match[0].upper()
            tokens.append(Token(kind, match[0], upper, match.start(), match.end()))
    return tokens


def literal(token: Token) -> str:
    """Return the value of a text token."""
    return token.text.removeprefix("N").removeprefix("n")[1:-1].replace("''", "'")


def closing(tokens: list[Token], at: int) -> int:
    """Return the position at which the bracket at ``at`` closes, or the end of the list."""
    depth = 0
    for position in range(at, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
        if depth == 0:
            return position
    return len(tokens)
