"""The command line: its output, its JSON, its exit codes, and one sentence for every error."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.roles.guide.shell import shell
from tests.support.factory import Factory

RUN_KEYS = [
    "id", "job", "state", "attempt", "priority", "arguments", "payload", "created_at", "started_at", "ended_at",
    "worker", "exit_code", "signal", "reason", "progress", "message", "exit_message", "sequence_run_id",
    "schedule_id", "due_at",
]  # fmt: skip


def test_a_run_from_definition_to_outcome(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"hello": {"command": ["echo", "hello"]}, "bad": {"command": ["sh", "-c", "echo no >&2; exit 3"]}})
    factory.worker()
    done = factory.json("start", "hello", "--wait")
    assert list(done)[: len(RUN_KEYS)] == RUN_KEYS
    assert (done["state"], done["exit_code"], done["worker"]) == ("succeeded", 0, "w1")
    assert done["ended_at"].endswith("+00:00")
    assert factory.logs(done["id"]) == "hello\n"
    failed = factory.run("start", "bad", "--wait", code=1)
    assert failed.stderr == f"Run {failed.stdout.strip()} of job 'bad' ended failed: exit code 3.\n"
    followed = factory.run("start", "bad", "--follow", code=1)
    assert followed.stderr.startswith("no\n")
    assert factory.json("logs", "2", "--stream", "stderr") == {"run": 2, "attempt": 1, "stderr": "no\n"}
    listed = factory.json("runs", "list", "--job", "bad", "--state", "failed", "--since", "1h", "--limit", "1")
    assert [run["id"] for run in listed] == [3]
    shown = factory.show(1)
    assert [event["event"] for event in shown["events"]] == ["queued", "running", "succeeded"]
    assert len(factory.json("start", "hello", "--count", "3")) == 3
    again = int(factory.run("retry", "2").stdout)
    assert factory.wait(again)["retry_of"] == 2


def test_texts_of_a_program_are_shown_without_escape_sequences(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    script = r"""
    printf '%s' '{"exit_message": "2027-01-31T22:00:00 step 3", "message": "\u001b[2J2027-01-31T22:00:00"}' \
    >>"$JOBFAC_REPORT"
    """
    factory.apply({"odd": {"command": ["sh", "-c", script]}})
    factory.worker()
    done = factory.json("start", "odd", "--payload", "2027-01-31T22:00:00+00:00", "--wait")
    shown = factory.run("runs", "show", str(done["id"])).stdout
    fields = dict(line.split(maxsplit=1) for line in shown.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert fields["payload"] == "2027-01-31T22:00:00+00:00"
    assert fields["exit_message"] == "2027-01-31T22:00:00 step 3"
    assert fields["message"] == "[2J2027-01-31T22:00:00"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", fields["created_at"])
    assert "\x1b" not in shown
    assert "2027-01-31T22:00:00 step 3" in factory.run("runs", "list").stdout


def test_plans_prune_and_export(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    (factory.folder / "a.yaml").write_text("jobs: {one: {command: [echo, on]}, two: {command: 'sleep 1', priority: 5}}")
    first = factory.run("apply", "a.yaml", "--dry-run")
    assert first.stdout.splitlines() == [
        "+ one",
        "+ two",
        "2 to add, 0 to change, 0 to remove, 0 unchanged; nothing was changed",
    ]
    assert factory.json("jobs", "list") == []
    factory.run("apply", "a.yaml")
    (factory.folder / "b.yaml").write_text("jobs: {two: {command: 'sleep 1', priority: 7, retry: {attempts: 2}}}")
    second = factory.json("apply", "b.yaml", "--prune")
    assert second["change"] == {
        "two": [
            {"path": "priority", "before": 5, "after": 7},
            {"path": "retry", "before": None, "after": {"attempts": 2}},
        ]
    }
    assert (second["add"], second["remove"], second["same"]) == ([], ["one"], [])
    factory.run("start", "two", "--in", "1h")
    assert "One run of it waits and will start; `jobfac stop --job two" in factory.run("jobs", "disable", "two").stderr
    exported = factory.run("export").stdout
    assert "enabled: false" in exported
    (factory.folder / "c.yaml").write_text(exported)
    assert factory.json("apply", "c.yaml")["same"] == ["two"]
    assert factory.json("jobs", "show", "two")["version"] == 2


def test_invalid_definitions_change_nothing_and_are_all_named(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    (factory.folder / "bad.yaml").write_text(
        "jobs:\n  good: {command: [echo]}\n  bad: {comand: [x], timeout: soon}\n  worse: {command: [x], pool: 'a b'}\n"
    )
    done = factory.run("apply", "bad.yaml", code=2)
    assert "did you mean 'command'?" in done.stderr
    assert "bad.yaml" in done.stderr
    assert "timeout" in done.stderr
    assert "worse" in done.stderr
    assert done.stderr.endswith("Nothing was changed.\n")
    assert factory.json("jobs", "list") == []


MISTAKES: dict[tuple[str, ...], int] = {
    ("start", "nope"): 3,
    ("start", "off"): 4,
    ("start", "timed"): 4,
    ("start", "fixed", "--argument", "x"): 4,
    ("start", "alone"): 4,
    ("start", "alone", "--in", "soon"): 2,
    ("start", "alone", "--in", "1m", "--at", "2030-01-01"): 2,
    ("start", "alone", "--at", "tomorrow"): 2,
    ("start",): 2,
    ("starts",): 2,
    ("runs", "show", "99"): 3,
    ("runs", "list", "--state", "asleep"): 2,
    ("logs", "99"): 3,
    ("stop", "99"): 3,
    ("retry", "1"): 4,
    ("jobs", "show", "nope"): 3,
    ("jobs", "enable", "nope"): 3,
    ("workers", "drain", "99"): 3,
    ("apply", "missing.yaml"): 2,
    ("start", "alone", "--key", ""): 2,
    ("worker", "--name", "n" * 201): 2,
    ("worker", "--name", "a\nb"): 2,
    ("worker", "--label", "zone"): 2,
    ("worker", "--label", "=a"): 2,
    ("keys", "create", "--role", "viewer", "--expires", "0"): 2,
    ("schedule", "pause", "nope"): 3,
    ("worker", "--pool", "a b"): 2,
    ("runs", "show", "99999999999999999999"): 2,
    ("start", "alone", "--count", "many"): 2,
    ("start", "alone", "--notify", "failed"): 2,
    ("start", "alone", "--at", "9999-12-31T23:59:59-12:00"): 2,
    ("runs", "list", "--since", "9999-12-31T23:59:59-12:00"): 2,
    ("start", "alone", "--payload", "a\udcff"): 2,
    ("start", "alone", "--argument", "a\udcff"): 2,
    ("start", "alone", "--arguments-of", 'alone=["x"]'): 2,
    ("start", "both", "--argument", "x"): 2,
    ("start", "both", "--payload", "x"): 2,
    ("start", "both", "--arguments-of", 'other=["x"]'): 2,
    ("start", "both", "--arguments-of", "alone=" + 5000 * "["): 2,
    ("start", "both", "--payload-of", "other=x"): 2,
    ("jobs", "delete", "alone"): 4,
}
"""Commands with their exit codes, while the run of `alone` waits."""


def test_every_error_is_one_sentence_and_an_exit_code(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply(
        {
            "off": {"command": ["echo"], "enabled": False},
            "timed": {"command": ["echo"], "on_demand": False},
            "fixed": {"command": ["echo"], "replace_arguments": False},
            "alone": {"command": ["echo"], "already_running": "deny"},
            "both": {"steps": [{"name": "one", "jobs": ["alone", "timed"]}]},
        }
    )
    factory.start("alone")
    for words, code in MISTAKES.items():
        done = factory.run(*words, code=code)
        assert done.stderr.strip(), words
        assert "Traceback" not in done.stderr, words
        assert "\n" not in done.stderr.strip() or words[0] == "apply", (words, done.stderr)


def test_with_json_standard_output_is_one_document(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply(
        {
            "hello": {"command": ["sh", "-c", "echo hello; echo to you >&2"]},
            "alone": {"command": ["sleep", "60"], "already_running": "deny"},
        }
    )
    factory.worker()
    followed = factory.run("start", "hello", "--follow", "--json")
    assert json.loads(followed.stdout)["state"] == "succeeded"
    assert sorted(followed.stderr.splitlines()) == ["hello", "to you"]
    assert factory.json("logs", "1", "-f")["stdout"] == "hello\n"
    factory.start("alone")
    for words in (("start", "alone"), ("start", "alone", "--wait"), ("start", "alone", "--follow")):
        assert factory.json(*words, code=4)["state"] == "denied", words
    assert factory.json("retry", "3", code=4)["state"] == "denied"
    listed = factory.json("start", "alone", "--count", "2", code=4)
    assert [run["state"] for run in listed] == ["denied", "denied"]


@contextmanager
def followed(factory: Factory, *words: str) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """The output of `logs -f` for a program that prints `first`, and a function that makes it continue to `last`.

    At the end the command has exited normally.
    """
    factory.apply({"slow": {"command": ["sh", "-c", "echo first; read x < fifo; echo last"], "directory": "."}})
    subprocess.run(["mkfifo", "fifo"], cwd=factory.folder, check=True)
    factory.worker()
    run = factory.start("slow")

    def continue_program() -> None:
        factory.wait(run, states={"running"})
        (factory.folder / "fifo").write_text("go\n")

    with shell(factory.folder) as bash, bash.begin(factory, "logs", str(run), "-f", *words) as process:
        assert process.stdout is not None
        yield process.stdout, continue_program
        assert process.wait(10) == 0


def test_logs_with_json_and_follow_wait_for_the_end(sqlite_factory: Factory) -> None:
    with followed(sqlite_factory, "--json") as (out, continue_program):
        continue_program()
        assert json.loads(out.read())["stdout"] == "first\nlast\n"


COMMANDS = """
import sys
from jobfac.cli import main
for words in ["jobs list", "jobs show far --json", "export", "doctor"]:
    sys.argv = ["jobfac", *words.split()]
    try:
        main()
    except SystemExit:
        print(flush=True)
    print(f"END OF {words}", flush=True)
"""


def test_output_suits_the_encoding_of_the_terminal(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    body = {"name": "Köln 東京", "command": ["echo", "Köln"]}
    factory.apply({"far": body})
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        env={**factory.environment, "PYTHONIOENCODING": "ascii"},
        cwd=factory.folder,
        capture_output=True,
    )
    jobs, shown, exported, doctor = re.split(r"\n?END OF .*\n", done.stdout.decode())[:4]
    assert "K\\xf6ln" in jobs
    assert json.loads(shown)["definition"]["name"] == "Köln 東京"
    assert exported == f"jobs:\n  far:\n    name: {body['name']}\n    command: [echo, Köln]\n"
    assert doctor.startswith("\\u2714")
    bad = [sys.executable, "-m", "jobfac", "start", "far", "--payload", "-"]
    done = subprocess.run(
        bad,
        env={**factory.environment, "PYTHONIOENCODING": "utf-8"},
        cwd=factory.folder,
        input=b"a\xff",
        capture_output=True,
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("closed", ["<&- 2>&-", ">&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(sqlite_factory: Factory, closed: str) -> None:
    factory = sqlite_factory
    factory.apply({"hello": {"command": ["echo", "hello"]}})
    line = f'"{sys.executable}" -m jobfac start hello --payload - --json {closed}'
    done = subprocess.run(line, shell=True, env=factory.environment, cwd=factory.folder, input=b"", capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert factory.show(1)["payload"] == ""


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/folder/x.db", "mysql://x", "nonsense", "mssql+pyodbc://u:p@127.0.0.1:1/x?timeout=1"]
)
def test_an_unreachable_database_is_exit_code_5(sqlite_factory: Factory, url: str) -> None:
    sqlite_factory.environment["JOBFAC_DATABASE_URL"] = url
    done = sqlite_factory.run("db", "check", code=5)
    assert "Traceback" not in done.stderr
    assert "JOBFAC_DATABASE_URL" in done.stderr or "driver" in done.stderr


def test_an_unreadable_database_fails_at_once(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    said = sqlite_factory.run("runs", "list", code=5).stderr
    assert re.search(r"cannot be reached: \S+ may not read /\S+/jobfac.db; allow it.$", said)


def test_a_file_that_is_no_database_is_exit_code_5(sqlite_factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "jobfac.db").write_bytes(b"no database at all" * 1000)
    for words in (("runs", "list"), ("start", "x"), ("purge",), ("top", "--once"), ("db", "upgrade"), ("worker",)):
        said = sqlite_factory.run(*words, code=5).stderr
        assert "file is not a database" in said, words
        assert said.count("\n") == 1, words
    sqlite_factory.environment["JOBFAC_DATABASE_URL"] = f"sqlite:///{tmp_path}/{'x' * 300}.db"
    assert "Traceback" not in sqlite_factory.run("runs", "list", code=5).stderr
    sqlite_factory.environment["JOBFAC_DATABASE_URL"] = f"sqlite:///{tmp_path}"
    assert f"{tmp_path} is a folder" in sqlite_factory.run("runs", "list", code=5).stderr


def test_a_missing_schema_is_reported_with_the_remedy(sqlite_factory: Factory, tmp_path: Path) -> None:
    sqlite_factory.environment["JOBFAC_DATABASE_URL"] = f"sqlite:///{tmp_path / 'new.db'}"
    for words in (("jobs", "list"), ("worker",), ("scheduler",), ("api",)):
        assert "jobfac db upgrade" in sqlite_factory.run(*words, code=5).stderr, words


def test_a_part_that_the_schema_lacks_is_named(sqlite_factory: Factory, tmp_path: Path) -> None:
    assert sqlite_factory.json("db", "check")["missing"] == []
    with sqlite3.connect(tmp_path / "jobfac.db") as conn:
        conn.execute("DROP INDEX ix_run_start_key")
    said = sqlite_factory.run("db", "check", code=5).stderr
    assert "A part of the database's schema is missing (the index ix_run_start_key); restore it from a backup" in said
    found = json.loads(sqlite_factory.run("db", "check", "--json", code=5).stdout)
    assert (found["current"], found["missing"]) == (False, ["the index ix_run_start_key"])


def test_keys_make_a_start_repeatable(sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"hello": {"command": ["echo", "hello"]}})
    first = sqlite_factory.start("hello", "--key", "monday")
    assert sqlite_factory.start("hello", "--key", "monday") == first
    assert sqlite_factory.start("hello", "--key", "tuesday") != first


def test_logs_follow_a_running_program(sqlite_factory: Factory) -> None:
    with followed(sqlite_factory) as (out, continue_program):
        assert out.readline() == b"first\n"
        continue_program()
        assert out.read() == b"last\n"


def test_settings_are_shown_with_their_sources(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    (factory.folder / "jobfac.toml").write_text(
        'drain_limit = 7\napi_key = "s3cret"\npublic_url = "https://me:s3cret@jobs"\n'
    )
    rows = {row["name"]: row for row in factory.json("config")}
    assert (rows["drain_limit"]["value"], rows["drain_limit"]["origin"]) == (7.0, "jobfac.toml")
    assert rows["lease"]["origin"] == "JOBFAC_LEASE"
    assert rows["api_port"]["origin"] == "default"
    assert "s3cret" not in json.dumps(rows)
    (factory.folder / "jobfac.toml").write_text("drain_limt = 7\n")
    assert "drain_limt" in factory.run("config", code=2).stderr


def test_a_full_disk_of_the_output_is_reported_in_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "jobfac", "--version"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"There is no room for the output: the disk is full.\n")
