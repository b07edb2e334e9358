"""The list of commands is fast, because nothing is imported for it, and it agrees with the commands."""

import re
import subprocess
import sys

import pytest
import typer
from typer.core import TyperGroup

from jobfac.cli import COMMANDS, app
from jobfac.cli.listing import Listed

HEAVY = {"sqlalchemy", "pydantic", "alembic", "starlette", "rich", "httpx", "holidays", "ruamel"}


def test_the_list_of_commands_imports_nothing_heavy_and_no_command_the_database() -> None:
    """A command may be one for another machine's API, or ask for its help only."""
    program = """
import sys
from jobfac.cli import COMMANDS, app
app.execute(["--help"])
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
print(*(name for name in COMMANDS if app.commands[name].loaded and "sqlalchemy" in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Start a job" in done.stdout
    modules, commands = done.stderr.split("\n")[:2]
    assert not HEAVY & set(modules.split())
    assert commands == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_list_agrees_with_the_command(name: str) -> None:
    listed = app.commands[name]
    assert isinstance(listed, Listed)
    assert (listed.loaded.help or "").startswith(COMMANDS[name][1].rstrip("."))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_values_in_plain_words(name: str) -> None:
    """No value is called by its type in Python, such as `<int range>`."""
    listed = app.commands[name]
    assert isinstance(listed, Listed)
    command = listed.loaded
    for below in command.commands.values() if isinstance(command, TyperGroup) else [command]:
        context = typer.Context(below, info_name=name)
        assert re.findall(r"<(?:int|str|float|list|path|file)[^>]*>", below.get_help(context)) == []


def test_a_command_is_loaded_once_in_a_process() -> None:
    """Else a process that runs many, as the tests do, would name its values again and again, each time slower."""
    listed = app.commands["try"]
    assert isinstance(listed, Listed)
    assert app.resolve_command(typer.Context(app), ["try"])[1] is listed.loaded
