"""A stop by hand outlives a deployment: disabled jobs and paused schedules are operating state, not definition."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit, schedule
from jobfac.definitions import Difference, losses
from jobfac.operations import holds, jobs, schedules
from jobfac.operations.caller import Caller
from jobfac.operations.jobs import Applied
from jobfac.store import jobs as job_store
from jobfac.store import schedules as stored_schedules
from jobfac.store.holds.placing import Scope
from tests.support.database import Hand, start

ME = Caller("me")
TEXT = "jobs:\n  a: {command: [x], schedules: [{name: s, cron: '* * * * *'}]}\n  b: {command: [y]}\n"


def apply(db: Database, folder: Path, text: str, dry_run: bool = False, prune: bool = False) -> Applied:
    file = folder / "jobs.yaml"
    file.write_text(text, encoding="utf-8")
    return (jobs.plan if dry_run else jobs.apply)(db, ME, d.reader(file), prune=prune)


def is_enabled(db: Database, job: str) -> bool:
    stored = db.query(job_store.load, job)
    assert stored is not None
    return stored.enabled


def is_paused(db: Database) -> bool:
    with db.read() as conn:
        return bool(conn.execute(sa.select(schedule.c.paused)).scalar_one())


def actions(db: Database) -> list[str]:
    with db.read() as conn:
        return list(conn.execute(sa.select(audit.c.action).order_by(audit.c.id)).scalars())


def test_apply_keeps_what_an_operator_switched_off_and_says_so(db: Database, tmp_path: Path) -> None:
    apply(db, tmp_path, TEXT)
    jobs.disable(db, ME, "a")
    schedules.pause(db, ME, ("a", None))
    before = actions(db)
    for text in (TEXT, TEXT.replace("[x]", "[z]"), TEXT.replace("'* * * * *'", "'5 * * * *'")):
        for dry_run in (True, False):
            found = apply(db, tmp_path, text, dry_run)
            assert found.kept == jobs.Kept(("a",), (("a", "s"),))
            assert losses(found.jobs) == []
        assert not is_enabled(db, "a")
        assert is_paused(db)
    assert "enable" not in actions(db)[len(before) :]
    assert apply(db, tmp_path, TEXT).kept.disabled == ("a",)


def test_runs_that_wait_and_do_not_follow_a_change_are_said(db: Database, tmp_path: Path) -> None:
    apply(db, tmp_path, TEXT)
    start(db, "a")
    start(db, "a", delay=60)
    start(db, "b")
    for text in (TEXT.replace("* * * * *", "5 * * * *"), TEXT.replace("[x]", "[x], category: c, retention: 1d")):
        assert apply(db, tmp_path, text, dry_run=True).view().warnings == []
    (changed,) = apply(db, tmp_path, TEXT.replace("[x]", "[z], pool: p")).view().warnings
    assert changed == "runs of a that wait keep their version (2); stop and retry them if they need the new one"
    alone = TEXT[: TEXT.index("  b:")].replace("[x]", "[z], pool: p")
    (removed,) = apply(db, tmp_path, alone, prune=True).view().warnings
    assert removed == "runs of b that wait will start although the job is removed (1); stop them if they must not"


def test_a_sequence_under_way_that_needs_a_removed_job_is_said(db: Database, tmp_path: Path) -> None:
    steps = "jobs:\n  a: {command: [x]}\n  seq: {steps: [{name: one, jobs: [a]}, {name: two, jobs: [b]}]}\n"
    apply(db, tmp_path, f"{steps}  b: {{command: [y]}}\n")
    start(db, "seq")
    other = steps.replace("jobs: [b]", "jobs: [c]") + "  c: {command: [y]}\n"
    for dry_run in (True, False):
        said = apply(db, tmp_path, other, dry_run=dry_run, prune=True).view().warnings
        assert said[-1].startswith("a run of seq that is under way has b in a step, which fails if it comes after")


def test_a_paused_schedule_is_named_as_it_can_be_resumed(db: Database, tmp_path: Path) -> None:
    """Without a name it has a number, and another one if a schedule is inserted before it."""
    text = "jobs:\n  a:\n    command: [x]\n    schedules: [{cron: '* * * * *'}]\n"
    apply(db, tmp_path, text)
    schedules.pause(db, ME, ("a", None))
    found = apply(db, tmp_path, text.replace("[{", "[{cron: '5 * * * *'}, {"))
    assert found.kept.paused == (("a", "2"),)
    assert schedules.resume(db, ME, ("a", "2"))


def test_a_paused_schedule_that_was_moved_and_changed_stays_paused(db: Database, tmp_path: Path) -> None:
    text = "jobs: {a: {command: [x], schedules: [{cron: 0 %s * * *}, {cron: 0 %s * * *}, {cron: 0 %s * * *}]}}"
    apply(db, tmp_path, text % (1, 2, 3))
    schedules.pause(db, ME, ("a", "2"))
    for dry_run in (True, False):
        kept = apply(db, tmp_path, text % (5, 3, 1), dry_run).kept  # the second one is now the first one, and later
        assert (kept.paused, kept.dropped) == ((("a", "1"),), ())


def test_a_paused_schedule_that_goes_is_a_warning(db: Database, tmp_path: Path) -> None:
    text = "jobs: {a: {command: [x], schedules: [%s]}, b: {command: [y], schedules: [{cron: '@daily'}]}}"
    one, two = "{name: one, cron: '@daily'}", "{name: two, cron: '@hourly'}"
    apply(db, tmp_path, text % f"{one}, {two}")
    schedules.pause(db, ME, ("a", "one"))
    schedules.pause(db, ME, ("b", None))
    for dry_run in (True, False):
        found = apply(db, tmp_path, text % two, dry_run)
        assert found.view().warnings == [
            "schedule 'one' of a is paused and the definition no longer has it; the schedules that it has fire"
        ]
    assert apply(db, tmp_path, text % two).view().warnings == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_plan_says_what_a_renamed_job_loses(db: Database, tmp_path: Path) -> None:
    text = "jobs:\n  %s: {command: [x], already_running: queue, schedules: [{cron: '@daily'}, {file: '/in/*.csv'}]}\n"
    text += "  other: {command: [y]}\n"
    apply(db, tmp_path, text % "old")
    start(db, "old")
    Hand(db).claim()
    jobs.disable(db, ME, "old")
    schedules.pause(db, ME, ("old", "1"))
    holds.hold(db, ME, Scope(job="old"), "the share moves")
    for dry_run in (True, False):
        said = apply(db, tmp_path, text % "new", dry_run, prune=True).view().warnings
        assert [one.removeprefix("new does what 'old' did, which is removed") for one in said] == [
            " and disabled: new is enabled",
            " and has paused schedules: those of new fire",
            ": hold 1 of job old does not hold new",
            ": runs of old that have not ended keep no run of new from starting",
            ": each file that lies there (/in/*.csv) starts new, also if old has had it",
        ]
    assert apply(db, tmp_path, "jobs: {third: {command: [z]}}", dry_run=True, prune=True).view().warnings == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_job_that_differs_is_no_renamed_one(db: Database, tmp_path: Path) -> None:
    program, sequence = "{command: [x], directory: /srv/%s}", "{steps: [{name: load, jobs: [%s]}]}"
    text = "jobs:\n  a: {command: [a]}\n  b: {command: [b]}\n"
    apply(db, tmp_path, f"{text}  old: {program % 'sales'}\n  before: {sequence % 'a'}\n")
    for job in ("old", "before"):
        jobs.disable(db, ME, job)
    text += f"  new: {program % 'stock'}\n  later: {sequence % 'b'}\n"
    assert apply(db, tmp_path, text, dry_run=True, prune=True).view().warnings == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_each_renamed_job_is_named_once(db: Database, tmp_path: Path) -> None:
    text = "jobs:\n" + "".join("  %s" + f"{number}: {{command: [x]}}\n" for number in (1, 2, 3))
    apply(db, tmp_path, text % ("old", "old", "old"))
    for number in (1, 2, 3):
        jobs.disable(db, ME, f"old{number}")
    said = apply(db, tmp_path, text % ("new", "new", "new"), dry_run=True, prune=True).view().warnings
    assert [one.partition(" did,")[0] for one in said] == [f"new{n} does what 'old{n}'" for n in (1, 2, 3)]


def test_only_an_explicit_true_turns_it_on(db: Database, tmp_path: Path) -> None:
    apply(db, tmp_path, TEXT)
    jobs.disable(db, ME, "b")
    explicit = TEXT.replace("[y]", "[y], enabled: true")
    planned = apply(db, tmp_path, explicit, dry_run=True)
    assert planned.jobs.change == {"b": (Difference("enabled", False, None),)}
    assert not is_enabled(db, "b")
    assert apply(db, tmp_path, explicit).kept.disabled == ()
    assert is_enabled(db, "b")
    assert actions(db)[-1] == "enable"
    off = apply(db, tmp_path, TEXT.replace("[y]", "[y], enabled: false"))
    assert losses(off.jobs) == ["disables 'b'"]
    assert not is_enabled(db, "b")


@pytest.mark.parametrize(
    ("text", "prune", "wanted"),
    [
        ("jobs:\n  b: {command: [y]}\n", True, ["removes 'a'"]),
        ("jobs:\n  b: {command: [y]}\n", False, []),
        ("jobs:\n  a: {command: [x]}\n", False, ["removes schedules of 'a'"]),
        (TEXT.replace("name: s", "enabled: false, name: s"), False, ["disables schedules of 'a'"]),
        (TEXT.replace("name: s", "name: t"), False, ["removes schedules of 'a'"]),
        (
            TEXT.replace("{name: s,", "{every: 1h, name: t}, {enabled: false, name: s,"),
            False,
            ["disables schedules of 'a'"],
        ),
        (TEXT.replace("[x]", "[x], enabled: false"), False, ["disables 'a'"]),
        (TEXT.replace("[x]", "[z]"), False, []),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_plan_takes_away(db: Database, tmp_path: Path, text: str, prune: bool, wanted: list[str]) -> None:
    apply(db, tmp_path, TEXT)
    assert losses(apply(db, tmp_path, text, dry_run=True, prune=prune).jobs) == wanted


def test_a_rollback_keeps_it_too(db: Database, tmp_path: Path) -> None:
    from jobfac.operations import versions

    apply(db, tmp_path, TEXT)
    apply(db, tmp_path, TEXT.replace("[x]", "[z]"))
    jobs.disable(db, ME, "a")
    schedules.pause(db, ME, ("a", None))
    assert versions.rollback(db, ME, "a", 1).version == 3
    assert not is_enabled(db, "a")
    assert is_paused(db)
    for hours in (1, 2):
        apply(db, tmp_path, f"jobs: {{c: {{command: [x], schedules: [{{name: each-{hours}, every: {hours}h}}]}}}}")
    schedules.pause(db, ME, ("c", None))
    versions.rollback(db, ME, "c", 1)
    assert ("c", "each-1") in db.query(stored_schedules.paused), "it has another name, and would fire"
    for rules in ("[{every: 1h}, {every: 2h}]", "[{every: 2h}]"):
        apply(db, tmp_path, f"jobs: {{e: {{command: [x], schedules: {rules}}}}}")
    schedules.pause(db, ME, ("e", None))
    versions.rollback(db, ME, "e", 1)
    assert [name for job, name in db.query(stored_schedules.paused) if job == "e"] == ["2", "1"], "names are positions"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_plan_says_which_schedules_wait_for_a_first_success(db: Database, tmp_path: Path) -> None:
    inside = "{command: [x], parameters: {since: {default: %s}}, schedules: [{cron: '@daily'%s}]}"
    bodies = {
        "load": inside % ("'${previous.success.at}'", ""),
        "given": inside % ("x", ", parameters: {since: '${previous.success.date}'}"),
        "literal": inside % ("x", ", payload: '$${previous.success.date}'"),
    }
    text = "jobs:\n" + "".join(f"  {job}: {body}\n" for job, body in bodies.items())
    for dry_run in (True, False):
        said = apply(db, tmp_path, text, dry_run).view().warnings
        assert [one.partition(" refers to")[0] for one in said] == [
            f"{job} has not succeeded before, so its schedules start nothing: {why}"
            for job, why in (("load", "the default of a parameter"), ("given", "the schedule '1'"))
        ]
    for job in ("load", "given"):
        start(db, job, parameters={"since": "x"})
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed)
    assert apply(db, tmp_path, text.replace("@daily", "@hourly"), dry_run=True).view().warnings == []
