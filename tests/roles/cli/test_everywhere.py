"""Every command works through JOBFAC_API_URL as it does at home, or says why it does not; none makes a database by
reading."""

import json
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

import pytest
from typer.core import TyperGroup

from jobfac.cli import app
from jobfac.cli.listing import Listed
from tests.support.factory import Factory
from tests.support.inprocess import InProcess


class Way(Enum):
    """How a command behaves through the API."""

    SAME = auto()  # the same JSON as at home
    WORKS = auto()  # it changes something, or its answer depends on the time
    REFUSES = auto()  # it works on the database itself
    ALONE = auto()  # it needs neither


RUN, FAILED = "1", "2"
"""A run that succeeded, and one that failed."""

TABLE: dict[str, tuple[Way, list[str]]] = {
    "up": (Way.REFUSES, []),
    "worker": (Way.REFUSES, []),
    "scheduler": (Way.REFUSES, []),
    "api": (Way.REFUSES, []),
    "apply": (Way.WORKS, ["more.yaml"]),
    "export": (Way.SAME, ["--json"]),
    "start": (Way.WORKS, ["hello"]),
    "stop": (Way.WORKS, ["--job", "hello", "--all"]),
    "retry": (Way.WORKS, [RUN]),
    "hold": (Way.WORKS, ["--job", "bad", "--reason", "why", "--until", "1h30m"]),
    "release": (Way.WORKS, ["1"]),
    "holds": (Way.SAME, ["--json"]),
    "note": (Way.WORKS, [RUN, "what was done"]),
    "ack": (Way.WORKS, [FAILED]),
    "approve": (Way.WORKS, ["1", "release"]),
    "logs": (Way.SAME, [RUN, "--json"]),
    "top": (Way.WORKS, ["--once"]),
    "doctor": (Way.WORKS, []),
    "report": (Way.SAME, ["all", "--json"]),
    "config": (Way.ALONE, []),
    "purge": (Way.WORKS, []),
    "try": (Way.ALONE, ["true"]),
    "jobs list": (Way.SAME, ["--json"]),
    "jobs show": (Way.SAME, ["hello", "--json"]),
    "jobs enable": (Way.WORKS, ["hello"]),
    "jobs disable": (Way.WORKS, ["bad"]),
    "jobs history": (Way.SAME, ["hello", "--json"]),
    "jobs diff": (Way.SAME, ["hello", "1", "1", "--json"]),
    "jobs rollback": (Way.WORKS, ["hello", "1"]),
    "jobs url": (Way.WORKS, ["hello"]),
    "jobs delete": (Way.WORKS, ["long"]),
    "runs list": (Way.SAME, ["--json"]),
    "runs show": (Way.SAME, [RUN, "--json"]),
    "workers list": (Way.SAME, ["--all", "--json"]),
    "workers drain": (Way.WORKS, ["mill"]),
    "workers undrain": (Way.WORKS, ["mill"]),
    "schedule list": (Way.SAME, ["--json"]),
    "schedule preview": (Way.SAME, ["timed", "--from", "2027-01-01", "--json"]),
    "schedule backfill": (Way.WORKS, ["timed", "--from", "2026-01-01", "--to", "2026-01-02"]),
    "schedule load": (Way.SAME, ["--json"]),
    "schedule pause": (Way.WORKS, ["timed"]),
    "schedule resume": (Way.WORKS, ["timed"]),
    "sequence simulate": (Way.SAME, ["tree", "--json"]),
    "sequence graph": (Way.SAME, ["tree"]),
    "import crontab": (Way.ALONE, ["crontab"]),
    "import agent": (Way.ALONE, ["agent.sql"]),
    "keys create": (Way.WORKS, ["--role", "viewer"]),
    "keys list": (Way.SAME, ["--json"]),
    "keys revoke": (Way.WORKS, ["2"]),
    "notify test": (Way.ALONE, ["--email", "ops@example.org"]),
    "notify list": (Way.SAME, ["--json"]),
    "notify requeue": (Way.WORKS, ["--all-dead"]),
    "db upgrade": (Way.REFUSES, []),
    "db check": (Way.REFUSES, []),
    "db script": (Way.ALONE, []),
    "db backup": (Way.REFUSES, ["copy.db"]),
    "init": (Way.ALONE, ["new"]),
    "schema": (Way.ALONE, []),
    "help": (Way.ALONE, []),
}
"""By the words of each command: how it behaves, and arguments with which it succeeds."""


AGENT = (Path(__file__).parents[2] / "unit/importers/agent/corpus/daily/script.sql").read_text(encoding="utf-8")
"""A script of SQL Server Agent."""


EXITS = {"approve": 4}
"""Commands whose answer is a refusal: no step of the run waits."""


def commands(group: TyperGroup = app, prefix: str = "") -> Iterator[str]:
    for name, listed in group.commands.items():
        command = listed.loaded if isinstance(listed, Listed) else listed
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_is_in_the_table() -> None:
    assert sorted(commands()) == sorted(TABLE)


@pytest.fixture
def far(remote: InProcess, sqlite_factory: Factory) -> InProcess:
    """A user with only the API, and a factory in which something has happened."""
    worker = sqlite_factory.worker("mill")
    sqlite_factory.json("start", "hello", "--wait")
    sqlite_factory.run("start", "bad", "--wait", code=1)
    sqlite_factory.start("hello", "--in", "1h")
    sqlite_factory.json("keys", "create", "--role", "viewer")
    (remote.folder / "more.yaml").write_text("jobs: {more: {command: [echo]}}")
    (remote.folder / "crontab").write_text("0 6 * * * true\n")
    (remote.folder / "agent.sql").write_text(AGENT)
    del remote.environment["JOBFAC_DATABASE_URL"]
    # A database that lies there by chance must not be used.
    (remote.folder / "jobfac.db").write_bytes(b"not a database")
    assert worker.poll() is None
    return remote


def test_what_is_read_is_the_same_at_home_and_over_http(far: InProcess, sqlite_factory: Factory) -> None:
    # The heartbeat, and the statistics of a moment, go on while the two are asked.
    for process in sqlite_factory.roles:
        if "worker" in process.args:
            process.terminate()
            process.wait(20)
    for command, (way, words) in TABLE.items():
        if way is not Way.SAME:
            continue
        here, there = (one.run(*command.split(), *words).stdout for one in (sqlite_factory, far))
        if command == "report":
            here, there = (json.dumps(json.loads(text)[:5]) for text in (here, there))
        assert here == there, command
        assert here.strip(), command


def test_what_changes_something_works_over_http(far: InProcess, sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"stays": {"command": ["sleep", "600"]}})
    sqlite_factory.wait(sqlite_factory.start("stays"), states={"running"})  # else the worker leaves once it is drained
    for command, (way, words) in TABLE.items():
        if way is Way.WORKS:
            done = far.run(*command.split(), *words, code=None)
            assert done.returncode == EXITS.get(command, 0), (command, done.stderr)


def test_what_needs_the_database_says_so(far: InProcess) -> None:
    for command, (way, words) in TABLE.items():
        if way is Way.REFUSES:
            told = far.run(*command.split(), *words, code=2).stderr
            assert "does not work through JOBFAC_API_URL" in told, command
            assert told.count("\n") == 1, command


def test_what_needs_neither_works_without_both(far: InProcess) -> None:
    for command, (way, words) in TABLE.items():
        if way is Way.ALONE:
            far.run(*command.split(), *words, code=1 if command == "notify test" else 0)  # there is no mail server


@pytest.mark.parametrize("command", [one for one in TABLE if one not in ("up", "db upgrade", "init")])
def test_no_command_makes_a_database(sqlite_factory: Factory, tmp_path: Path, command: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "more.yaml").write_text("jobs: {more: {command: [echo]}}")
    (empty / "crontab").write_text("0 6 * * * true\n")
    with InProcess("", empty) as alone:
        del alone.environment["JOBFAC_DATABASE_URL"]
        told = alone.run(*command.split(), *TABLE[command][1], code=None)
    assert "Traceback" not in told.stderr
    assert not list(empty.glob("*.db*")), told.stderr


def test_definitions_that_are_wrong_are_named_with_their_place(far: InProcess, sqlite_factory: Factory) -> None:
    for one in (far, sqlite_factory):
        (one.folder / "bad.yaml").write_text("jobs:\n  bad: {comand: [x]}\n")
        told = one.run("apply", "bad.yaml", code=2).stderr
        assert "bad.yaml:2" in told
        assert "did you mean 'command'?" in told
        assert told.endswith("Nothing was changed.\n")
    assert far.json("apply", "more.yaml", "--dry-run")["add"] == ["more"]
    assert sqlite_factory.run("jobs", "show", "more", code=3)


def test_a_report_page_is_written_from_afar(far: InProcess) -> None:
    far.run("report", "all", "--html", "page.html")
    assert "<html" in (far.folder / "page.html").read_text()
    assert "Jobs over time" in far.run("report", "trend").stdout
    assert "There is no job 'nope'" in far.run("report", "--job", "nope", code=3).stderr


def test_the_doctor_looks_into_the_factory_from_afar(far: InProcess) -> None:
    found = {finding["check"]: finding["state"] for finding in far.json("doctor")}
    assert {"settings", "api", "database", "schema", "workers", "queue"} <= found.keys()
    viewer = far.json("keys", "create", "--role", "viewer")["key"]
    far.environment["JOBFAC_API_KEY"] = viewer
    told = {finding["check"]: finding for finding in far.json("doctor")}
    assert told["factory"]["found"].startswith("not checked: This needs the role operator")
