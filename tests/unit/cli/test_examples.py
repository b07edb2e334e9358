"""Every command has examples in its help, and each example is a command line that jobfac understands."""

import re
import shlex

import pytest
from typer.core import TyperCommand, TyperGroup

from jobfac.cli import app
from jobfac.cli.examples import EXAMPLES
from scripts.manpage import commands

COMMANDS: dict[str, TyperCommand] = dict(commands())


def test_every_command_has_one_to_three_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    assert {len(lines) for lines in EXAMPLES.values()} <= {1, 2, 3}


@pytest.mark.parametrize("words", sorted(EXAMPLES))
def test_an_example_is_understood_and_shown(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    app.execute([*words.split(), "--help"])
    shown = capsys.readouterr().out
    for line in EXAMPLES[words]:
        assert f"\n    {line}\n" in shown
        assert len(line) <= 76
        mine = next(part for part in line.split(" | ") if part.startswith("jobfac "))
        typed = shlex.split(re.split(r" [<>] ", mine)[0])[1:]
        assert typed[: len(words.split())] == words.split()
        with COMMANDS[words].make_context(words, typed[len(words.split()) :]):
            pass


def test_no_summary_is_cut_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    groups = sorted({words.split()[0] for words in COMMANDS if " " in words})
    for words in ([], *([name] for name in groups)):
        app.execute([*words, "--help"])
        shown = capsys.readouterr().out
        assert "..." not in shown.partition("\nCommands:")[2], shown
        assert max(map(len, shown.splitlines())) <= 80


def test_groups_have_no_command_without_help() -> None:
    assert all(command.help for command in COMMANDS.values())
    assert not any(isinstance(command, TyperGroup) for command in COMMANDS.values())
