"""Reads the URL of a database."""

import sqlalchemy as sa


def read_url(text: str) -> sa.URL:
    """Return a URL of SQLAlchemy.

    Raises:
        sa.exc.ArgumentError: it is none. The message has no part of it: SQLAlchemy's own may quote one of a password.
    """
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError:
        why = "it is no URL of SQLAlchemy, such as mssql+pyodbc://user:password@host/database"
    except ValueError:
        why = "its port is no number; in a password, write @ as %40, : as %3A and / as %2F"
    raise sa.exc.ArgumentError(why)
