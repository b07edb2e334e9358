"""The engines that the tests run on, and the tools that this machine has."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects.mssql import Mssql
from jobfac.database.dialects.sqlite import Sqlite

try:
    import pyodbc as _pyodbc

    HAS_ODBC = bool(_pyodbc.version)
except ImportError:
    HAS_ODBC = False

CC = shutil.which("cc")

DRIVERS = [*(["pyodbc"] if HAS_ODBC else []), "mssqlpython"]
"""Microsoft's real drivers, through the mssql dialect. The TDS test server answers them."""

ENGINES = ["sqlite", *DRIVERS]

EACH_DIALECT = ENGINES[:2]
"""For tests with long-running fleets. The drivers differ only in values, errors and outages. ``tests/database`` and
shorter tests of roles cover these with each driver."""

REAL = os.environ.get("JOBFAC_TEST_MSSQL_URL")
if REAL:
    ENGINES.append("real")

_first: dict[tuple[str, str], tuple[sa.Dialect, dict[Any, Any]]] = {}


def compile_once() -> None:
    """Compile each statement once in this process, and not once for each of its thousand databases.

    SQLAlchemy keeps compiled statements by engine and by dialect. The engines of one driver share both from now on, as
    soon as the first of them has connected. It is two fifths of the processor time of a test of the database.
    """
    for kind in (Sqlite, Mssql):
        kind.engine = _sharing(kind.engine)  # type: ignore[method-assign]


def _sharing(original: Callable[..., sa.Engine]) -> Callable[..., sa.Engine]:
    def engine(
        self: Any, url: sa.URL, isolation_level: str = "READ COMMITTED", lock_wait: float | None = None
    ) -> sa.Engine:
        made = original(self, url, isolation_level, lock_wait)
        key = (url.drivername, isolation_level)
        dialect, compiled = _first.setdefault(key, (made.dialect, {}))
        if dialect.server_version_info is None:  # no engine of this driver has connected yet
            _first[key] = (made.dialect, compiled)
        else:
            made.dialect = dialect
        made.update_execution_options(compiled_cache=compiled)
        return made

    return engine
