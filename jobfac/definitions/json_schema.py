"""The JSON Schema of a file of definitions, generated from the models, for completion and checks in editors.

It contains types, keywords, defaults and examples. Rules about several values, such as a warn_after before its timeout
or jobs that must exist, are checked only by ``load``.
"""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from jobfac.definitions.execution.limits import Limits
from jobfac.definitions.execution.output import Output, Rotate
from jobfac.definitions.execution.policies import Concurrency, Retention, Retry
from jobfac.definitions.execution.sql import Sql
from jobfac.definitions.execution.watching import Expect, Usual
from jobfac.definitions.models import Defaults, Definition, Job, Sequence
from jobfac.definitions.notify import Notify, Recipient, Secret
from jobfac.definitions.parameters import Parameter
from jobfac.definitions.schedule import Calendar, Dates, Missed, Schedule, Times
from jobfac.definitions.steps import Approve, StartIf, Step, Wait
from jobfac.definitions.triggers import After, Upstream
from jobfac.definitions.triggers.call import Call, Signature
from jobfac.definitions.values import Model

MODELS: tuple[type[Model], ...] = (
    Job, Sql, Sequence, Parameter, Schedule, Dates, Times, Missed, Calendar, After, Upstream, Step, Approve, Wait,
    StartIf, Call, Signature, Limits, Retry, Concurrency, Retention, Expect, Usual, Output, Rotate, Notify, Recipient,
    Secret, Defaults,
)  # fmt: skip
"""Every model of a definition, in the order in which the reference explains them."""

COMMON = frozenset(Definition.model_fields)
"""The keys that jobs and sequences share."""


class _Generator(GenerateJsonSchema):
    """A generator that omits titles which only repeat a key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def document_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a file with ``jobs`` and ``defaults``."""
    _, schema = models_json_schema(
        [(model, "validation") for model in MODELS], ref_template="#/$defs/{model}", schema_generator=_Generator
    )
    definitions = schema["$defs"]
    for model in MODELS:
        _finish(definitions[model.__name__], model)
    definitions[Job.__name__]["oneOf"] = [{"required": ["command"]}, {"required": ["sql"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Definitions of jobfac",
        "description": "Jobs and sequences by id, and the defaults of categories.",
        "type": "object",
        "properties": {
            "jobs": {
                "description": "Jobs and sequences by id.",
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,128}$"},
                "additionalProperties": {
                    "if": {"required": ["steps"]},
                    "then": {"$ref": "#/$defs/Sequence"},
                    "else": {"$ref": "#/$defs/Job"},
                },
            },
            "defaults": {
                "description": "Defaults for the jobs of a category, by the name of the category.",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/Defaults"},
            },
        },
        "anyOf": [{"required": ["jobs"]}, {"required": ["defaults"]}],
        "additionalProperties": False,
        "$defs": definitions,
    }


def properties(schema: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    """Return the keys of a model in a document schema."""
    return _mapping(schema["$defs"][model.__name__])["properties"]  # type: ignore[no-any-return]


def _finish(schema: dict[str, Any], model: type[Model]) -> None:
    """Write defaults as in definitions ("10s", not 10.0), and descriptions without markup."""
    mapping = _mapping(schema)
    mapping["description"] = " ".join(str(mapping.get("description", "")).replace("``", "'").split())
    written = model.model_construct().model_dump(mode="json")
    for key, field in mapping["properties"].items():
        field.pop("default", None)
        if written.get(key) not in (None, []):  # an empty list stands for a key that is absent
            field["default"] = _without_null(written[key])


def _without_null(value: Any) -> Any:
    """Return the value without keys that are null."""
    if not isinstance(value, dict):
        return value
    return {key: _without_null(entry) for key, entry in value.items() if entry is not None}


def _mapping(schema: dict[str, Any]) -> dict[str, Any]:
    return next(part for part in (schema, *schema.get("anyOf", ())) if "properties" in part)
