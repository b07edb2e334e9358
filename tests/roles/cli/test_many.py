"""Many runs at once on the command line, at home and over HTTP."""

import pytest

from jobfac.cli import common
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet
from tests.support.inprocess import InProcess


def test_stop_and_retry_show_first_and_then_do_exactly_that(remote: InProcess, sqlite_factory: Factory) -> None:
    for way in (remote, sqlite_factory):
        ids = [way.start("hello") for _ in range(3)]
        other = way.start("bad")
        shown = way.json("stop", "--job", "hello", "--all", "--dry-run")
        assert [(line["id"], line["result"]) for line in shown] == [(run, "chosen") for run in ids]
        done = way.run("stop", "--job", "hello", "--all")
        assert "3 stopped, 0 skipped, 0 refused." in done.stderr
        assert [line["result"] for line in way.json("retry", "--job", "hello", "--state", "stopped", "--since", "1h")][
            -3:
        ] == ["done"] * 3
        again = way.json("retry", "--job", "hello", "--state", "stopped", "--since", "yesterday")
        assert {line["result"] for line in again} == {"skipped"}
        assert way.json("runs", "list", "--job", "bad", "--until", "today")[0]["id"] == other
        way.run("stop", "--since", "1h", "--all")
    assert remote.json("runs", "list", "--text", "HELL") == sqlite_factory.json("runs", "list", "--text", "HELL")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stop",), "Give the id of a run, or options"),
        (("stop", "1", "--job", "a"), "exclude each other"),
        (("stop", "--job", "a"), "Say which runs to stop: --all"),
        (("retry", "--state", "failed", "--from-failed", "--job", "a"), "--from-failed is for one run"),
        (("retry", "--state", "asleep"), "--state must be one of"),
        (("runs", "list", "--until", "soon"), "--until must be a time such as 2h, yesterday"),
    ],
)
def test_unclear_choices_are_refused(sqlite_factory: Factory, words: tuple[str, ...], told: str) -> None:
    assert told in sqlite_factory.run(*words, code=2).stderr


def test_a_person_is_asked(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_factory.apply({"hello": {"command": ["true"]}})
    run = sqlite_factory.start("hello")
    monkeypatch.setattr("jobfac.cli.commands.controlling.is_terminal", lambda: True)
    monkeypatch.setattr(common, "is_terminal", lambda: True)
    asked = sqlite_factory.run("stop", "--job", "hello", "--all", code=1, stdin="n\n")
    assert "Stop these 1 runs?" in asked.stderr
    assert sqlite_factory.show(run)["state"] == "queued"
    sqlite_factory.run("stop", "--job", "hello", "--all", "--yes")
    assert sqlite_factory.show(run)["state"] == "stopped"


def test_workers_are_drained_by_name_and_undrained(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600))
    fleet.start("long", 2)
    worker = fleet.worker("mill", slots=1)
    wait_for(lambda: fleet.journal.lines("start"), "running")
    (row,) = fleet.factory.json("workers", "list")
    assert fleet.factory.run("workers", "drain", "mill").stdout == f"worker {row['id']} is draining\n"
    wait_for(lambda: fleet.factory.json("workers", "list")[0]["state"] == "draining", "draining")
    assert fleet.factory.run("workers", "undrain", "mill").stdout == f"worker {row['id']} is active\n"
    fleet.factory.run("stop", "1", "--now")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "it claims again")
    assert worker.poll() is None
    told = fleet.factory.run("workers", "drain", "mills", code=3).stderr
    assert told == "There is no live worker 'mills'; live are mill.\n"
