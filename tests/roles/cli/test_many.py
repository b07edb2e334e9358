"""Many runs at once on the command line, at home and over HTTP."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from jobfac.cli import common
from jobfac.cli.client import local
from jobfac.cli.commands.duty import controlling
from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.store import output
from jobfac.views.results.many import ManyView
from tests.support.database import Hand
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


def test_an_empty_option_chooses_no_more_runs(remote: InProcess, sqlite_factory: Factory) -> None:
    """As by a variable without a value."""
    for way in (remote, sqlite_factory):
        run = way.start("hello")
        for option in ("job", "category", "worker", "key", "text"):
            done = way.run("stop", f"--{option}", "", "--since", "2h", "--all", code=2)
            assert done.stderr == f"--{option} is empty; leave the option out to choose all runs.\n"
        assert way.json("runs", "show", str(run))["state"] == "queued"
        way.run("stop", "--since", "1h", "--all")
    for words in (("stop", "--sequence", "9" * 20), ("jobs", "rollback", "hello", "9" * 20)):
        assert "must be less than or equal to" in sqlite_factory.run(*words, code=2).stderr


def test_runs_beyond_the_limit_are_named_beside_json(sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"hello": {"command": ["true"]}})
    for _ in range(3):
        sqlite_factory.json("start", "hello")
    more = "There may be more than these 2: raise --limit."
    assert sqlite_factory.run("runs", "list", "--limit", "2", "--json").stderr == f"{more}\n"
    assert not sqlite_factory.run("runs", "list").stderr
    assert more in sqlite_factory.run("stop", "--job", "hello", "--all", "--limit", "2", "--json").stderr


def test_tables_have_no_markup(sqlite_factory: Factory) -> None:
    rule = {"cron": "30 1 * * *", "name": "s"}
    sqlite_factory.apply(
        {"off": {"command": ["true"], "enabled": False}, "on": {"command": ["a"], "schedules": [rule]}}
    )
    sqlite_factory.run("schedule", "pause", "on")
    said = [
        sqlite_factory.run(*words).stdout
        for words in (("jobs", "list"), ("schedule", "list"), ("jobs", "history", "on"))
    ]
    assert [text.splitlines()[-1].split()[place] for text, place in zip(said, (3, 2, 4), strict=True)] == [
        "yes",
        "paused",
        "yes",
    ]
    assert "no" in said[0].split()
    assert not any("[" in text for text in said)


def test_a_large_schedule_has_its_time_zone_over_http(remote: InProcess, sqlite_factory: Factory) -> None:
    rule = {"cron": "30 1 * * *", "timezone": "Asia/Tokyo", "payload": "x" * 5000}
    sqlite_factory.apply({"big": {"command": ["true"], "schedules": [rule]}})
    words = ("schedule", "backfill", "big", "--from", "2026-11-28", "--to", "2026-11-28", "--dry-run")
    (at_home,) = sqlite_factory.json(*words)
    assert remote.json(*words) == [at_home]
    assert at_home["local"].startswith("2026-11-28T01:30")
    assert remote.json("schedule", "list") == sqlite_factory.json("schedule", "list")


def test_an_outage_in_the_middle_leaves_no_doubt_about_what_was_done(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InProcess(sqlite_url, tmp_path) as factory:
        factory.apply({"hello": {"command": ["true"]}})
        for _ in range(3):
            factory.start("hello")
        stopped = local.Local.stop_many

        faults: list[BaseException] = [Unreachable("The database went away."), KeyboardInterrupt()]

        def stop_many(self: local.Local, ids: Sequence[int], now: bool) -> list[ManyView]:
            if ids == [2 if len(faults) == 2 else 3]:
                raise faults.pop(0)
            return stopped(self, ids, now)

        monkeypatch.setattr(local.Local, "stop_many", stop_many)
        monkeypatch.setattr(controlling, "BATCH", 1)
        done = factory.run("stop", "--job", "hello", "--all", "--limit", "3", code=5)
        assert done.stdout.splitlines()[1].split()[:4] == ["1", "hello", "queued", "done"]
        told = "1 stopped, 0 skipped, 0 refused. The other 2 are in doubt; repeat the command. There may be more"
        assert (told in done.stderr, done.stderr.splitlines()[-1]) == (True, "The database went away.")
        told = "1 stopped, 0 skipped, 0 refused. The other 1 are in doubt; repeat the command."
        assert told in factory.run("stop", "--job", "hello", "--all", code=130).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("stop",), "Give the id of a run, or options"),
        (("stop", "1", "--job", "a"), "exclude each other"),
        (("stop", "--job", "a"), "Select the runs to stop: --all"),
        (("retry", "--state", "failed", "--from-failed", "--job", "a"), "are for one run; give its id"),
        (("retry", "--state", "asleep"), "--state must be one of"),
        (("runs", "list", "--until", "soon"), "--until must be a time such as 2h, yesterday"),
    ],
)
def test_unclear_choices_are_refused(sqlite_factory: Factory, words: tuple[str, ...], told: str) -> None:
    assert told in sqlite_factory.run(*words, code=2).stderr


def test_a_person_is_asked(sqlite_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_factory.apply({"hello": {"command": ["true"]}})
    run = sqlite_factory.start("hello")
    monkeypatch.setattr("jobfac.cli.commands.duty.controlling.is_terminal", lambda: True)
    monkeypatch.setattr(common, "is_terminal", lambda: True)
    shown = sqlite_factory.run("stop", "--job", "hello", "--all", "--dry-run").stderr
    assert shown == "1 run to stop, 0 skipped; nothing was changed.\n"
    asked = sqlite_factory.run("stop", "--job", "hello", "--all", code=1, stdin="n\n")
    assert "Stop these 1 runs?" in asked.stderr
    assert sqlite_factory.show(run)["state"] == "queued"
    sqlite_factory.run("stop", "--job", "hello", "--all", "--yes")
    assert sqlite_factory.show(run)["state"] == "stopped"


def test_a_start_of_which_some_were_denied_waits_for_the_others(sqlite_factory: Factory) -> None:
    """It ended at once, as if nothing had been started."""
    sqlite_factory.apply({"short": {"command": ["false"], "already_running": "deny"}})
    sqlite_factory.worker()
    some = sqlite_factory.run("start", "short", "--count", "3", "--wait", "--json", code=4)
    assert [run["state"] for run in json.loads(some.stdout)] == ["failed", "denied", "denied"]
    assert some.stderr.startswith("Run 1 of job 'short' ended failed: exit code 1.\n")
    assert some.stderr.endswith(" Denied: 2 of 3 runs.\n")


def test_a_worker_whose_lease_is_over_is_silent_until_somebody_notices(
    remote: InProcess, sqlite_factory: Factory
) -> None:
    """It was active for as long as no other worker and no scheduler ran, and a drain of it seemed to work."""
    with closing(Database(sqlite_factory.url)) as db:
        hand = Hand(db)
        for way in (remote, sqlite_factory):
            assert "silent" not in way.json("workers", "list")[0]
        hand.lapse()
    for way in (remote, sqlite_factory):
        assert way.json("workers", "list")[0]["silent"] is True
        assert "  silent  " in way.run("workers", "list").stdout
        told = way.run("workers", "drain", "w1").stderr
        assert "so it is probably dead; it leaves the list when any worker or scheduler runs.\n" in told


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
    fleet.factory.run("workers", "drain", "mill")
    fleet.factory.run("stop", "2", "--now")
    assert worker.wait(30) == 0
    gone = f"Worker {row['id']} ('mill') has left and claims no more runs; `jobfac worker` starts a new one.\n"
    for which in ("mill", str(row["id"])):
        assert fleet.factory.run("workers", "undrain", which, code=3).stderr == gone
    told = fleet.factory.run("workers", "drain", "mills", code=3).stderr
    assert told == "There is no live worker 'mills'; none is alive.\n"


def test_due_times_are_caught_up_at_home_and_over_http(remote: InProcess, sqlite_factory: Factory) -> None:
    period = ("--from", "2026-03-02", "--to", "2026-03-04")
    shown = remote.json("schedule", "backfill", "timed", *period, "--dry-run", "--schedule", "late")
    assert shown == sqlite_factory.json("schedule", "backfill", "timed", *period, "--dry-run", "--schedule", "late")
    assert [line["due_at"] for line in shown] == [f"2026-03-0{day}T07:00:00+00:00" for day in (2, 3, 4)]
    done = remote.run("schedule", "backfill", "timed", *period, "--at-most", "2")
    counted, warning = done.stderr.splitlines()
    assert counted == "6 runs started, 0 due times have a run."
    assert warning.startswith("warning: 6 of them lie before ")
    assert warning.endswith(", when job 'timed' was defined first.")
    again = sqlite_factory.run("schedule", "backfill", "timed", *period)
    assert again.stderr == "0 runs started, 6 due times have a run.\n"
    assert [run["state"] for run in remote.json("runs", "list", "--job", "timed")] == ["blocked"] * 4 + ["queued"] * 2
    wrong = remote.run("schedule", "backfill", "timed", "--from", "2026-03-02", "--to", "2026-03-01", code=4).stderr
    assert wrong.startswith("The period is empty")


def test_a_day_to_catch_up_is_one_of_the_schedule(sqlite_factory: Factory) -> None:
    """The run loads the day that was asked for, in any time zone of the machine."""
    tokyo, utc = {"cron": "0 6 * * *", "timezone": "Asia/Tokyo"}, {"name": "utc", "cron": "0 23 * * *"}
    sqlite_factory.apply({"load": {"command": "true", "schedules": [tokyo]}})
    period = ("schedule", "backfill", "load", "--from", "2026-03-02", "--to", "2026-03-02", "--dry-run")
    assert [line["local"] for line in sqlite_factory.json(*period)] == ["2026-03-02T06:00:00+09:00"]
    sqlite_factory.apply({"load": {"command": "true", "schedules": [tokyo, utc]}})
    assert "several time zones (Asia/Tokyo, UTC), so times are local" in sqlite_factory.run(*period).stderr
    (one,) = sqlite_factory.json(*period, "--schedule", "utc")
    assert one["due_at"] == "2026-03-02T23:00:00+00:00"


def test_a_sequence_begins_with_a_step(remote: InProcess, sqlite_factory: Factory) -> None:
    sqlite_factory.apply(
        {"two": {"steps": [{"name": "first", "jobs": ["bad"]}, {"name": "second", "jobs": ["hello"]}]}}
    )
    sqlite_factory.worker()
    for way in (remote, sqlite_factory):
        run = way.json("start", "two", "--from-step", "second", "--wait")
        assert run["state"] == "succeeded"
        assert [visit["step"] for visit in way.show(run["id"])["path"]] == ["second"]
        assert (
            "has no step 'secnd'; did you mean 'second'?"
            in way.run("start", "two", "--from-step", "secnd", code=2).stderr
        )
        assert "is a program" in way.run("start", "hello", "--from-step", "second", code=2).stderr


def test_the_time_of_a_start_is_told_as_it_was_understood(sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"hello": {"command": ["true"]}})
    done = sqlite_factory.run("start", "hello", "--at", "2030-01-31T22:00:00+01:00", "--json")
    assert done.stderr.startswith("--at 2030-01-31T22:00:00+01:00 is Thu 2030-01-31 21:00:00+00:00 (UTC), in ")


def test_the_output_of_many_runs_is_searched(remote: InProcess, sqlite_factory: Factory) -> None:
    sqlite_factory.worker()
    sqlite_factory.json("start", "hello", "--count", "2", "--wait")
    none = "the stored output of the selected runs has no line with 'nothing like it'\n"
    late = sqlite_factory.start("hello", "--in", "1h")
    with closing(Database(sqlite_factory.url)) as db:
        db.transact(output.append, [output.Stored(late, 1, "stdout", 0, b"many\n" * 101)])
    for way in (remote, sqlite_factory):
        many = way.run("logs", "--search", "many", "--limit", "1000").stderr
        assert (
            many == f"Only the first 100 lines of run {late} are shown; `jobfac logs {late}` shows all that it wrote.\n"
        )
        found = way.json("logs", "--search", "HELL", "--job", "hello", "--since", "1h")
        assert [(line["run"], line["line"]) for line in found] == [(2, "hello"), (1, "hello")]
        assert way.run("logs", "--search", "nothing like it").stderr == none
        assert len(way.json("logs", "--search", "hello", "--limit", "1")) == 1
    assert "instead of a run" in sqlite_factory.run("logs", "1", "--search", "x", code=2).stderr
    assert "or --search TEXT" in sqlite_factory.run("logs", code=2).stderr
