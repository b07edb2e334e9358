"""The command line through the API: the same commands, the same documents, the same exit codes."""

import itertools
import json
import re
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.cli.client.remote import Remote
from jobfac.cli.commands import workers as command
from jobfac.database.engine import Database
from jobfac.views.runs import RunView
from tests.support.factory import Factory
from tests.support.inprocess import InProcess


def test_runs_are_started_followed_and_shown(
    remote: InProcess, sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_factory.worker()
    assert remote.json("start", "hello", "--wait")["created_by"] == "ann"
    done = remote.run("start", "hello", "--follow")
    assert (done.stdout, done.stderr) == ("hello\n", "\udcff")
    assert len(remote.json("start", "hello", "--count", "3", "--priority", "7")) == 3
    remote.run("start", "bad", "--wait", code=1)
    tree = remote.json("start", "tree", "--wait")["id"]
    assert remote.logs(2) == "hello\n"
    logs = remote.run("logs", str(tree))
    assert (logs.stdout, logs.stderr.startswith(f"Run {tree} is a sequence; ")) == ("", True)
    for words in (
        ["runs", "list", "--job", "hello", "--state", "succeeded", "--limit", "3"],
        ["runs", "show", str(tree)],
        ["logs", "2"],
        ["jobs", "list"],
        ["export"],
    ):
        assert remote.json(*words) == sqlite_factory.json(*words), words
    assert [worker["name"] for worker in remote.json("workers", "list")] == ["w1"]
    monkeypatch.setattr(command, "MOST", 1)
    assert "a list contains no more, so older ones may be missing" in remote.run("workers", "list").stderr


def test_runs_are_stopped_and_retried(remote: InProcess, sqlite_factory: Factory) -> None:
    run = remote.start("long", "--in", "1h")
    assert remote.json("stop", str(run))["state"] == "stopped"
    again = remote.json("retry", str(run))
    assert again["retry_of"] == run
    assert remote.json("start", "long", code=4)["state"] == "denied"
    sqlite_factory.apply({"pin": {"command": ["true"], "parameters": {"pin": {"sensitive": True}}}})
    secret = remote.start("pin", "--set", "pin=geheim", "--in", "1h")
    assert remote.json("stop", str(secret))["parameters"] == {"pin": "***"}, "as over the database: scripts log it"
    assert remote.json("runs", "show", str(secret))["parameters"] == {"pin": "geheim"}
    worker = sqlite_factory.worker()
    assert remote.json("stop", str(again["id"]), "--now")["state"] == "stopped"
    assert remote.json("start", "hello", "--key", "k")["id"] == remote.json("start", "hello", "--key", "k")["id"]
    remote.run("workers", "drain", "1")
    assert worker.wait(30) == 0


def test_several_runs_with_a_key_are_the_same_in_the_database_and_over_http(
    remote: InProcess, sqlite_factory: Factory
) -> None:
    """A repetition by the other way started them all again, and one that differs was taken for the same."""
    words = ("start", "hello", "--count", "2", "--key", "k")
    first = [one["id"] for one in remote.json(*words)]
    assert [one["id"] for one in sqlite_factory.json(*words)] == first
    for way in (remote, sqlite_factory):
        said = way.run(*words, "--payload", "other", code=2).stderr
        assert f"the key 'k' was used for run {first[0]}, which differs in payload" in said


def test_several_starts_that_end_halfway_say_how_many_there_are(
    remote: InProcess, sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Remote._start, itertools.count(1)

    def start(self: Remote, *given: Any) -> list[RunView]:
        if next(calls) == 3:
            sqlite_factory.run("jobs", "disable", "hello")
        return real(self, *given)

    monkeypatch.setattr(Remote, "_start", start)
    said = remote.run("start", "hello", "--count", "4", code=4).stderr
    (key,) = re.findall(r"2 of 4 runs were started; the key '(\w+)' with the same count starts the others\.", said)
    sqlite_factory.run("jobs", "enable", "hello")
    assert len(remote.json("start", "hello", "--count", "4", "--key", key)) == 4
    assert len(sqlite_factory.json("runs", "list")) == 4


def test_a_start_may_name_recipients(remote: InProcess, sqlite_factory: Factory) -> None:
    for way in (remote, sqlite_factory):
        run = way.start("long", "--in", "1h", "--notify", "failed,lost=email:ops@example.org")
        assert way.run("stop", str(run)).stdout
    db = Database(sqlite_factory.url)
    with db.read() as conn:
        rows = conn.execute(sa.text("SELECT overrides, notify FROM run ORDER BY id")).all()
    db.close()
    assert rows[0] == rows[1]
    assert json.loads(rows[0].overrides)["notify"] == [{"on": ["failed", "lost"], "to": {"email": ["ops@example.org"]}}]
    for wrong in ("failed", "failed=ops@example.org", "lst=email:ops@example.org", "failed=webhook:ops"):
        errors = remote.run("start", "long", "--notify", wrong, code=2).stderr
        assert errors.startswith("--notify ")
        assert errors.count("\n") == 1


def test_schedules_are_listed_paused_and_resumed(remote: InProcess, sqlite_factory: Factory) -> None:
    for words in (
        ["schedule", "list"],
        ["schedule", "list", "timed"],
        ["schedule", "preview", "timed", "--count", "3", "--from", "2027-01-01T00:00:00+00:00"],
        ["schedule", "preview", "timed", "--from", "2027-01-01T00:00:00+00:00", "--explain"],
    ):
        assert remote.json(*words) == sqlite_factory.json(*words), words
    assert remote.run("schedule", "pause", "timed", "late").stdout == "schedule 'late' of job 'timed' is paused\n"
    assert len(remote.run("schedule", "pause", "timed").stdout.splitlines()) == 1
    assert [one["paused"] for one in sqlite_factory.json("schedule", "list")] == [True, True]
    remote.run("hold", "--job", "timed", "--reason", "why")
    resumed = remote.run("schedule", "resume", "timed")
    assert len(resumed.stdout.splitlines()) == 2
    assert "schedule 'late' starts nothing yet: hold 1 of job timed: why\n" in resumed.stderr
    assert "Nothing changed" in remote.run("schedule", "resume", "timed").stderr
    for words in (
        ["schedule", "pause", "timed", "none"],
        ["schedule", "pause", "hello"],
        ["schedule", "pause", "none"],
        ["schedule", "preview", "none"],
    ):
        assert remote.run(*words, code=3).stderr == sqlite_factory.run(*words, code=3).stderr


def test_jobs_are_enabled_disabled_and_deleted_and_errors_have_exit_codes(remote: InProcess) -> None:
    remote.run("jobs", "disable", "hello")
    remote.run("start", "hello", code=4)
    remote.run("jobs", "enable", "hello")
    remote.run("start", "hello")
    remote.run("jobs", "delete", "bad")
    remote.run("jobs", "show", "bad", code=3)
    assert "no job 'none'" in remote.run("start", "none", code=3).stderr
    remote.run("start", "no such/job", code=3)
    remote.run("runs", "show", "999", code=3)
    for key in ("mon day", "ö", "k" * 201):
        assert remote.run("start", "hello", "--key", key, code=2).stderr.startswith("--key must be at most 200 ")
    remote.environment["JOBFAC_API_KEY"] = "jf_schlüssel"
    assert remote.run("jobs", "list", code=2).stderr.startswith("JOBFAC_API_KEY is not a key ")
    remote.environment["JOBFAC_API_KEY"] = "jf_000000000000_wrong"
    assert "unknown, revoked or expired" in remote.run("jobs", "list", code=4).stderr
    remote.environment["JOBFAC_API_KEY"] = ""
    assert "JOBFAC_API_KEY" in remote.run("jobs", "list", code=2).stderr


def test_holds_notes_and_versions_go_through_the_api(remote: InProcess, sqlite_factory: Factory) -> None:
    sqlite_factory.worker()
    placed = remote.json("hold", "--job", "hello", "--reason", "why", "--until", "2h")
    assert (placed["created_by"], remote.json("holds", "--limit", "1")) == ("ann", [placed])
    held = remote.json("start", "hello")
    assert held["held"] == f"hold {placed['id']} of job hello: why"
    remote.run("release", str(placed["id"]))
    assert [one["id"] for one in remote.json("holds", "--all")] == [placed["id"]]
    assert remote.wait(held["id"])["state"] == "succeeded"
    bad = remote.json("start", "bad", "--wait", code=1)["id"]
    remote.run("note", str(bad), "seen", "--ack")
    assert remote.json("ack", str(bad))[0]["acknowledged_by"] == "ann"
    shown = remote.json("runs", "show", str(bad))
    assert ([one["text"] for one in shown["notes"]], "changes" in shown) == (["seen"], False)
    sqlite_factory.apply({"bad": {"command": ["false"], "priority": 3, "description": "x" * 5000}})
    assert [one["version"] for one in remote.json("jobs", "history", "bad")] == [2, 1]
    changes = [
        {"path": "description", "before": None, "after": "x" * 5000}, {"path": "priority", "before": None, "after": 3}
    ]  # fmt: skip
    assert remote.json("jobs", "diff", "bad") == changes  # the list omits so large a definition
    assert remote.json("runs", "show", str(bad))["changes"] == changes
    assert remote.json("jobs", "rollback", "bad", "1")["version"] == 3
    assert "no hold 99" in remote.run("release", "99", code=3).stderr
    assert "no failure" in remote.run("ack", str(held["id"]), code=4).stderr
