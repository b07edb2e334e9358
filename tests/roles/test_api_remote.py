"""The command line through the API: the same commands, the same documents, the same exit codes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from factory import Factory, wait_for

TREE = {"steps": [{"name": "one", "jobs": ["hello"]}]}


@pytest.fixture
def remote(sqlite_factory: Factory, tmp_path: Path) -> Iterator[Factory]:
    """Somebody who has no way to the database, only the API's address and an admin's key."""
    sqlite_factory.apply(
        {
            "hello": {"command": ["sh", "-c", "echo hello; printf '\\377' >&2"]},
            "bad": {"command": ["false"]},
            "long": {"command": ["sleep", "600"], "already_running": "deny"},
            "tree": TREE,
        }
    )
    key = sqlite_factory.json("keys", "create", "--role", "admin", "--name", "ann")["key"]
    process = sqlite_factory.role("api", "--port", "0")

    def url() -> str | None:
        text = (sqlite_factory.folder / "api-0.log").read_text()
        assert process.poll() is None, text
        found = re.search(r"http://127\.0\.0\.1:\d+", text)
        return found and found[0]

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with Factory("sqlite:////nowhere/jobfac.db", folder) as far:
        far.environment |= {"JOBFAC_API_URL": wait_for(url, "the API listens"), "JOBFAC_API_KEY": key}
        yield far


def test_runs_are_started_followed_and_shown(remote: Factory, sqlite_factory: Factory) -> None:
    sqlite_factory.worker()
    assert remote.json("start", "hello", "--wait")["created_by"] == "ann"
    done = remote.run("start", "hello", "--follow")
    assert (done.stdout, done.stderr) == ("hello\n", "\udcff")
    assert len(remote.json("start", "hello", "--count", "3", "--priority", "7")) == 3
    remote.run("start", "bad", "--wait", code=1)
    tree = remote.json("start", "tree", "--wait")["id"]
    assert remote.logs(2) == "hello\n"
    for words in (
        ["runs", "list", "--job", "hello", "--state", "succeeded", "--limit", "3"],
        ["runs", "show", str(tree)],
        ["logs", "2"],
        ["jobs", "list"],
        ["export"],
    ):
        assert remote.json(*words) == sqlite_factory.json(*words), words
    assert [worker["name"] for worker in remote.json("workers", "list")] == ["w1"]


def test_runs_are_stopped_and_retried(remote: Factory, sqlite_factory: Factory) -> None:
    run = remote.start("long", "--in", "1h")
    assert remote.json("stop", str(run))["state"] == "stopped"
    again = remote.json("retry", str(run))
    assert again["retry_of"] == run
    assert remote.json("start", "long", code=4)["state"] == "denied"
    worker = sqlite_factory.worker()
    assert remote.json("stop", str(again["id"]), "--now")["state"] == "stopped"
    assert remote.json("start", "hello", "--key", "k")["id"] == remote.json("start", "hello", "--key", "k")["id"]
    remote.run("workers", "drain", "1")
    assert worker.wait(30) == 0


def test_jobs_are_switched_and_deleted_and_failures_have_their_exit_codes(remote: Factory) -> None:
    remote.run("jobs", "disable", "hello")
    remote.run("start", "hello", code=4)
    remote.run("jobs", "enable", "hello")
    remote.run("start", "hello")
    remote.run("jobs", "delete", "bad")
    remote.run("jobs", "show", "bad", code=3)
    assert "no job 'none'" in remote.run("start", "none", code=3).stderr
    remote.run("start", "no such/job", code=3)
    remote.run("runs", "show", "999", code=3)
    remote.environment["JOBFAC_API_KEY"] = "jf_000000000000_wrong"
    assert "unknown, revoked or expired" in remote.run("jobs", "list", code=4).stderr
    remote.environment["JOBFAC_API_KEY"] = ""
    assert "JOBFAC_API_KEY" in remote.run("jobs", "list", code=2).stderr
