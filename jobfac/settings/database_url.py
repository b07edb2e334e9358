"""Reads the URL of a database."""

import sqlalchemy as sa

ENCODED = "in a password, write @ as %40, : as %3A, / as %2F and ? as %3F"
"""What to do about a password that is taken for another part of the URL."""


def read_url(text: str) -> sa.URL:
    """Return a URL of SQLAlchemy.

    Raises:
        sa.exc.ArgumentError: it is none. The message has no part of it: SQLAlchemy's own may quote one of a password.
    """
    try:
        found = sa.make_url(text)
        if not any("@" in key for key in found.query):  # otherwise what looks like a query is a part of the password
            return found
        why = f"it has a ? before its host; {ENCODED}"
    except sa.exc.ArgumentError:
        why = "it is no URL of SQLAlchemy, such as mssql+pyodbc://user:password@host/database"
    except ValueError:
        why = f"its port is no number; {ENCODED}"
    raise sa.exc.ArgumentError(why)
