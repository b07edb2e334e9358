"""The guide's commands, executed exactly, each page in its own folder; and every command that it names is parsed."""

import re
import shlex
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from typer import TyperException

from jobfac.cli import app
from jobfac.cli.listing import Group, UsageHelp
from jobfac.guide import TOPICS, page, summary
from tests.roles.guide.pages import RUN, blocks, prepare, runs_here, script
from tests.roles.guide.shell import shell
from tests.roles.guide.stages import NOT_HERE, STAGES
from tests.support.receivers import mailbox


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are typed into bash")
@pytest.mark.parametrize("topic", STAGES)
def test_the_commands_of_a_page_work(topic: str, tmp_path: Path, sqlite_template: Path) -> None:
    stage = STAGES[topic]
    shutil.copy(sqlite_template, tmp_path / "jobfac.db")
    prepare(stage, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with mailbox() as box, shell(tmp_path, JOBFAC_API_PORT=port, JOBFAC_DRAIN_LIMIT="0", **box.settings) as bash:
        for name, text in stage.programs.items():
            bash.program(name, text)
        done = bash.type(script(topic, stage).replace("8420", port))
    assert done.returncode == 0, done.stdout
    assert "urn:jobfac:problem" not in done.stdout, done.stdout
    for part in stage.prints:
        assert part in done.stdout, f"{part!r} is not in\n{done.stdout}"


def test_every_block_of_commands_runs_or_says_why_not() -> None:
    known = RUN | {"sql", "text"}
    for topic in TOPICS:
        assert {block.kind for block in blocks(topic)} <= known, topic
        assert bool(runs_here(topic)) == (topic in STAGES), topic
        for block in blocks(topic):
            assert block.kind != "text" or not re.search(r"^(\$|jobfac) ", block.text, re.MULTILINE), block.text
            assert block.kind != "console" or block.text.startswith("$ "), block.text
    there = {(topic, block.first) for topic in TOPICS for block in blocks(topic)}
    assert set(NOT_HERE) <= there, "these blocks are in no page"
    for reason in NOT_HERE.values():
        for path in re.findall(r"(?:tests|scripts)/[\w/.]+", reason):
            assert (Path(__file__).parents[3] / path).exists(), path


def unknown(words: list[str]) -> str | None:
    """The sentence about a command or an option that does not exist. The command is parsed, not executed."""
    command: Any = app
    context = app.make_context("jobfac", list(words))
    try:
        while isinstance(command, Group):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, rest, parent=context)
    except (TyperException, UsageHelp) as error:  # a value may be missing in a sentence, or be a placeholder
        return str(error) if "No such" in str(error) else None
    return None


@pytest.mark.parametrize("topic", TOPICS)
def test_every_command_in_a_sentence_exists_with_its_options(topic: str) -> None:
    for words in re.findall(r"`jobfac\s([^`]+)`", page(topic)):
        assert unknown(shlex.split(re.sub(r"[][]|\.\.\.", "", words))) is None, words


def test_an_unknown_command_or_option_is_found() -> None:
    assert unknown(["runs", "lst"])
    assert unknown(["runs", "list", "--stat", "failed"])
    assert unknown(["strat", "hello"])


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_begins_with_a_task(topic: str) -> None:
    """The first word of the title is what the reader wants to do."""
    assert summary(topic).partition(" ")[0].strip(":,") in {
        "describe", "find", "get", "give", "hold", "know", "look", "move", "put", "read", "report", "run", "say", "see",
        "start",
    }  # fmt: skip
