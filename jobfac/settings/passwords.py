"""Hides the passwords in URLs of databases."""

import re

_SECRET = re.compile(
    r"(//[^:/@]*:)(?:[^?]*|[^@]*)(?=@)|"
    r"((?:pwd|password)\s*(?:=|%3d))(?:%7b(?:%7d%7d|(?!%7d).)*%7d|\{(?:\}\}|[^}])*\}|.*?)(?=%3b|[;&]|$)",
    re.IGNORECASE,
)
"""Matches the password in a URL: before the host, where it may contain an @ that is not encoded, or in the query (in
``odbc_connect`` URL-encoded or not, in braces or not)."""


def without_password(url: str) -> str:
    """The URL with its password replaced by ``***``, safe to show."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", url)
