"""Lists of definitions: large definitions are left out, so that a page stays small."""

import json
from collections.abc import Mapping
from typing import Any

LIMIT = 4096
"""The maximum size of a definition in a list, in characters."""


def without_large(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of a list with null in place of a large ``definition``, which ``truncated`` then names."""
    large = len(json.dumps(item["definition"], ensure_ascii=False)) > LIMIT
    return {**item, **({"definition": None} if large else {}), "truncated": ["definition"] if large else []}
