"""The OpenAPI document."""

import jsonschema_rs
import pytest

from jobfac.api import TABLE, openapi

DOCUMENT = openapi.document(TABLE)
DEFINITION = {
    "$ref": "#/components/schemas/DefinedJob",
    "components": DOCUMENT["components"],
}


def test_it_is_valid() -> None:
    from openapi_spec_validator import validate  # its import takes half a second, in each process that collects tests

    validate(DOCUMENT)


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"command": ["true"], "retry": {"attempts": 3, "delay": "5s"}, "schedules": [{"cron": "0 6 * * *"}]}, True),
        ({"command": {"a": 1}}, False),
        ({"command": ["true"], "comand": 1}, False),
        ({"command": ["true"], "retry": {"attempt": 3}}, False),
        ({}, False),
    ],
)
def test_the_body_of_a_definition_is_described_wholly(body: dict[str, object], valid: bool) -> None:
    assert jsonschema_rs.is_valid(DEFINITION, body) is valid


def test_bodies_refuse_unknown_keys_and_say_so() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    bodies = [name for name in schemas if name.endswith("Body")]
    assert bodies
    assert all(schemas[name]["additionalProperties"] is False for name in bodies)


def test_every_schema_has_a_name_of_its_own() -> None:
    """A generated client drops the operations of two schemas with one name."""
    schemas = DOCUMENT["components"]["schemas"]
    assert [name for name in schemas if "__" in name] == []
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert sorted(set(titles)) == sorted(titles)
