"""Forms of T-SQL that the parser of the next step does not know, written as forms that it knows.

- ``@@ROWCOUNT`` becomes the variable ``@__rowcount``, ``$action`` the function ``merge_action()``
- ``COLLATE ...`` and ``OPTION (...)`` go
- ``x += 1`` becomes ``x = x + (1)``
- ``UPDATE TOP (n)``, ``DELETE TOP (n)`` and ``DELETE r FROM ... AS r JOIN ...`` become a write to a common table
  expression
"""

from tests.tds_server.language.lexer import Token, closing, tokenize

COMPOUND = frozenset(("+=", "-=", "*=", "/=", "%="))


def rewrite(text: str) -> str:
    """Return the statement in forms that the parser knows."""
    tokens = tokenize(text)
    first = tokens[0].upper if tokens else ""
    if first in ("UPDATE", "DELETE"):
        after = tokens[1].upper if len(tokens) > 1 else ""
        if after == "TOP":
            return rewrite(_limited(text, tokens))
        if first == "DELETE" and (joined := _joined_delete(text, tokens)):
            return rewrite(joined)
    return " ".join(_words(tokens))


def _words(tokens: list[Token]) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.upper.startswith("@@"):
            words.append("@__" + token.upper[2:].lower())
        elif token.upper == "COLLATE":
            at += 1
        elif token.upper == "OPTION" and at < len(tokens) and tokens[at].text == "(":
            at = closing(tokens, at) + 1
        elif token.text == "$" and at < len(tokens) and tokens[at].upper == "ACTION":
            words.append("merge_action()")
            at += 1
        elif token.text in COMPOUND:
            end = _clause_end(tokens, at)
            operand = " ".join(_words(tokens[at:end]))
            words.append(f"= {_name_before(words)} {token.text[0]} ({operand})")
            at = end
        else:
            words.append(token.text)
    return words


def _name_before(words: list[str]) -> str:
    start = len(words) - 1
    while start > 1 and words[start - 1] == ".":
        start -= 2
    return "".join(words[start:])


def _clause_end(tokens: list[Token], at: int) -> int:
    """Return the position at which an assigned expression ends."""
    cases = 0
    while at < len(tokens):
        if not cases and _begins(tokens, at, (",", "WHERE", "OUTPUT", "FROM", "WHEN", ";")):
            return at
        cases += {"CASE": 1, "END": -1}.get(tokens[at].upper, 0)
        at = closing(tokens, at) + 1 if tokens[at].text == "(" else at + 1
    return at


def _begins(tokens: list[Token], at: int, words: tuple[str, ...]) -> bool:
    """Whether one of these clauses begins here. The second part of a dotted name is no clause."""
    return tokens[at].upper in words and tokens[at - 1].text != "."


def _clauses(text: str, tokens: list[Token], at: int) -> dict[str, str]:
    """Split the text after a written table: its own words under "", then each clause under its first word."""
    found: dict[str, str] = {}
    name, start = "", at
    while at < len(tokens):
        if _begins(tokens, at, ("SET", "OUTPUT", "FROM", "WHERE")):
            found[name] = _slice(text, tokens, start, at)
            name, start = tokens[at].upper, at
        at = closing(tokens, at) + 1 if tokens[at].text == "(" else at + 1
    found[name] = _slice(text, tokens, start, len(tokens))
    return found


def _slice(text: str, tokens: list[Token], start: int, end: int) -> str:
    return text[tokens[start].start : tokens[end - 1].end] if end > start else ""


def _limited(text: str, tokens: list[Token]) -> str:
    """Rewrite UPDATE TOP (n) and DELETE TOP (n)."""
    opening = 2
    end = closing(tokens, opening) if tokens[opening].text == "(" else opening
    limit = _slice(text, tokens, opening, end + 1)
    at = end + 2 if tokens[end + 1].upper == "FROM" else end + 1
    parts = _clauses(text, tokens, at)
    verb = "UPDATE limited" if tokens[0].upper == "UPDATE" else "DELETE FROM limited"
    return (
        f"WITH limited AS (SELECT TOP {limit} * FROM {parts['']} {parts.get('WHERE', '')}) "
        f"{verb} {parts.get('SET', '')} {parts.get('OUTPUT', '')}"
    )


def _joined_delete(text: str, tokens: list[Token]) -> str | None:
    """Rewrite DELETE with a FROM clause after the target."""
    at = 2 if tokens[1].upper == "FROM" else 1
    parts = _clauses(text, tokens, at)
    if "FROM" not in parts:
        return None
    target = parts[""].split(".")[-1]
    return (
        f"WITH joined AS (SELECT {target}.* {parts['FROM']} {parts.get('WHERE', '')}) "
        f"DELETE FROM joined {parts.get('OUTPUT', '')}"
    )
