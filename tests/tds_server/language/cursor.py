"""The position of a parser of batches, and the extent of statements and expressions."""

from tests.tds_server.errors import SqlError
from tests.tds_server.language.lexer import Token, closing, tokenize

FLOW = frozenset({
    "DECLARE", "IF", "WHILE", "RETURN", "THROW", "WAITFOR", "PRINT", "RAISERROR", "COMMIT", "ROLLBACK", "EXEC",
    "EXECUTE", "BREAK", "CONTINUE", "BEGIN", "END", "ELSE",
})  # fmt: skip
STARTERS = FLOW | frozenset({
    "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "SET", "CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT",
    "DENY", "REVOKE", "SAVE", "USE",
})  # fmt: skip
DROPPABLE = frozenset({"TABLE", "VIEW", "INDEX", "PROCEDURE", "PROC", "SCHEMA", "COLUMN", "CONSTRAINT", "ROLE", "USER"})


class Cursor:
    """A position in the tokens of a batch."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.at = 0

    def peek(self, ahead: int = 0) -> Token:
        position = self.at + ahead
        end = len(self.text)
        return self.tokens[position] if position < len(self.tokens) else Token("end", "", "", end, end)

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, *words: str) -> bool:
        """Skip these words if they all come next; returns whether they did."""
        if all(self.peek(ahead).upper == word for ahead, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise SqlError(102, f"Incorrect syntax near '{self.peek().text}': expected {word}.", 15)

    def until(self, stop: frozenset[str], separators: str = ";") -> str:
        """Return the text up to one of these words or signs outside of brackets and CASE."""
        start, cases = self.peek().start, 0
        end = start
        while (token := self.peek()).kind != "end":
            if not cases and (token.upper in stop or token.text in separators) and not self.is_guard():
                break
            if token.text == ")":
                break
            cases += {"CASE": 1, "END": -1}.get(token.upper, 0)
            if token.text == "(":
                self.at = min(closing(self.tokens, self.at), len(self.tokens) - 1)
            end = self.next().end
        return self.text[start:end].strip()

    def is_guard(self) -> bool:
        """Whether an IF belongs to DROP ... IF EXISTS."""
        return self.at > 0 and self.peek().upper == "IF" and self.tokens[self.at - 1].upper in DROPPABLE

    def name(self) -> str:
        """Read a name of one or more parts with dots; returns it in lower case."""
        parts = [self.next().name]
        while self.accept("."):
            parts.append(self.next().name)
        return ".".join(parts)
