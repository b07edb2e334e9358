"""The same commands through the API, for people who have no way to the database."""

import json

import pytest

from factory import Factory, wait_for


@pytest.fixture
def remote(sqlite_factory: Factory) -> Factory:
    """The command line with nothing but an API's address and a key."""
    factory = sqlite_factory
    factory.apply(
        {
            "hello": {"command": ["echo"], "arguments": ["hello"]},
            "bad": {"command": ["sh", "-c", "echo no >&2; exit 3"]},
            "alone": {"command": ["sleep", "60"], "already_running": "deny"},
            "chain": {"steps": [{"name": "a", "jobs": ["hello"]}]},
        }
    )
    key = factory.json("keys", "create", "--role", "operator")["key"]
    factory.worker()
    factory.role("api", "--port", "0")
    log = factory.folder / "api-1.log"
    wait_for(lambda: '"url"' in log.read_text(), "the API listens")
    started = next(json.loads(line) for line in log.read_text().splitlines() if '"url"' in line)
    factory.environment |= {
        "JOBFAC_API_URL": started["url"],
        "JOBFAC_API_KEY": key,
        "JOBFAC_DATABASE_URL": "sqlite:////no/such/place.db",
    }
    return factory


def test_a_day_without_a_database(remote: Factory) -> None:
    done = remote.json("start", "hello", "--argument", "over there", "--wait")
    assert done["state"] == "succeeded"
    assert remote.logs(done["id"]) == "over there\n"
    assert remote.run("start", "bad", "--follow", code=1).stderr.startswith("no\n")
    assert [run["job"] for run in remote.json("runs", "list", "--state", "failed")] == ["bad"]
    assert [event["event"] for event in remote.show(done["id"])["events"]] == ["queued", "running", "succeeded"]
    chain = remote.json("start", "chain", "--wait")
    assert remote.show(chain["id"])["path"][0]["step"] == "a"
    first = remote.start("alone")
    assert "denied" in remote.run("start", "alone", code=4).stderr
    assert f"run {first} was running and is now stopped" in remote.run("stop", str(first)).stdout
    assert remote.start("hello", "--key", "monday") == remote.start("hello", "--key", "monday")
    assert {job["id"] for job in remote.json("jobs", "list")} == {"alone", "bad", "chain", "hello"}
    assert len(remote.json("workers", "list")) == 1
    assert remote.run("runs", "show", "99", code=3).stderr.startswith("There is no run 99")


def test_what_a_key_may_not_do_is_refused(remote: Factory) -> None:
    assert "needs the role admin" in remote.run("jobs", "delete", "hello", code=4).stderr
    remote.environment["JOBFAC_API_KEY"] = "jf_wrong_wrong"
    assert remote.run("jobs", "list", code=4).stderr
    remote.environment["JOBFAC_API_URL"] = "http://127.0.0.1:1"
    assert "JOBFAC_API_URL" in remote.run("jobs", "list", code=5).stderr
