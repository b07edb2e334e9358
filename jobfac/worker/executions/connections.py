"""The connection of a ``sql`` job: what of its URL must not be shown."""

import re
from collections.abc import Iterator

import sqlalchemy as sa


def secrets_of(url: str) -> list[bytes]:
    """What output and reports must not contain: the URL and its passwords."""
    return [part.encode() for part in (url, *_passwords(url)) if part]


def _passwords(url: str) -> Iterator[str]:
    """The URL's own password, and the one in an ODBC connection string."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return
    if parsed.password:
        yield str(parsed.password)
    given = " ".join(parsed.normalized_query.get("odbc_connect", ()))
    yield from (one.strip("{}") for one in re.findall(r"(?i)\bpwd\s*=\s*(\{[^}]*\}|[^;]*)", given))
