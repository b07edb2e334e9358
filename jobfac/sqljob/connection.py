"""Connects to the database of a script, in autocommit: a script begins and ends its transactions itself."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from jobfac.sqljob.request import Request
from jobfac.sqljob.scripts import ScriptError

KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 4}
"""Options of libpq by which a statement fails within a minute when the server or the network is gone. By default its
client waits for two hours."""


def _options(url: sa.URL) -> dict[str, int]:
    """Return the options of the driver that the URL does not name."""
    if url.get_backend_name() != "postgresql" or url.get_driver_name() not in ("psycopg", "psycopg2"):
        return {}
    return {name: value for name, value in KEEPALIVES.items() if name not in url.query}


@contextmanager
def connect(request: Request) -> Iterator[tuple[Any, sa.Dialect]]:
    """Return the driver's connection and its SQLAlchemy dialect.

    Raises:
        ScriptError: there is no such driver or database, or the login is refused.
    """
    url = request.url
    in_url = request.database is not None and "odbc_connect" not in url.query
    if in_url:
        url = url.set(database=request.database)
    shown = f"{url.get_backend_name()} on {url.host or 'this machine'}"
    try:
        if url.get_backend_name() == "mssql":
            from jobfac.database.dialects.mssql import with_driver

            url = with_driver(url)
        engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args=_options(url))
    except (sa.exc.ArgumentError, ImportError, ValueError) as error:
        raise ScriptError(f"the driver for {url.drivername} cannot be used here: {error}; install it") from None
    try:
        held = engine.raw_connection()
    except (sa.exc.DBAPIError, engine.dialect.loaded_dbapi.Error) as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        raise ScriptError(f"the database ({shown}) cannot be reached: {why}") from None
    try:
        connection = held.driver_connection
        assert connection is not None
        if request.database is not None and not in_url:
            name = request.database.replace("]", "]]")
            connection.cursor().execute(f"USE [{name}]")
        yield connection, engine.dialect
    finally:
        with suppress(Exception):  # a connection that is lost cannot be closed in order
            held.invalidate()
