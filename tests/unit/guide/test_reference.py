"""The JSON Schema of definitions, and the pages that are generated from the models."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from jobfac.definitions import DefinitionError, dump, from_data, loads
from jobfac.definitions.document import read_document
from jobfac.definitions.json_schema import MODELS, document_schema, properties
from jobfac.guide import TOPICS, example, page
from scripts import reference

ROOT = Path(__file__).parents[3]
VALIDATOR = jsonschema_rs.validator_for(document_schema())
SAMPLES = [
    *sorted((ROOT / "scripts" / "samples").glob("*.yaml")),
    ROOT / "tests/unit/definitions/samples/every_key.yaml",
]


def blocks() -> list[tuple[str, str]]:
    """Return every YAML block of the guide and the README, with its page."""
    pages = {topic: page(topic) for topic in TOPICS} | {"README": (ROOT / "README.md").read_text(encoding="utf-8")}
    return [
        (name, block) for name, text in pages.items() for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    ]


def wrong(document: Any) -> list[str]:
    return [f"{list(error.instance_path)}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_reference_pages_are_current() -> None:
    for path, text in reference.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale; run make reference"


def test_every_key_has_a_description_and_valid_examples() -> None:
    schema = document_schema()
    for model in MODELS:
        for key, field in properties(schema, model).items():
            assert field.get("description") or "$ref" in field, f"{model.__name__}.{key}"
            one = jsonschema_rs.validator_for({**field, "$defs": schema["$defs"]})
            for given in (*field.get("examples", ()), *([field["default"]] if "default" in field else ())):
                if given not in ([], {}):
                    assert one.is_valid(given), f"{model.__name__}.{key}: {given}"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_samples_are_valid_by_the_schema(path: Path) -> None:
    assert wrong(read_document(path.read_text(encoding="utf-8")).value) == []


def test_the_first_definitions_are_valid_by_the_schema() -> None:
    document = read_document(example("jobs.yaml")).value
    assert wrong(document) == []
    assert len(from_data(document).jobs) == 4


@pytest.mark.parametrize(("name", "block"), blocks())
def test_every_definition_in_the_guide_is_valid(name: str, block: str) -> None:
    document = read_document(block).value
    assert wrong(document) == []
    from_data(document)


@pytest.mark.parametrize(
    "text",
    [
        "jobs: {a: {command: x, timeot: 30m}}",
        "jobs: {a: {command: x, timeout: soon}}",
        "jobs: {a: {command: x, already_running: wait}}",
        "jobs: {a: {command: x, output: {stdout: {apend: y}}}}",
        "jobs: {a: {steps: [{name: b, jobs: [c], on_success: {stp: d}}]}}",
        "jobs: {a: {steps: []}}",
        "jobs: {a: {name: without a command}}",
        "jobs: {'a b': {command: x}}",
        "job: {}",
    ],
)
def test_the_schema_refuses_invalid_definitions(text: str) -> None:
    document = read_document(text).value
    assert wrong(document) != []
    with pytest.raises(DefinitionError):
        from_data(document)


def test_the_schema_accepts_written_definitions() -> None:
    text = (ROOT / "tests/unit/definitions/samples/every_key.yaml").read_text(encoding="utf-8")
    assert wrong(read_document(dump(loads(text))).value) == []
    assert json.loads(json.dumps(document_schema())) == document_schema()


def test_code_in_the_guide_fits_into_a_terminal_of_80_columns() -> None:
    wide = [
        (topic, line)
        for topic in TOPICS
        for block in re.findall(r"```\w*\n(.*?)```", page(topic), re.DOTALL)
        for line in block.splitlines()
        if len(line) > 78
    ]
    assert wide == []


def test_each_mapping_of_a_definition_has_its_chapter() -> None:
    found = document_schema()["$defs"]
    assert {name for name, one in found.items() if "properties" in one} <= {model.__name__ for model in MODELS}
