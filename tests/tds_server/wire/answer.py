"""Build an answer, token by token, as statements return results."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.tds_server.errors import SqlError
from tests.tds_server.wire import tokens
from tests.tds_server.wire.values import Column

DONE_SIZE = 13

AHEAD = 256 * 1024
"""Bytes of rows that are sent at once. With more of them the request goes on, as on SQL Server, until the client takes
them. A client that closes its result earlier cancels it."""


class Answer:
    """The answer to a request. The end of each statement announces further tokens, except for the last one.

    ``send``: takes a part of the answer that the client is to have at once.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._parts: list[bytes] = []
        self._ends = tokens.DONE
        self.failed = False

    def within_procedure(self) -> None:
        """Mark the following statements as those of a procedure call."""
        self._ends = tokens.DONE_IN_PROCEDURE
        self.failed = False

    def add(self, token: bytes) -> None:
        self._parts.append(token)

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[Any]], counted: bool) -> None:
        self._parts.append(tokens.columns(columns))
        size = 0
        for row in rows:
            self._parts.append(tokens.rows(columns, [row]))
            size += len(self._parts[-1])
            if size > AHEAD:
                size = 0
                self._flush()
        self._parts.append(tokens.done(self._ends, tokens.MORE, len(rows) if counted else None))

    def _flush(self) -> None:
        self._send(b"".join(self._parts))
        self._parts.clear()

    def count(self, affected: int) -> None:
        self._parts.append(tokens.done(self._ends, tokens.MORE, affected))

    def error(self, error: SqlError) -> None:
        self.failed = True
        said = (error.number, str(error), error.severity, error.state, error.procedure, error.line or 1)
        self._parts.append(tokens.error(*said))
        self._parts.append(tokens.done(self._ends, tokens.MORE | tokens.ERROR))

    def message(self, number: int, text: str, severity: int, state: int, at_once: bool) -> None:
        self._parts.append(tokens.information(number, text, severity, state))
        self._parts.append(tokens.done(self._ends, tokens.MORE))
        if at_once:
            self._flush()

    def end_call(self, status: int) -> None:
        """End a procedure call."""
        self._parts.insert(self._status_position(), tokens.return_status(status))
        self._parts.append(tokens.done(tokens.DONE_PROCEDURE, tokens.MORE | (tokens.ERROR if self.failed else 0)))

    def _status_position(self) -> int:
        """Return the position of the status, which precedes the output values of the call."""
        position = len(self._parts)
        while position and self._parts[position - 1][:1] in (b"\xac", b"\xe3"):
            position -= 1
        return position

    def finish(self) -> bytes:
        """Return the whole answer. Its last token announces no further tokens."""
        last = self._parts[-1] if self._parts else b""
        if len(last) == DONE_SIZE and last[0] in (tokens.DONE, tokens.DONE_PROCEDURE):
            self._parts[-1] = bytes([last[0], last[1] & ~tokens.MORE]) + last[2:]
        else:
            self._parts.append(tokens.done(tokens.DONE))
        return b"".join(self._parts)
