"""The definition of a job as a request body and in lists, with the schema of its models in the OpenAPI document."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from jobfac.definitions.json_schema import document_schema

PREFIX = "#/components/schemas/"

Definition = Annotated[dict[str, object], "a definition"]
"""The content of a definition file under the job's id. ``definitions.parse`` checks it, with its own sentences."""

DEFINITION_SCHEMA = {"anyOf": [{"$ref": f"{PREFIX}DefinedJob"}, {"$ref": f"{PREFIX}DefinedSequence"}]}
"""The schema of a ``Definition``."""


def definition_schemas() -> dict[str, Any]:
    """The schemas of all definition models. Their names begin with ``Defined``: a response has a ``Job`` as well."""
    schemas: dict[str, Any] = _renamed(document_schema()["$defs"])
    return {f"Defined{name}": schema | {"title": f"Defined{name}"} for name, schema in schemas.items()}


def _renamed(value: Any) -> Any:
    """The value with every reference to a definition model as a reference to its schema in the document."""
    if isinstance(value, list):
        return [_renamed(one) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(name := value.get("$ref"), str):
        return value | {"$ref": f"{PREFIX}Defined{name.rpartition('/')[2]}"}
    return {key: _renamed(one) for key, one in value.items()}


LIMIT = 4096
"""The maximum size of a definition in a list, in characters."""


def without_large(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of a list with null in place of a large ``definition``, which ``truncated`` then names."""
    large = len(json.dumps(item["definition"], ensure_ascii=False)) > LIMIT
    return {**item, **({"definition": None} if large else {}), "truncated": ["definition"] if large else []}
