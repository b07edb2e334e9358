"""The connection of a ``sql`` job: what of its URL must not be shown."""

import re
from collections.abc import Iterator

import sqlalchemy as sa

from jobfac.settings.database_url import read_url


def secrets_of(url: str) -> list[bytes]:
    """What output and reports must not contain: the URL and its passwords."""
    return [part.encode() for part in (url, *_passwords(url)) if part]


def _passwords(url: str) -> Iterator[str]:
    """The URL's own password, one among its options, and the one in an ODBC connection string."""
    try:
        parsed = read_url(url)
    except sa.exc.ArgumentError:
        return
    if parsed.password:
        yield str(parsed.password)
    query = {name.lower(): values for name, values in parsed.normalized_query.items()}
    for name in _NAMES:
        yield from query.get(name, ())
    for found in _ODBC.findall(" ".join(query.get("odbc_connect", ()))):
        yield found[1:-1].replace("}}", "}") if found.startswith("{") else found


_NAMES = ("password", "passwd", "pwd")
"""What drivers call a password among the options of a URL."""

_ODBC = re.compile(rf"(?i)\b(?:{'|'.join(_NAMES)})\s*=\s*(\{{(?:\}}\}}|[^}}])*\}}|[^;]*)")
