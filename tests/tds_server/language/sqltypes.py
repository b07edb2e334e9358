"""Map the types of T-SQL to types of PostgreSQL and to types on the wire."""

import decimal
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg.types.numeric import Int8

from tests.tds_server.wire import values
from tests.tds_server.wire.values import Column, Kind

_PLAIN = {
    "bit": "boolean",
    "tinyint": "smallint",
    "smallint": "smallint",
    "int": "integer",
    "integer": "integer",
    "bigint": "bigint",
    "real": "real",
    "date": "date",
    "uniqueidentifier": "uuid",
    "datetime": "timestamp(3)",
    "smalldatetime": "timestamp(0)",
    "money": "numeric(19,4)",
    "xml": "text",
    "text": "text",
    "ntext": "text",
    "sysname": "varchar(128)",
    "sql_variant": "text",
    "float": "double precision",
}
_TEXTS = ("nvarchar", "varchar", "nchar", "char")
_CLOCKS = {"datetime2": "timestamp", "datetimeoffset": "timestamptz", "time": "time"}


class SqlType(NamedTuple):
    """A declared type: its name in lower case and its arguments, such as ("nvarchar", ("128",))."""

    name: str
    sizes: tuple[str, ...]

    @property
    def postgres(self) -> str:
        """The PostgreSQL type of a column."""
        if self.name in _TEXTS:
            if self.sizes == ("max",):
                return "text"
            return f"{'char' if 'var' not in self.name else 'varchar'}({self.sizes[0] if self.sizes else 1})"
        if self.name in ("varbinary", "binary", "image", "rowversion", "timestamp"):
            return "bytea"
        if self.name in ("decimal", "numeric"):
            return f"numeric({','.join(self.sizes)})" if self.sizes else "numeric(18,0)"
        if self.name in _CLOCKS:
            return f"{_CLOCKS[self.name]}({min(self._scale, 6)})"
        return _PLAIN.get(self.name, self.name)

    @property
    def parameter(self) -> str:
        """The PostgreSQL type of a parameter or variable. Texts have no limit, so too long values are refused."""
        return "text" if self.name in (*_TEXTS, "sysname") else self.postgres

    @property
    def _scale(self) -> int:
        return int(self.sizes[0]) if self.sizes else 7

    @property
    def kind(self) -> Kind:
        """The type on the wire."""
        match self.name:
            case "bigint":
                return values.integer(8)
            case "int" | "integer":
                return values.integer(4)
            case "smallint":
                return values.integer(2)
            case "tinyint":
                return values.integer(1)
            case "bit":
                return values.bit()
            case "float" | "real":
                return values.floating()
            case "decimal" | "numeric":
                precision, scale = (
                    (*map(int, self.sizes), 18, 0)[:2] if len(self.sizes) != 1 else (int(self.sizes[0]), 0)
                )
                return values.number(precision, scale)
            case "datetime2" | "datetime":
                return values.datetime2(self._scale)
            case "datetimeoffset":
                return values.datetimeoffset(self._scale)
            case "date":
                return values.date()
            case "time":
                return values.time(self._scale)
            case "uniqueidentifier":
                return values.guid()
            case "varbinary" | "binary":
                return values.varbinary()
        return values.nvarchar(int(self.sizes[0]) if self.sizes and self.sizes[0] != "max" else None)


@lru_cache(maxsize=4096)
def parse_type(text: str) -> SqlType:
    """Parse a type such as ``NVARCHAR(128)``, ``[int]`` or ``sys.sysname``."""
    match = re.match(r"(?:\[?sys\]?\.)?\[?(\w+)\]?\s*(?:\(([^)]*)\))?", text.strip())
    if not match:
        return SqlType("nvarchar", ("max",))
    sizes = tuple(size.strip().lower() for size in match[2].split(",")) if match[2] else ()
    return SqlType(match[1].lower(), sizes)


def parse_declarations(text: str) -> dict[str, SqlType]:
    """Parse the declarations ``@P1 nvarchar(4000),@P2 decimal(10,2)``; returns the types by name in lower case."""
    return dict(_declarations(text))


@lru_cache(maxsize=4096)
def _declarations(text: str) -> dict[str, SqlType]:
    parts = re.split(r",(?![^(]*\))", text or "")
    declared = (part.strip().split(None, 1) for part in parts if part.strip())
    return {name.lower(): parse_type(kind.removesuffix(" OUTPUT").removesuffix(" output")) for name, kind in declared}


def to_postgres(value: Any) -> Any:
    """Convert a parameter's value, so that its PostgreSQL type does not depend on its size."""
    return Int8(value) if isinstance(value, int) and not isinstance(value, bool) else value


def column(name: str, described: Any, rows: Sequence[Sequence[Any]], position: int) -> Column:
    """Return a column of a result from PostgreSQL's description of it."""
    return Column(name, _kind(described, rows, position))


def _kind(described: Any, rows: Sequence[Sequence[Any]], position: int) -> Kind:
    match described.type_code:
        case 16:
            return values.bit()
        case 21:
            return values.integer(2)
        case 23 | 26:
            return values.integer(4)
        case 20:
            return values.integer(8)
        case 700 | 701:
            return values.floating()
        case 1700:
            if described.precision:
                return values.number(described.precision, described.scale or 0)
            return values.number(38, _digits(row[position] for row in rows))
        case 17:
            return values.varbinary()
        case 2950:
            return values.guid()
        case 1082:
            return values.date()
        case 1083:
            return values.time(7)
        case 1114:
            return values.datetime2(_precision(described))
        case 1184:
            return values.datetimeoffset(7)
        case 1043 | 1042:
            return values.nvarchar(described.display_size)
        case 19 | 18:
            return values.nvarchar(128)
    return values.nvarchar(None)


def _precision(described: Any) -> int:
    modifier = re.search(r"\((\d)\)", described.type_display)
    return int(modifier[1]) if modifier else 7


def _digits(numbers: Any) -> int:
    exponents = (number.as_tuple().exponent for number in numbers if isinstance(number, decimal.Decimal))
    return min(max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0), 20)
