"""What a list shows of a definition: a large one is left out, so that a page costs little."""

import json
from collections.abc import Mapping
from typing import Any

LIMIT = 4096
"""Characters of a definition in a list at most."""


def without_large(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with null in place of a large ``definition``; ``truncated`` names it."""
    large = len(json.dumps(shown["definition"], ensure_ascii=False)) > LIMIT
    return {**shown, **({"definition": None} if large else {}), "truncated": ["definition"] if large else []}
