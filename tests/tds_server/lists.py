"""Find statements whose text varies with the length of a list. SQL Server would keep a plan for each length."""

import re
from collections import defaultdict
from collections.abc import Iterable

_PARAMETER = re.compile(r"@P\d+\b", re.IGNORECASE)
_IN_LIST = re.compile(r"\bIN\s*\(\s*@P\d+\s*[,)]", re.IGNORECASE)
_OF_THE_CATALOG = re.compile(r"\bFROM (?:\[?INFORMATION_SCHEMA\]?|sys)\.", re.IGNORECASE)
"""SQLAlchemy looks for tables like this, once in a migration."""

_PARAMETERS = re.compile(r"\?(?:\s*,\s*\?)+")
_ATOM = r"[^()]"
_NESTED = rf"\((?:{_ATOM}|\((?:{_ATOM}|\((?:{_ATOM}|\({_ATOM}*\))*\))*\))*\)"
_ROWS = re.compile(rf"({_NESTED})(?:\s*,\s*\1)+")
_TERMS = re.compile(r"(\S+\s*=\s*\?)(?:\s+(?:OR|AND)\s+\1)+", re.IGNORECASE)


def varying(texts: Iterable[str]) -> list[str]:
    """Return the texts that have a list of parameters after IN, and those that differ only in a list's length.

    A list is a list of parameters, of rows of parameters (VALUES), or of equal comparisons.
    """
    alike: defaultdict[str, set[str]] = defaultdict(set)
    found: set[str] = set()
    for text in texts:
        if _PARAMETER.search(text) is None or _OF_THE_CATALOG.search(text) is not None:
            continue
        if _IN_LIST.search(text) is not None:
            found.add(text)
        alike[_without_lengths(text)].add(text)
    return sorted(found.union(*(group for group in alike.values() if len(group) > 1)))


def _without_lengths(text: str) -> str:
    plain = _PARAMETER.sub("?", text)
    for pattern, instead in ((_ROWS, r"\1"), (_PARAMETERS, "?"), (_TERMS, r"\1")):
        plain = pattern.sub(instead, plain)
    return " ".join(plain.split())
