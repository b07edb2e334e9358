"""Hides the passwords in URLs of databases."""

import re

_BLANKS = r"(?:\s|\+|%20)*"
"""Also as they are written in a URL."""

_SECRET = re.compile(
    r"((?://|^[a-z0-9+.-]*:/|^(?![a-z0-9+.-]*:/))[^:?]*:)"
    r"(?:[^@]*@[^/?]*\?[^@]*(?:@[^?]*)?|(?:[^?]|\?(?=[^=&]*@))*|[^@]*(?:@[^?]*)?)(?=@)|"
    rf"((?:pwd|passw(?:or)?d){_BLANKS}(?:=|%3d){_BLANKS})(?:%7b(?:%7d%7d|(?!%7d).)*%7d|\{{(?:\}}\}}|[^}}])*\}}|.*?)"
    r"(?=%3b|[;&]|$)",
    re.IGNORECASE,
)
"""Matches the password in a URL: before the host, where it may contain @ and ? that are not encoded, as may the user an
@, or in the query (in ``odbc_connect`` URL-encoded or not, in braces or not). The URL may lack its beginning, or a
slash. A ? begins the query if a = follows it before the next @, and no @ without a slash stands before it."""


def without_password(url: str) -> str:
    """The URL with its password replaced by ``***``, safe to show."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", url)
