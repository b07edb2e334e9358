"""Have mssql-python remember what it finds out about a text or a type, instead of finding it out at each statement.

It reads every statement character by character, which is a tenth of the processor time of a test. The answers depend
on nothing but the arguments, so they are the same.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mssql_python import constants, cursor, parameter_helper


def _remember() -> None:
    names: Callable[[str], list[str]] = lru_cache(maxsize=4096)(parameter_helper.parse_pyformat_params)

    def copied(sql: str) -> list[str]:
        return list(names(sql))

    for module in (parameter_helper, cursor):
        setattr(module, "parse_pyformat_params", copied)  # noqa: B010 (mypy refuses the assignment)
    valid = frozenset(constants.SQLTypes.get_valid_types())
    setattr(constants.SQLTypes, "get_valid_types", lambda: valid)  # noqa: B010
    map_type: Callable[[Any, Any], Any] = cursor.Cursor._map_data_type
    by_number = lru_cache(maxsize=None)(lambda number: map_type(None, number))
    setattr(cursor.Cursor, "_map_data_type", lambda self, number: by_number(number))  # noqa: B010


_remember()
