"""The definition of a job as a request body, with the schema of the definition models in the OpenAPI document."""

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
