"""The engines that the tests run on, and the tools that this machine has."""

import os
import shutil
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

import tests.tds_server.driver_memory  # noqa: F401

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


class _Statements(dict[Any, Any]):
    """Compiled statements by everything but the dialect's instance: that of each engine is another one."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


_statements: dict[tuple[type[sa.Dialect], object], _Statements] = {}


@sa.event.listens_for(sa.Engine, "engine_connect")
def share_statements(conn: sa.Connection) -> None:
    """Compile each statement once for all databases of this process: otherwise half of a short test is compilation."""
    kind = type(conn.dialect), getattr(conn.dialect, "server_version_info", None)
    conn.execution_options(compiled_cache=_statements.setdefault(kind, _Statements()))


_learnt: dict[tuple[type[sa.Dialect], sa.URL], dict[str, Any]] = {}


def _ask_once(dialect: type[sa.Dialect]) -> None:
    """Have the dialect ask each server only once what it is: otherwise that is a fifth of a first connection's cost.

    A test has an engine of its own, and a server answers all of them alike.
    """
    initialize: Callable[[Any, sa.Connection], None] = dialect.initialize

    def initialize_once(self: Any, conn: sa.Connection) -> None:
        key = dialect, conn.engine.url.set(database="")
        if key not in _learnt:
            before = dict(vars(self))
            initialize(self, conn)
            _learnt[key] = {
                name: value
                for name, value in vars(self).items()
                if isinstance(value, (str, int, tuple)) and (name not in before or before[name] != value)
            }
        vars(self).update(_learnt[key])

    setattr(dialect, "initialize", initialize_once)  # noqa: B010 (mypy refuses the assignment)


for _driver in DRIVERS:
    _ask_once(sa.make_url(f"mssql+{_driver}://").get_dialect())
