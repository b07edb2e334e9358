"""The requests of a client after the login: a batch, procedure calls, or the begin and end of a transaction."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.tds_server.wire.values import Reader, read_value

PROCEDURES = {  # well-known procedures that are called by number
    10: "sp_executesql",
    11: "sp_prepare",
    12: "sp_execute",
    13: "sp_prepexec",
    14: "sp_prepexecrpc",
    15: "sp_unprepare",
}
SEPARATORS = (0xFF, 0xFE, 0x80)
BEGIN, COMMIT, ROLLBACK, SAVE = 5, 7, 8, 9
ISOLATION = (None, "READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT")
"""Isolation levels by number; 0 keeps the current level."""


class Argument(NamedTuple):
    name: str
    value: Any
    output: bool


@dataclass(frozen=True)
class Call:
    """A procedure call: the name (in lower case if it is well known) and the arguments in order."""

    procedure: str
    arguments: list[Argument]


@dataclass(frozen=True)
class Transaction:
    """A transaction request. ``action``: BEGIN, COMMIT, ROLLBACK or SAVE. ``then_begin``: begin a new one at once."""

    action: int
    name: str = ""
    isolation: str | None = None
    then_begin: bool = False


TRANSACTION_HEADER = 2


def parse_descriptor(payload: bytes) -> bytes:
    """Return the number of the transaction in which the client sends a request; empty: in none.

    Source: Microsoft, [MS-TDS] "Transaction Descriptor Header".
    """
    reader, end = Reader(payload, 4), int.from_bytes(payload[:4], "little")
    while reader.at < end:
        length, kind = reader.number(4), reader.number(2)
        header = reader.take(length - 6)
        if kind == TRANSACTION_HEADER:
            return bytes(header[:8]) if any(header[:8]) else b""
    return b""


def _after_headers(payload: bytes) -> Reader:
    return Reader(payload, int.from_bytes(payload[:4], "little"))


def parse_batch(payload: bytes) -> str:
    """Return the text of the batch."""
    reader = _after_headers(payload)
    return reader.data[reader.at :].decode("utf-16-le")


def parse_calls(payload: bytes) -> list[Call]:
    """Return the calls of one message; an array of parameters is many calls. Raises ValueError if it is malformed."""
    reader = _after_headers(payload)
    calls = []
    while not reader.exhausted:
        calls.append(_parse_call(reader))
        if not reader.exhausted:
            reader.take(1)
    return calls


def _parse_call(reader: Reader) -> Call:
    length = reader.number(2)
    if length == 0xFFFF:
        identity = reader.number(2)
        name = PROCEDURES.get(identity, f"procedure number {identity}")
    else:
        name = reader.text(length)
    reader.take(2)
    arguments = []
    while not reader.exhausted and reader.peek() not in SEPARATORS:
        parameter = reader.text(reader.number(1))
        output = bool(reader.number(1) & 1)
        arguments.append(Argument(parameter.lower(), read_value(reader), output))
    return Call(name, arguments)


def parse_transaction(payload: bytes) -> Transaction:
    """Parse a request to the transaction manager. Raises ValueError for a distributed transaction."""
    reader = _after_headers(payload)
    action = reader.number(2)
    match action:
        case 5:
            isolation = reader.number(1) if not reader.exhausted else 0
            return Transaction(action, isolation=ISOLATION[isolation])
        case 9:
            return Transaction(action, name=reader.text(reader.number(1) // 2))
        case 7 | 8:
            name = reader.text(reader.number(1) // 2)
            if not (reader.number(1) & 1):
                return Transaction(action, name)
            return Transaction(action, name, ISOLATION[reader.number(1)], then_begin=True)
    raise ValueError(f"transaction request {action} is not supported")
