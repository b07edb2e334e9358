"""The engines that the tests run on, and the tools that this machine has."""

import os
import shutil

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
