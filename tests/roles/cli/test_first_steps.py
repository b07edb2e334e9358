"""`init`, `schema`, `help` and `-h`: the first commands of a new user; and the first Ctrl-C."""

import itertools
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from jobfac.cli.client.local import Local
from jobfac.database.engine import Database
from jobfac.definitions.json_schema import document_schema
from jobfac.errors import Unreachable
from jobfac.guide import TOPICS, page
from jobfac.operations import starting
from jobfac.operations.bulk import backfill
from jobfac.operations.caller import transact
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.store.history import search
from jobfac.views.runs import RunView
from tests.roles.guide.shell import shell
from tests.support.factory import Factory, wait_for
from tests.support.terminal import environment


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are typed into bash")
def test_the_commands_that_init_prints_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with shell(tmp_path, JOBFAC_API_PORT=port) as bash:
        made = bash.type("jobfac init 'my factory'")
        assert made.returncode == 0, made.stdout
        commands = [line.strip() for line in made.stdout.partition("Next:\n")[2].splitlines()]
        assert commands == ["cd 'my factory'", "jobfac db upgrade", "jobfac apply jobs.yaml", "jobfac up"]
        *before, up = commands
        lines = [
            *before,
            f"{up} 2>up.log &",
            "jobfac start morning --wait",
            "jobfac runs list --json >../runs",
            "kill %1",
        ]
        done = bash.type("\n".join(["set -e", *lines, "wait"]))
    assert done.returncode == 0, done.stdout
    runs = json.loads((tmp_path / "runs").read_text())
    assert sorted((run["job"], run["state"]) for run in runs) == [
        ("disk-space", "succeeded"), ("hello", "succeeded"), ("morning", "succeeded"), ("summary", "succeeded"),
    ]  # fmt: skip


def test_init_overwrites_nothing(sqlite_factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "jobfac.toml").write_text("")
    refused = sqlite_factory.run("init", str(tmp_path), code=4)
    assert refused.stderr == f"{tmp_path / 'jobfac.toml'} already exists; name another folder, or move the file.\n"
    assert not (tmp_path / "jobs.yaml").exists()


def test_init_says_why_it_cannot_write_and_leaves_no_part(sqlite_factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = sqlite_factory.run("init", str(tmp_path / "file"), code=4)
    assert refused.stderr == f"{tmp_path / 'file'} cannot be written: File exists; name another folder.\n"


def test_the_first_file_names_the_schema_beside_it(sqlite_factory: Factory, tmp_path: Path) -> None:
    sqlite_factory.run("init", str(tmp_path / "new"))
    first = (tmp_path / "new" / "jobs.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=jobfac.schema.json"
    assert json.loads((tmp_path / "new" / "jobfac.schema.json").read_text()) == document_schema()
    assert json.loads(sqlite_factory.run("schema").stdout) == document_schema()


def test_help_lists_the_topics_with_a_line_each(sqlite_factory: Factory) -> None:
    lines = sqlite_factory.run("help").stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(TOPICS)]] == list(TOPICS)
    assert all(len(line) <= 79 for line in lines)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_unchanged_in_a_pipe(sqlite_factory: Factory, topic: str) -> None:
    text = sqlite_factory.run("help", topic).stdout
    assert text == page(topic)
    assert text.startswith(f"# {text[2:].partition(':')[0]}: ")
    assert text.partition(":")[0].removeprefix("# ").replace(" ", "").lower() == {"tsql": "t-sql"}.get(topic, topic)


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("shedules", "There is no help topic 'shedules'; did you mean 'schedules'? `jobfac help` lists the topics.\n"),
        ("zzz", "There is no help topic 'zzz'; `jobfac help` lists the topics.\n"),
        ("start", "There is no help topic 'start'; `jobfac start --help` shows how the command is used.\n"),
    ],
)
def test_an_unknown_topic_is_reported_in_a_sentence(sqlite_factory: Factory, topic: str, sentence: str) -> None:
    assert sqlite_factory.run("help", topic, code=3).stderr == sentence


def test_on_a_terminal_a_page_is_rendered() -> None:
    reader, writer = pty.openpty()
    words = ["jobfac", "help", "glossary"]
    with subprocess.Popen(words, stdout=writer, env=environment(TERM="xterm", COLUMNS="80")) as process:
        os.close(writer)
        drawn = b""
        while piece := _read(reader):
            drawn += piece
        assert process.wait() == 0
    assert b"\x1b[" in drawn
    assert b"**" not in drawn


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize("words", [(), ("start",), ("runs", "list")])
def test_h_is_help(sqlite_factory: Factory, words: tuple[str, ...]) -> None:
    assert sqlite_factory.run(*words, "-h").stdout == sqlite_factory.run(*words, "--help").stdout


def test_h_after_try_belongs_to_the_program(sqlite_factory: Factory) -> None:
    assert sqlite_factory.run("try", "echo", "-h").stdout == "-h\n"


def test_ctrl_c_while_waiting_says_that_the_run_continues(sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"waits": {"command": ["true"]}})
    process = sqlite_factory.role("start", "waits", "--wait")
    log = sqlite_factory.folder / "start-0.log"
    wait_for(lambda: "1\n" in log.read_text(), "the run was started")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert log.read_text() == "1\nInterrupted; run 1 continues; `jobfac stop 1` stops it.\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--wait", "--json"], "Run 1 was started and continues; `jobfac runs show 1` shows how it ends."),
        (["--follow"], "Run 1 was started and continues; `jobfac runs show 1` shows how it ends."),
        (["--wait", "--count", "2"], "2 runs were started (1 to 2) and continue; `jobfac runs list` shows them."),
    ],
)
def test_who_waits_is_told_that_the_run_continues_when_the_database_goes_away(
    sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    """With --json and --follow the id stands nowhere else, and without it a caller starts the job again."""

    def gone(*_: object) -> None:
        raise Unreachable("The database cannot be reached.")

    sqlite_factory.apply({"waits": {"command": ["true"]}})
    monkeypatch.setattr(Local, "wait", gone)
    assert sqlite_factory.run("start", "waits", *options, code=5).stderr == f"The database cannot be reached. {says}\n"


def test_who_waits_for_many_is_told_how_many_failed(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Local.wait

    def failed(self: Local, run: int, _: float) -> RunView:
        return work(self, run, 0)._replace(state=RunState.FAILED, reason="exit code 3")

    sqlite_factory.apply({"many": {"command": ["true"]}})
    monkeypatch.setattr(Local, "wait", failed)
    said = sqlite_factory.run("start", "many", "--count", "13", "--wait", code=1).stderr.splitlines()
    assert said[9:] == [
        "Run 10 of job 'many' ended failed: exit code 3.",
        "And 3 more of these 13 runs did not succeed.",
    ]


def test_who_starts_many_is_told_their_ids_when_the_database_goes_away(
    sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise Unreachable("The database cannot be reached.")

    sqlite_factory.apply({"many": {"command": ["true"]}})
    monkeypatch.setattr(runs, "snapshots", gone)
    said = sqlite_factory.run("start", "many", "--count", "2", code=5).stderr
    assert said == "The database cannot be reached. 2 runs were started: 1 to 2.\n"
    with Database(sqlite_factory.url).read() as conn:
        assert len(search.find_all(conn)) == 2


def test_who_interrupts_a_start_of_many_is_told_the_key_that_starts_the_others(
    sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise who repeats the command starts the first ones twice."""
    sqlite_factory.apply({"many": {"command": ["true"]}})
    monkeypatch.setattr(starting, "TOGETHER", 1)
    monkeypatch.setattr(starting, "time", Mock(sleep=Mock(side_effect=[None, KeyboardInterrupt])))
    said = sqlite_factory.run("start", "many", "--count", "3", "--key", "k", code=130).stderr
    assert said == (
        "Interrupted: 2 of 3 runs were started for certain; the key 'k' with the same count starts the others.\n"
    )
    monkeypatch.undo()
    assert sqlite_factory.run("start", "many", "--count", "3", "--key", "k").stdout == "1\n2\n3\n"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Unreachable("It is away."), 5, "It is away. 1 of 2 runs were started; the same request starts the others."),
        (
            KeyboardInterrupt(),
            130,
            "Interrupted: 1 of 2 runs were started for certain; the same command starts the others.",
        ),
    ],
)
def test_who_backfills_is_told_what_was_done_before_it_was_stopped(
    sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    """In the second page: of the first one, only the table tells."""
    rule = {"cron": "0 6 * * *", "timezone": "UTC"}
    sqlite_factory.apply({"load": {"command": ["true"], "schedules": [rule]}})
    words = ("schedule", "backfill", "load", "--from", "2026-03-02", "--to", "2026-03-05")
    calls = itertools.count(1)

    def stops(*arguments: Any) -> Any:
        if next(calls) == 4:
            raise error
        return transact(*arguments)

    monkeypatch.setattr(backfill, "MOST", 2)
    monkeypatch.setattr(backfill, "TOGETHER", 1)
    monkeypatch.setattr(backfill, "transact", stops)
    done = sqlite_factory.run(*words, code=code)
    told = "2 runs started, 0 due times have a run. Then it was stopped; the same command starts the others."
    assert done.stderr.splitlines() == [told, says]
    assert [line.split()[-2:] for line in done.stdout.splitlines()[1:]] == [["started", "1"], ["started", "2"]]
    monkeypatch.undo()
    assert sqlite_factory.run(*words).stderr.startswith("1 runs started, 3 due times have a run.")
