"""The guide names everything that a user can use, and contains none of the old words."""

import re
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from jobfac.api.app import TABLE
from jobfac.cli import COMMANDS
from jobfac.database import sql_files
from jobfac.definitions.notify import Event
from jobfac.guide import TOPICS, page, summary

ROOT = Path(__file__).parents[3]
DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "sql/README.md",
        "tests/README.md",
        "scripts/bench/README.md",
    )
} | {topic: page(topic) for topic in TOPICS}

OLD = re.compile(
    r"\b(whoever|of itself|the dead are|shall|surroundings|goodbye|verdict|whatever else)\b", re.IGNORECASE
)


def test_every_page_is_in_the_list_of_topics() -> None:
    found = {path.name.removesuffix(".md") for path in files("jobfac.guide").iterdir() if path.name.endswith(".md")}
    assert found == set(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_begins_with_its_purpose(topic: str) -> None:
    title, empty, first = page(topic).split("\n")[:3]
    assert (title.startswith("# "), empty) == (True, "")
    assert 10 < len(summary(topic)) < 62
    assert first.startswith("You ")


def test_the_page_of_http_names_every_call() -> None:
    text = page("http")
    for call in TABLE:
        path = re.sub(r":\w+}", "}", call.path)
        if path not in ("/openapi.json", "/login"):
            line = next((line for line in text.splitlines() if f"{path}`" in line), "")
            assert call.method in line, f"{call.method} {path}"


def test_the_page_of_notifications_names_every_event() -> None:
    chapter = page("notifications").partition("## Events")[2].partition("\n## ")[0]
    assert set(get_args(Event)) <= set(re.findall(r"`(\w+)`", chapter))


def test_the_page_of_tsql_names_every_view_and_every_procedure_for_users() -> None:
    sql = "".join(sql_files.texts("mssql"))
    procedures = (ROOT / "sql" / "mssql" / "20_procedures.sql").read_text()
    views = re.findall(r"CREATE OR ALTER VIEW jobfac\.(\w+)", sql)
    granted = re.findall(r"CREATE OR ALTER PROCEDURE jobfac\.(\w+)", procedures)
    for name in (*views, *granted):
        assert name in page("tsql"), name


def test_every_view_and_every_procedure_that_a_document_names_exists_with_its_parameters() -> None:
    sql = "".join(sql_files.texts("mssql"))
    views = set(re.findall(r"CREATE OR ALTER VIEW jobfac\.(\w+)", sql))
    parameters = {
        name: set(re.findall(r"^    (@\w+)", body, re.MULTILINE))
        for name, body in re.findall(r"CREATE OR ALTER PROCEDURE jobfac\.(\w+)(.*?)^AS$", sql, re.DOTALL | re.MULTILINE)
    }
    for name, text in DOCUMENTS.items():
        assert set(re.findall(r"\b(v_\w+)", text)) <= views, name
        for procedure, rest in re.findall(r"(?:EXEC |`)jobfac\.(?!v_)(\w+)((?: @\w+[^`;@]*)*)[`;]", text):
            assert set(re.findall(r"@\w+(?= =|,|$)", rest)) <= parameters.get(procedure, set()), (name, procedure, rest)
        assert set(re.findall(r"\bEXEC jobfac\.(\w+)", text)) <= set(parameters), name


def test_every_command_that_a_document_names_exists() -> None:
    for name, text in DOCUMENTS.items():
        for command, second in re.findall(r"(?:`|\$ )jobfac ([a-z]+)\b(?:[ \n]([a-z][a-z-]*)\b)?", text):
            assert command in COMMANDS, f"{name}: jobfac {command}"
            module, _, target = COMMANDS[command][0].partition(":")
            if target == "app" and second:
                group = get_command(import_module(f"jobfac.cli.commands.{module}").app)
                assert second in group.commands, f"{name}: jobfac {command} {second}"  # type: ignore[attr-defined]


def test_the_threat_model_says_who_is_trusted_and_what_is_not_protected() -> None:
    headings = re.findall(r"^##+ (.+)$", page("security"), re.MULTILINE)
    assert {
        "Who is trusted with what", "Users of the operating system", "Roles and categories", "The network",
        "The database", "What jobfac does not protect against",
    } <= set(headings)  # fmt: skip


def test_the_guide_says_how_to_back_a_file_up() -> None:
    assert "`jobfac db backup FILE`" in page("operating")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_in_plain_words(name: str) -> None:
    assert OLD.findall(DOCUMENTS[name]) == []


def test_the_glossary_has_the_words_that_the_code_uses() -> None:
    words = set(re.findall(r"^- \*\*(\w+)\*\*: ", page("glossary"), re.MULTILINE))
    assert words >= {
        "run", "attempt", "lease", "fence", "claim", "misfire", "drain", "hold", "pool", "label", "slot", "step",
        "outcome",
    }  # fmt: skip
