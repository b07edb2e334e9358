"""Reads the URL of a database, and finds the passwords in it."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

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
        if any("@" in key for key in found.query):  # then what looks like a query is a part of the password
            why = f"it has a ? before its host; {ENCODED}"
        elif _AT.match(text):  # then what looks like the host or the database is one
            why = f"it has an @ in its host or database; {ENCODED}"
        else:
            return found
    except sa.exc.ArgumentError:
        why = "it is no URL of SQLAlchemy, such as mssql+pyodbc://user:password@host/database"
    except ValueError:
        why = f"its port is no number; {ENCODED}"
    raise sa.exc.ArgumentError(why)


def passwords_in(text: str) -> Iterator[str]:
    """Yield what must not be shown of a URL: its own password, one among its options, the one in an ODBC string.

    A password with an @ that is not encoded may reach to the last one of the URL, if a host with its database may
    follow: then also all up to there, its parts, and what is taken for the host.
    """
    doubtful = found[1] if (found := _USERINFO.search(text)) else ""
    parts = [doubtful, *doubtful.split("@")]
    try:
        url = read_url(text)
    except sa.exc.ArgumentError:
        yield from _long(parts)
        return
    if "@" in doubtful and re.search("[/:]", text.rpartition("@")[2]):  # not ?application_name=etl@night
        yield from _long([*parts, url.host or ""])
    if url.password:
        yield str(url.password)
    query = {name.lower(): values for name, values in url.normalized_query.items()}
    for name in _NAMES:
        yield from query.get(name, ())
    for one in _ODBC.findall(" ".join(query.get("odbc_connect", ()))):
        yield one[1:-1].replace("}}", "}") if one.startswith("{") else one


def _long(parts: Iterable[str]) -> Iterator[str]:
    """Yield these parts of a URL as they are written and as they are meant."""
    for part in parts:
        yield from (one for one in {part, unquote(part)} if len(one) >= LEAST)


LEAST = 4
"""Characters that a part of a password has at least. To mask each shorter one would make sentences unreadable."""

_AT = re.compile(
    r"(?:[\w+]+://[^:/]*:[^@]*@|(?!sqlite)[\w+]+://(?:[^:/?]+/|/[^/:?]*:))"  # or corp/user:..., or a slash too many
    r"[^?]*(?:\?[^=&]*)?@"  # not in the value of an option
    r"|[\w+]+://[^:/?]*:[^@]*@[^/?]*\?.*@",  # but there, too, if no slash stands before the options
    re.DOTALL,
)
"""Matches a URL with an @ behind that which SQLAlchemy takes for the last one before the host."""

_USERINFO = re.compile(r"//[^:?]*:(.*)@", re.DOTALL)
"""Matches what may be the password: all behind the user, up to the last @."""

_NAMES = ("password", "passwd", "pwd")
"""What drivers call a password among the options of a URL."""

_ODBC = re.compile(rf"(?i)\b(?:{'|'.join(_NAMES)})\s*=\s*(\{{(?:\}}\}}|[^}}])*\}}|[^;]*)")
