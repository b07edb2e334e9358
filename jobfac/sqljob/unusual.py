"""Values of PostgreSQL that Python's types cannot hold, such as the time ``infinity``, are read as text.

Otherwise a script would fail by a result whose statement has been committed.
"""

from typing import Any

TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval")


def take_any_value(connection: Any) -> None:
    """Let a connection of psycopg read every value of these types."""
    for name in TYPES:
        oid = connection.adapters.types[name].oid
        loader = connection.adapters.get_loader(oid, _text_format())
        connection.adapters.register_loader(oid, _tolerant(loader))


def _text_format() -> Any:
    from psycopg.pq import Format

    return Format.TEXT


def _tolerant(loader: Any) -> Any:
    """Return a loader of the same type that gives the server's text for a value that the other one refuses."""
    from psycopg import DataError
    from psycopg.adapt import Loader

    class Tolerant(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._strict = loader(oid, context)

        def load(self, data: Any) -> Any:
            try:
                return self._strict.load(data)
            except (DataError, OverflowError):
                return bytes(data).decode()

    return Tolerant
