"""`jobfac top`: the data that it reads, the screen that it draws, and its behaviour in a terminal."""

import os
import re
import signal
import termios
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from jobfac import definitions as d
from jobfac.cli.client.remote import Remote
from jobfac.cli.rendering.frame import draw, listed, pick, share
from jobfac.cli.rendering.selection import Selection, react, read_keys
from jobfac.database.engine import Database
from jobfac.states import RunState
from jobfac.store import overview, runs, schedules
from jobfac.store.api_keys import Role
from jobfac.views.holds import HoldView
from jobfac.views.jobs import OverdueView
from jobfac.views.overview import DueSchedule, Overview, RunLine, WaitingRuns
from jobfac.views.serialization import columns, from_row
from jobfac.views.workers import WorkerView
from tests.database.schema.test_statements import sent
from tests.support.api_stage import Served
from tests.support.database import Hand, define, start, state
from tests.support.factory import Factory
from tests.support.fleet import Fleet
from tests.support.terminal import terminal

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


# The data


def history(db: Database) -> None:
    """A worker with two executing runs, one failed run, and runs in every waiting state."""
    define(db, load={}, alone={"already_running": "queue"}, far={"pool": "gpu"})
    wanted = d.loads("jobs: {timed: {command: [echo], schedules: [{name: daily, cron: '0 6 * * *'}]}}").jobs
    plan = d.plan({}, {name: d.canonical(one) for name, one in wanted.items()}, prune=False)
    db.transact(schedules.apply, plan, wanted, "me")
    hand = Hand(db)
    first, second, _ = (start(db, job) for job in ("load", "load", "alone"))
    start(db, "alone")
    hand.claim()
    db.transact(runs.report_progress, second, 1, 0.25, "a quarter")
    db.transact(
        runs.finish, hand.id, [runs.Outcome(first, 1, RunState.FAILED, exit_code=3, reason="exit code 3")], "w1"
    )
    start(db, "far")
    start(db, "far")
    start(db, "load", delay=3600.0)


def test_an_overview_takes_few_statements(db: Database) -> None:
    history(db)
    with sent(db) as statements:
        found = db.query(overview.read)
    assert len([text for text, _ in statements if text.startswith("SELECT")]) == 7, "one for the failure"
    assert [(run.job, run.reason) for run in found.failures] == [("load", "exit code 3")]
    assert [(worker.name, worker.busy, worker.slots) for worker in found.workers] == [("w1", 2, 10)]
    assert [(one.pool, one.number) for one in found.queued] == [("gpu", 2)]
    assert 0 <= found.queued[0].seconds < 60
    assert (found.blocked, found.scheduled, found.held) == (1, 1, 2)
    assert [(run.job, run.progress, run.message) for run in found.running] == [
        ("load", 0.25, "a quarter"),
        ("alone", None, None),
    ]
    assert [(run.job, run.state, run.reason) for run in found.ended] == [("load", "failed", "exit code 3")]
    assert [(one.job, one.name) for one in found.due] == [("timed", "daily")]
    if db.dialect.name == "sqlite":
        plans = [_plan(db, *statement) for statement in statements if statement[0].startswith("SELECT")]
        assert not [line for lines in plans for line in lines if re.search(r"SCAN (run|schedule)\b(?!.*INDEX)", line)]


def _plan(db: Database, statement: str, parameters: Any) -> list[str]:
    with db.read() as conn:
        return [row[-1] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def test_the_api_returns_the_same_overview(served: Served) -> None:
    history(served.db)
    near = served.db.query(overview.read)
    with Remote(served.url, served.key(Role.VIEWER)) as remote:
        far = remote.overview()
    assert (far.blocked, far.scheduled, far.held) == (near.blocked, near.scheduled, near.held)
    assert [(one.pool, one.number) for one in far.queued] == [("gpu", 2)]
    assert [worker.name for worker in far.workers] == ["w1"]
    for name in ("running", "ended"):
        assert [run.id for run in getattr(far, name)] == [run.id for run in getattr(near, name)]
    assert [(one.job, one.name, one.fire_at) for one in far.due] == [
        (one.job, one.name, one.fire_at) for one in near.due
    ]


def test_a_limited_key_sees_only_the_jobs_of_its_categories(served: Served) -> None:
    history(served.db)
    define(served.db, mine={"category": "etl"}, mine_too={"category": "etl", "already_running": "queue"})
    hand = Hand(served.db, "w2")
    ended = start(served.db, "mine")
    hand.end(hand.take())
    running, blocked = start(served.db, "mine_too"), start(served.db, "mine_too")
    hand.claim()
    start(served.db, "mine")
    start(served.db, "mine", delay=3600.0)
    assert state(served.db, blocked) == "blocked"
    with Remote(served.url, served.key(Role.VIEWER, ["etl"])) as remote:
        found = remote.overview()
    assert (found.blocked, found.scheduled, found.held) == (1, 1, 1)
    assert [(one.pool, one.number) for one in found.queued] == [("default", 1)]
    assert [run.id for run in found.running] == [running]
    assert [run.id for run in found.ended] == [ended]
    assert found.due == []
    assert {worker.name for worker in found.workers} == {"w1", "w2"}
    with Remote(served.url, served.key(Role.VIEWER, ["nothing"])) as remote:
        found = remote.overview()
    assert (found.blocked, found.scheduled, found.held, found.queued, found.running, found.ended) == (
        0,
        0,
        0,
        [],
        [],
        [],
    )


# The screen


def moment(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_run(number: int, state: str = "running", **more: Any) -> RunLine:
    begun = {"id": number, "job": f"job-{number}", "kind": "program", "state": state, "attempt": 1, "worker": "w1"}
    times = {"started_at": moment(-100 + number), "ended_at": None if state == "running" else moment(-number)}
    said = dict.fromkeys(("progress", "message", "reason", "exit_message", "sequence_run_id"))
    return from_row(RunLine, {**begun, **times, **said, **more})


def a_worker(number: int, **more: Any) -> WorkerView:
    who = {"name": f"worker-{number:02}", "host": "host", "pools": ["default"], "state": "active"}
    times = {"seen_at": moment(-1), "lease_until": moment(14)}
    rest = dict.fromkeys(columns(WorkerView))
    return from_row(WorkerView, {**rest, **who, "slots": 4, "busy": 2, **times, **more})


BUSY = Overview(
    NOW,
    [a_worker(number) for number in range(30)],
    [WaitingRuns(f"pool-{number}", 1000 * number, 60.0 * number, None) for number in range(1, 9)],
    3,
    4,
    250,
    [a_run(number, progress=number / 200, message="some words that are long " * 5) for number in range(200)],
    [a_run(number, "failed" if number % 10 == 9 else "succeeded") for number in range(100)],
    [DueSchedule(f"job-{number}", "daily", moment(3600 * number)) for number in range(50)],
    [],
    [],
    [],
)
IDLE = Overview(NOW, [], [], 0, 0, 0, [], [], [], [], [], [])


def picture(shown: Overview | None, width: int, height: int | None, trouble: str = "") -> list[str]:
    console = Console(width=width, height=height or 200, color_system=None)
    with console.capture() as captured:
        console.print(draw(shown, "sqlite:///x.db", width, height, trouble))
    return captured.get().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (100, 30), (60, 16)])
@pytest.mark.parametrize("trouble", ["", "the database is away"])
def test_a_frame_fits_its_terminal(width: int, height: int, trouble: str) -> None:
    lines = picture(BUSY, width, height, trouble)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert any(re.search(r"… and \d+ more", line) for line in lines)
    assert lines[1].strip() == trouble or not trouble
    for title in ("Fleet 30", "Queue 8", "Running 250", "Ended 10 of the last 100 failed", "Next"):
        assert any(title in line for line in lines), title


def test_what_was_not_read_is_counted_or_said() -> None:
    more = BUSY._replace(overdue=[OverdueView("a", NOW, NOW, NOW)] * 50, more_overdue=20, failures=BUSY.ended[:50])
    assert re.search(r"(?s)… and 68 more\n.*… and \d+ more at least", "\n".join(picture(more, 80, 40)))


def test_what_is_held_late_or_failed_comes_first() -> None:
    hold = HoldView(3, "etl", None, None, "the \x1bwarehouse moves", None, NOW, "ann", None, None)
    late = OverdueView("load", moment(-60), moment(-1), moment(-9000))
    shown = BUSY._replace(
        holds=[hold] * 9,
        overdue=[late],
        failures=[a_run(number, "failed", reason="exit code 3") for number in range(50)],
        queued=[WaitingRuns("etl", 7, 5.0, hold.sentence)],
    )
    for width, height in ((80, 24), (160, 50)):
        lines = picture(shown, width, height)
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        order = ["hold 3 of pool etl: the  warehouse moves", "… and 7 more", "load is overdue", "Failed", "Fleet"]
        places = [text.index(words) for words in order]
        assert places == sorted(places)
        assert "exit code 3" in text
        assert " held" in text


def test_an_empty_frame_says_what_to_do() -> None:
    lines = picture(IDLE, 80, 24)
    text = "\n".join(lines)
    for words in ("`jobfac worker` starts one", "no queued runs", "no running runs", "no ended runs", "no schedule"):
        assert words in text
    assert len(lines) <= 10
    assert picture(None, 80, 24, "no way")[1].strip() == "no way"
    assert "connecting to" in picture(None, 80, 24)[1]


def test_problems_are_shown_in_words_not_only_colours() -> None:
    shown = IDLE._replace(
        workers=[
            a_worker(1, lease_until=moment(-3), seen_at=moment(-18)),
            a_worker(2, state="draining"),
            a_worker(3, pools=["gpu"]),
        ],
        queued=[WaitingRuns(pool, 7, 5.0, None) for pool in ("@worker:worker-03", "gpu", "nobody")],
        held=3,
        running=[
            a_run(1, progress=0.5, message="\x1b[2Jhalf\nway", attempt=2),
            a_run(2, "stopping", ended_at=None),
            a_run(3, kind="sequence", worker=None),
        ],
        ended=[
            a_run(4, "timed_out", reason="ran longer than 1s"),
            a_run(5, exit_message="12 files", state="succeeded"),
        ],
        due=[DueSchedule("late", "daily", moment(-90))],
    )
    lines = picture(shown, 120, None)
    text = "\n".join(lines)
    expected = ("silent 18s", "draining", "50% attempt 2", "half way", "stopping", "sequence", "timed out: ran longer",
                "12 files", "late 1m30s")  # fmt: skip
    for words in expected:
        assert words in text, words
    assert "\x1b" not in text
    assert "2 workers" in lines[1], "one of the three is silent"
    pools = [line.rstrip() for line in lines if re.search(r"  (gpu|nobody|@worker:worker-03) ", line)]
    assert [line.endswith("no worker") for line in pools] == [False, False, True]


def test_space_is_shared_and_failures_keep_half_of_theirs() -> None:
    assert share(18, (30, 250, 100), (2, 4, 3)) == [5, 7, 6]
    assert share(100, (3, 1, 12), (2, 4, 3)) == [3, 1, 12]
    shown = pick(BUSY.ended, 6)
    assert [run.id for run in shown] == [0, 1, 2, 9, 19, 29]
    assert len(pick(BUSY.ended, 100)) == 100


# The terminal


def test_in_a_terminal_it_follows_a_fleet_until_q(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    said = """echo '{"progress": 0.25, "message": "a quarter"}' >> "$JOBFAC_REPORT"; echo said in its output; """
    report = f"{said} read x < fifo"
    os.mkfifo(fleet.folder / "fifo")
    fleet.define(slow={"command": ["sh", "-c", report], "directory": str(fleet.folder)}, bad={"command": ["false"]})
    fleet.worker("w1", slots=3)
    fleet.one("bad")
    with terminal(fleet.factory, "--interval", "0.2") as shown:
        shown.shows("exit code 1")
        slow = fleet.start("slow")[0]
        shown.shows("a quarter")
        shown.resize(160, 50)
        shown.shows("took")  # shown only on a wide terminal
        (fleet.folder / "fifo").write_text("go on\n")
        fleet.wait(slow)
        shown.shows("no running runs")
        shown.type(b"j\r")  # the first of the ended runs
        shown.shows(f"run {slow} ")
        shown.shows("said in its output")
        shown.type(b"b")
        shown.shows("no running runs")
        assert shown.press(b"q") == 0
    once = fleet.factory.run("top")
    assert re.search(r"✔ \d+ slow", once.stdout)
    assert "\x1b" not in once.stdout


def test_a_signal_restores_the_terminal(sqlite_factory: Factory) -> None:
    with terminal(sqlite_factory) as shown:
        shown.shows("no schedule is due")
        shown.process.terminate()
        assert shown.process.wait(10) == 128 + signal.SIGTERM
        shown.read()
        assert b"\x1b[?1049l" in shown.painted
        assert termios.tcgetattr(shown.screen)[3] & termios.ICANON


def test_it_waits_for_an_unreachable_database(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.environment["JOBFAC_DATABASE_URL"] = factory.url.replace("jobfac.db", "later.db")
    assert "jobfac db upgrade" in factory.run("top", "--once", code=5).stderr
    with terminal(factory, "--interval", "0.2") as shown:
        shown.shows("There is no database file")
        later = Database(factory.environment["JOBFAC_DATABASE_URL"])
        later.upgrade()
        shown.shows("no running runs")
        with later.begin() as conn:
            conn.exec_driver_sql("ALTER TABLE schedule RENAME TO gone")
        shown.shows(" old: A part of the database's schema is missing")
        with later.begin() as conn:
            conn.exec_driver_sql("ALTER TABLE gone RENAME TO schedule")
        later.close()
        shown.shows("no schedule is due")
        assert shown.press(b"\x03") == 0


# The keys


def test_keys_choose_a_run_and_open_its_output() -> None:
    assert read_keys(b"jK\x1b[A\x1b[B\r?\x1bq") == ["down", "up", "up", "down", "open", "back", "quit"]
    runs_ = [5, 4, 9]
    nothing = Selection()
    assert react(nothing, "down", runs_) == Selection(5)
    assert react(nothing, "up", runs_) == Selection(9)
    assert react(nothing, "open", runs_) == nothing
    assert react(Selection(5), "down", runs_) == Selection(4)
    assert react(Selection(9), "down", runs_) == Selection(9)
    assert react(Selection(7), "down", runs_) == Selection(5)  # it is no longer on the screen
    opened = react(Selection(4), "open", runs_)
    assert opened == Selection(4, 4)
    assert react(opened, "down", runs_) == opened
    assert react(opened, "back", runs_) == Selection(4)
    assert react(opened, "quit", runs_) is None
    assert react(nothing, "down", []) == nothing


def test_every_list_shows_run_ids_and_failures_have_a_span() -> None:
    ids = listed(BUSY, 40)
    shown = "\n".join(picture(BUSY, 120, 40))
    assert ids
    for run_id in ids:
        assert re.search(rf"\b{run_id}\b", shown), run_id
    assert re.search(r"failed in \d+", shown)
