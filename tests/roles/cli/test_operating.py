"""The commands of the people on duty: holds, notes, versions, and questions before something is taken away."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from jobfac.cli import common
from jobfac.cli.commands import runs as command
from jobfac.cli.commands.duty import operating
from tests.support.factory import Factory, wait_for


class Fast(datetime):
    """The clock of a machine that is a day fast."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=1)


def test_the_duration_of_a_hold_counts_on_the_clock_of_the_database(
    sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "datetime", Fast)
    placed = sqlite_factory.json("hold", "--reason", "why", "--until", "2h")
    lasts = datetime.fromisoformat(placed["until"]) - datetime.fromisoformat(placed["created_at"])
    assert abs(lasts - timedelta(hours=2)) < timedelta(minutes=1)


def test_a_hold_from_its_command_to_its_release(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"a": {"command": ["true"]}, "b": {"command": ["true"]}})
    placed = factory.json("hold", "--job", "a", "--reason", "the disk is full", "--until", "2h")
    assert (placed["job"], placed["reason"], placed["released_at"]) == ("a", "the disk is full", None)
    assert [one["id"] for one in factory.json("holds")] == [placed["id"]]
    factory.worker()
    held = factory.json("start", "a")
    assert held["held"] == f"hold {placed['id']} of job a: the disk is full"
    assert factory.json("start", "b", "--wait")["state"] == "succeeded"
    assert "held" in factory.run("runs", "show", str(held["id"])).stdout
    assert "the disk is full" in factory.run("runs", "list").stdout
    assert "hold 1 of job a: the disk is full" in factory.run("top", "--once").stdout
    assert factory.show(held["id"])["started_at"] is None
    assert factory.run("release", str(placed["id"])).stdout == f"hold {placed['id']} of job a is released\n"
    wait_for(lambda: factory.show(held["id"])["state"] == "succeeded", "it runs")
    assert factory.json("holds") == []
    assert len(factory.json("holds", "--all")) == 1
    short = factory.json("hold", "--job", "a", "--reason", "r", "--until", "1s")
    wait_for(lambda: datetime.now(UTC) > datetime.fromisoformat(short["until"]), "its end")
    assert factory.run("release", str(short["id"])).stdout.startswith(f"hold {short['id']} of job a had ended at ")
    assert "no hold 9" in factory.run("release", "9", code=3).stderr
    assert "--reason" in factory.run("hold", code=2).stderr
    assert "no job 'zz'" in factory.run("hold", "--job", "zz", "--reason", "r", code=3).stderr


def test_a_failure_is_first_until_it_is_acknowledged(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = sqlite_factory
    factory.apply({"bad": {"command": ["false"]}, "good": {"command": ["true"]}})
    factory.worker()
    first, second = (
        factory.json("start", "bad", "--wait", code=1)["id"],
        factory.json("start", "bad", "--wait", code=1)["id"],
    )
    good = factory.json("start", "good", "--wait")["id"]
    top = factory.run("top", "--once").stdout
    assert top.index("Failed") < top.index("Running")
    assert "quits" not in top, "it has no keys"
    note = factory.json("note", str(first), "it was the network", "--ack")
    assert (note["run_id"], note["text"]) == (first, "it was the network")
    (open_one,) = factory.json("runs", "list", "--unacknowledged")
    assert open_one["id"] == second
    (shown,) = factory.json("ack", "--job", "bad", "--dry-run")
    assert (shown["id"], shown["result"]) == (second, "chosen")
    (acked,) = factory.json("ack", str(second))
    assert acked["acknowledged_by"] == note["by"]
    assert "0 acknowledged, 0 skipped, 0 refused." in factory.run("ack", "--job", "bad", "--since", "1h").stderr
    shown = factory.show(first)
    assert [one["text"] for one in shown["notes"]] == ["it was the network"]
    assert shown["acknowledged_by"] == note["by"]
    assert "acknowledged" in [event["event"] for event in shown["events"]]
    monkeypatch.setattr(command, "NEWEST", 1)
    text = factory.run("runs", "show", str(first)).stdout
    assert "it was the network" in text
    assert f"These are the newest 1 of {len(shown['events'])} events; --json shows all." in text
    assert "Failed " not in factory.run("top", "--once").stdout
    assert "no failure" in factory.run("ack", str(good), code=4).stderr
    assert "There is no run 99" in factory.run("note", "99", "x", code=3).stderr


def test_versions_are_listed_compared_and_rolled_back(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"a": {"command": ["true"]}})
    factory.worker()
    run = factory.json("start", "a", "--wait")["id"]
    factory.apply({"a": {"command": ["true"], "priority": 5, "timeout": "10m"}})
    history = factory.json("jobs", "history", "a")
    assert [(one["version"], one["current"]) for one in history] == [(2, True), (1, False)]
    wanted = [
        {"path": "priority", "before": None, "after": 5},
        {"path": "timeout", "before": None, "after": "10m"},
    ]
    assert factory.json("jobs", "diff", "a") == factory.json("jobs", "diff", "a", "1", "2") == wanted
    assert factory.show(run)["changes"] == wanted
    assert "priority: (default) -> 5" in factory.run("runs", "show", str(run)).stdout
    factory.run("start", "a", "--in", "1h")
    rolled = factory.run("jobs", "rollback", "a", "1", "--json")
    assert rolled.stderr.startswith("Its runs that wait keep their version (1); stop and retry them")
    back = json.loads(rolled.stdout)
    assert (back["version"], "priority" in back["definition"]) == (3, False)
    assert "changes" not in factory.show(run)
    assert factory.run("jobs", "diff", "a", "1", "3").stdout == ""
    assert "no version 9" in factory.run("jobs", "rollback", "a", "9", code=3).stderr
    assert "no version 9" in factory.run("jobs", "diff", "a", "9", code=3).stderr
    assert "no job 'zz'" in factory.run("jobs", "history", "zz", code=3).stderr


def test_on_a_terminal_it_asks_before_it_takes_away(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = sqlite_factory
    factory.apply({"a": {"command": ["true"]}, "b": {"command": ["true"]}})
    (factory.folder / "less.json").write_text(json.dumps({"jobs": {"a": {"command": ["true"]}}}))
    (factory.folder / "off.json").write_text(json.dumps({"jobs": {"a": {"command": ["true"], "enabled": False}}}))

    def jobs() -> list[str]:
        return [one["id"] for one in factory.json("jobs", "list")]

    monkeypatch.setattr(common, "is_terminal", lambda: True)
    monkeypatch.setattr("jobfac.cli.commands.jobs.is_terminal", lambda: True)
    refused = factory.run("apply", "less.json", "--prune", code=1, stdin="n\n")
    assert "this removes 'b'" in refused.stderr
    assert jobs() == ["a", "b"]
    assert "this disables 'a'" in factory.run("apply", "off.json", code=1, stdin="n\n").stderr
    factory.run("jobs", "delete", "b", code=1, stdin="n\n")
    assert jobs() == ["a", "b"]
    factory.run("apply", "less.json", stdin="")  # takes nothing away, so nothing is asked
    factory.run("jobs", "delete", "b", stdin="y\n")
    factory.run("apply", "off.json", "--yes")
    assert jobs() == ["a"]
    kept = factory.run("apply", "less.json")
    assert kept.stdout.startswith("= a stays disabled; ")
    told = [{"on": ["failed"], "to": {"email": "ops@example.org"}}]
    (factory.folder / "of.json").write_text(json.dumps({"defaults": {"x": {"notify": told}}, "jobs": {}}))
    assert factory.run("apply", "of.json").stdout.endswith(
        "\n0 added, 0 changed, 0 removed, 0 unchanged; defaults of categories changed: 1\n"
    )
    factory.run("jobs", "delete", "a", "--yes")
    assert jobs() == []


def test_views_of_another_version_are_reported_until_an_upgrade(sqlite_factory: Factory, tmp_path: Path) -> None:
    """An update of jobfac whose tables are the same: each role works, so `db check` still lets a deployment go on."""
    with sqlite3.connect(tmp_path / "jobfac.db") as conn:
        conn.execute("DROP VIEW IF EXISTS v_version")
    said = sqlite_factory.run("db", "check").stdout
    assert (
        "is current, but its views and procedures are those of another version of jobfac: `jobfac db upgrade`" in said
    )
    checked = sqlite_factory.json("db", "check")
    assert (checked["current"], checked["views"]) == (True, "other")
    found = {one["check"]: one for one in sqlite_factory.json("doctor")}
    assert found["views"]["state"] == "warning"
    assert "workers" in found, "the checks of the factory go on"
    sqlite_factory.run("db", "upgrade")
    assert sqlite_factory.run("db", "check").stdout.endswith(" is current\n")
