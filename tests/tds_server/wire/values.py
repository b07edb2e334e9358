"""Read parameter values, and write the values of result columns and output parameters."""

import datetime as dt
import decimal
import struct
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

DAY_ONE = dt.date(1, 1, 1)
COLLATION = bytes.fromhex("0904d00034")  # SQL_Latin1_General_CP1_CI_AS
MAX = 0xFFFF  # declared size of the (max) types, whose values are sent in chunks
NULL_CHUNKS = b"\xff" * 8
HALF = "\ue000"
"""Stands for half of a character (a lone surrogate), which SQL Server stores and PostgreSQL does not."""

CHUNKS_END = bytes(4)

INT, FLOAT, BIT, GUID = 0x26, 0x6D, 0x68, 0x24
DATE, TIME, DATETIME2, DATETIMEOFFSET, DATETIME = 0x28, 0x29, 0x2A, 0x2B, 0x6F
DECIMALS = (0x6A, 0x6C)
NVARCHARS, VARCHARS, BINARIES = (0xE7, 0xEF), (0xA7, 0xAF), (0xA5, 0xAD)
FIXED_INTS = {0x30: 1, 0x34: 2, 0x38: 4, 0x7F: 8}
LOBS = {0x22: "image", 0x23: "text", 0x63: "ntext"}


class Kind(NamedTuple):
    """A type as the server declares it: its TYPE_INFO, and the function that writes a value."""

    info: bytes
    encode: Callable[[Any], bytes]


class Column(NamedTuple):
    name: str
    kind: Kind


# Reading


class Reader:
    """A cursor over the bytes of a message."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def exhausted(self) -> bool:
        return self.at >= len(self.data)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes. Raises ValueError if the message is shorter."""
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError(f"the message ends {count - len(taken)} bytes too early")
        self.at += count
        return taken

    def number(self, width: int) -> int:
        if width == 1 and self.at < len(self.data):  # by far the most frequent case
            self.at += 1
            return self.data[self.at - 1]
        return int.from_bytes(self.take(width), "little")

    def text(self, characters: int) -> str:
        return self.take(2 * characters).decode("utf-16-le")

    def peek(self) -> int:
        return self.data[self.at]


def read_value(reader: Reader) -> Any:
    """Read a parameter's TYPE_INFO and value. Raises ValueError for an unknown type."""
    kind = reader.number(1)
    if kind in FIXED_INTS:
        return int.from_bytes(reader.take(FIXED_INTS[kind]), "little", signed=kind != 0x30)
    if kind == 0x32:
        return bool(reader.number(1))
    if kind == 0x3E:
        return struct.unpack("<d", reader.take(8))[0]
    if kind in NVARCHARS or kind in VARCHARS or kind in BINARIES:
        return _read_variable(reader, kind)
    if kind in LOBS:
        return _read_lob(reader, LOBS[kind])
    if kind in DECIMALS:
        _, _, scale = reader.take(3)
        raw = reader.take(reader.number(1))
        sign = 1 if raw and raw[0] else -1
        return decimal.Decimal(sign * int.from_bytes(raw[1:], "little")).scaleb(-scale) if raw else None
    if kind in (DATE, TIME, DATETIME2, DATETIMEOFFSET):
        scale = 0 if kind == DATE else reader.number(1)
        raw = reader.take(reader.number(1))
        return _read_moment(raw, kind, scale) if raw else None
    if kind in (INT, FLOAT, BIT, GUID, DATETIME):
        declared = reader.number(1)
        raw = reader.take(reader.number(1))
        return _read_nullable(raw, kind, declared) if raw else None
    raise ValueError(f"a parameter has the unknown type 0x{kind:02x}")


def _read_nullable(raw: bytes, kind: int, declared: int) -> Any:
    match kind:
        case 0x68:
            return bool(raw[0])
        case 0x6D:
            return struct.unpack("<d" if len(raw) == 8 else "<f", raw)[0]
        case 0x24:
            return uuid.UUID(bytes_le=raw)
        case 0x6F:
            days, ticks = struct.unpack("<iI", raw)
            return dt.datetime(1900, 1, 1) + dt.timedelta(days=days, milliseconds=round(ticks * 10 / 3))
    return int.from_bytes(raw, "little", signed=declared > 1)


def _read_variable(reader: Reader, kind: int) -> Any:
    declared = reader.number(2)
    if kind not in BINARIES:
        reader.take(len(COLLATION))
    raw = _read_chunks(reader) if declared == MAX else _read_sized(reader)
    if raw is None or kind in BINARIES:
        return raw
    return raw.decode("utf-16-le", "surrogatepass") if kind in NVARCHARS else raw.decode("cp1252")


def _read_sized(reader: Reader) -> bytes | None:
    length = reader.number(2)
    return None if length == MAX else reader.take(length)


def _read_chunks(reader: Reader) -> bytes | None:
    if reader.take(8) == NULL_CHUNKS:
        return None
    chunks = []
    while size := reader.number(4):
        chunks.append(reader.take(size))
    return b"".join(chunks)


def _read_lob(reader: Reader, name: str) -> Any:
    reader.take(4)
    if name != "image":
        reader.take(len(COLLATION))
    length = reader.number(4)
    if length == 0xFFFFFFFF:
        return None
    raw = reader.take(length)
    return raw if name == "image" else raw.decode("utf-16-le" if name == "ntext" else "cp1252")


def _read_moment(raw: bytes, kind: int, scale: int) -> Any:
    def clock(part: bytes) -> dt.timedelta:
        return dt.timedelta(microseconds=int.from_bytes(part, "little") * 10 ** (7 - scale) // 10)

    def day(part: bytes) -> dt.datetime:
        return dt.datetime.combine(DAY_ONE + dt.timedelta(days=int.from_bytes(part, "little")), dt.time())

    if kind == DATE:
        return day(raw).date()
    if kind == TIME:
        return (dt.datetime.min + clock(raw)).time()
    if kind == DATETIME2:
        return day(raw[-3:]) + clock(raw[:-3])
    offset = dt.timedelta(minutes=int.from_bytes(raw[-2:], "little", signed=True))
    return (day(raw[-5:-2]) + clock(raw[:-5]) + offset).replace(tzinfo=dt.timezone(offset))


# Writing


def _nullable(width: int, write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda value: b"\0" if value is None else bytes([width]) + write(value)


def integer(width: int) -> Kind:
    """TINYINT, SMALLINT, INT or BIGINT: 1, 2, 4 or 8 bytes."""
    return Kind(
        bytes([INT, width]), _nullable(width, lambda value: int(value).to_bytes(width, "little", signed=width > 1))
    )


def bit() -> Kind:
    return Kind(bytes([BIT, 1]), _nullable(1, lambda value: bytes([bool(value)])))


def floating(width: int = 8) -> Kind:
    return Kind(bytes([FLOAT, width]), _nullable(width, lambda value: struct.pack("<d" if width == 8 else "<f", value)))


def guid() -> Kind:
    return Kind(bytes([GUID, 16]), _nullable(16, lambda value: uuid.UUID(str(value)).bytes_le))


def number(precision: int, scale: int) -> Kind:
    """DECIMAL(precision, scale)."""

    def write(value: Any) -> bytes:
        scaled = int(decimal.Decimal(value).scaleb(scale).to_integral_value(decimal.ROUND_HALF_UP))
        return bytes([scaled >= 0]) + abs(scaled).to_bytes(16, "little")

    return Kind(bytes([DECIMALS[1], 17, precision, scale]), _nullable(17, write))


def _variable(kind: int, size: int | None, collation: bytes, write: Callable[[Any], bytes]) -> Kind:
    def encode(value: Any) -> bytes:
        if value is None:
            return NULL_CHUNKS if size is None else struct.pack("<H", MAX)
        raw = write(value)
        if size is not None:
            return struct.pack("<H", len(raw)) + raw
        chunk = struct.pack("<I", len(raw)) + raw if raw else b""
        return struct.pack("<Q", len(raw)) + chunk + CHUNKS_END

    return Kind(bytes([kind]) + struct.pack("<H", MAX if size is None else size) + collation, encode)


def _halved(value: Any) -> str:
    """Return the text as SQL Server would have it, where ``HALF`` stands for half of a character."""
    return str(value).replace(HALF, "\ud800")


def nvarchar(characters: int | None) -> Kind:
    """NVARCHAR of at most ``characters`` (up to 4,000), or NVARCHAR(MAX) for None."""
    size = None if characters is None or characters > 4000 else 2 * characters
    return _variable(NVARCHARS[0], size, COLLATION, lambda value: _halved(value).encode("utf-16-le", "surrogatepass"))


def varbinary() -> Kind:
    """VARBINARY(MAX)."""
    return _variable(BINARIES[0], None, b"", bytes)


def _ticks(value: Any, scale: int) -> bytes:
    micros = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    width = 3 if scale < 3 else 4 if scale < 5 else 5
    return int(micros * 10 // 10 ** (7 - scale)).to_bytes(width, "little")


def _days(value: dt.date) -> bytes:
    return (value.toordinal() - DAY_ONE.toordinal()).to_bytes(3, "little")


def _moment(info: bytes, write: Callable[[Any], bytes]) -> Kind:
    def encode(value: Any) -> bytes:
        if value is None:
            return b"\0"
        raw = write(value)
        return bytes([len(raw)]) + raw

    return Kind(info, encode)


def date() -> Kind:
    return _moment(bytes([DATE]), _days)


def time(scale: int) -> Kind:
    return _moment(bytes([TIME, scale]), lambda value: _ticks(value, scale))


def datetime2(scale: int) -> Kind:
    return _moment(bytes([DATETIME2, scale]), lambda value: _ticks(value, scale) + _days(value.date()))


def datetimeoffset(scale: int) -> Kind:
    def write(value: dt.datetime) -> bytes:
        utc = value.astimezone(dt.UTC)
        minutes = int((value.utcoffset() or dt.timedelta()).total_seconds() // 60)
        return _ticks(utc, scale) + _days(utc.date()) + struct.pack("<h", minutes)

    return _moment(bytes([DATETIMEOFFSET, scale]), write)
