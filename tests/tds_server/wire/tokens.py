"""The tokens of the server's answers as bytes."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from tests.tds_server.wire.values import Column, Kind

DONE, DONE_PROCEDURE, DONE_IN_PROCEDURE = 0xFD, 0xFE, 0xFF
MORE, ERROR, COUNT, ATTENTION, SERVER_ERROR = 0x01, 0x02, 0x10, 0x20, 0x100
BEGAN, COMMITTED, ROLLED_BACK, RESET = 8, 9, 10, 18  # types of environment changes
NULLABLE = 0x0001


def _short_text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("utf-16-le")


def _counted(token: int, body: bytes) -> bytes:
    return bytes([token]) + struct.pack("<H", len(body)) + body


def done(token: int, status: int = 0, rows: int | None = None) -> bytes:
    """The end of a statement, of a procedure, or of a statement in a procedure. ``rows``: affected rows."""
    if rows is not None:
        status |= COUNT
    return bytes([token]) + struct.pack("<HHQ", status, 0, rows or 0)


def error(number: int, message: str, severity: int = 16, state: int = 1, procedure: str = "", line: int = 1) -> bytes:
    """An error of that number; the message is cut at 2,000 characters."""
    return _counted(0xAA, _message(number, message[:2000], severity, state, procedure, line))


def information(number: int, message: str, severity: int, state: int) -> bytes:
    """A message that is not an error, as PRINT sends it; it is cut at 4,000 characters."""
    return _counted(0xAB, _message(number, message[:4000], severity, state, "", 1))


def _message(number: int, message: str, severity: int, state: int, procedure: str, line: int) -> bytes:
    text = message.encode("utf-16-le")  # of which a character beyond U+FFFF takes two units
    body = struct.pack("<IBBH", number, state, severity, len(text) // 2) + text
    return body + _short_text("testserver") + _short_text(procedure) + struct.pack("<I", line)


def environment(kind: int, new: bytes = b"", old: bytes = b"") -> bytes:
    """A change of the session that the driver must know. The values are bytes, such as a transaction's number."""
    return _counted(0xE3, bytes([kind, len(new)]) + new + bytes([len(old)]) + old)


def return_status(status: int) -> bytes:
    """The return status of a procedure."""
    return b"\x79" + struct.pack("<i", status)


def return_value(ordinal: int, name: str, kind: Kind, value: Any) -> bytes:
    """The value of an output parameter."""
    head = struct.pack("<H", ordinal) + _short_text(name) + b"\x01" + struct.pack("<IH", 0, NULLABLE)
    return b"\xac" + head + kind.info + kind.encode(value)


def columns(shape: Sequence[Column]) -> bytes:
    """The columns of the following rows."""
    described = (struct.pack("<IH", 0, NULLABLE) + kind.info + _short_text(name[:128]) for name, kind in shape)
    return b"\x81" + struct.pack("<H", len(shape)) + b"".join(described)


def rows(shape: Sequence[Column], values: Iterable[Sequence[Any]]) -> bytes:
    """Rows with these columns."""
    encoders = [column.kind.encode for column in shape]
    return b"".join(
        b"\xd1" + b"".join([encode(value) for encode, value in zip(encoders, row, strict=True)]) for row in values
    )
