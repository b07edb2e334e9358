"""The threads that free and remove files: while one waits for a program, the others go on."""

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import MagicMock

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.definitions import Job
from jobfac.errors import Unreachable
from jobfac.machine import threads
from jobfac.programs import Spool
from jobfac.programs.files import removal
from jobfac.settings import Settings
from jobfac.store import output
from jobfac.telemetry.logs import SILENCE
from jobfac.worker import keeper as keeper_module
from jobfac.worker import shipping
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.report import Report
from jobfac.worker.keeper import Keeper
from jobfac.worker.shipping import Shipper
from jobfac.worker.spool_folder import SpoolFolder
from jobfac.worker.worker import Worker
from tests.support.factory import wait_for
from tests.unit.worker.test_launch import claimed


def executions(folder: Path, number: int) -> list[Execution]:
    """Executions, each with a file that only its end removes."""
    job = Job.model_validate({"command": ["true"], "parameters": {"p": {}}})
    made = []
    for run in range(1, number + 1):
        one = Execution(claimed(run, parameters=json.dumps({"p": 1})), job, "token", folder, SILENCE)
        file_of(one).parent.mkdir()
        file_of(one).touch()
        made.append(one)
    return made


def file_of(execution: Execution) -> Path:
    return Path(execution.report.path)


@pytest.fixture
def excess() -> threading.Event:
    return threading.Event()


@pytest.fixture
def over() -> list[tuple[Execution, Any]]:
    """Ended executions whose outcomes are not stored yet."""
    return []


@pytest.fixture
def keeper(
    monkeypatch: pytest.MonkeyPatch, excess: threading.Event, over: list[tuple[Execution, Any]]
) -> Iterator[Keeper]:
    monkeypatch.setattr(keeper_module, "INTERVAL", 0.01)
    monkeypatch.setattr(keeper_module, "PATIENCE", 0.05)
    made = Keeper(MagicMock(is_left=False), MagicMock(), list, over.copy, excess.set, SILENCE)
    yield made
    made.close()


def test_files_are_removed_while_one_cannot_be(keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, *others = executions(tmp_path, 5)
    removed = threading.Event()
    monkeypatch.setattr(stuck.report, "close", lambda: removed.wait(60))
    keeper.start()
    keeper.remove([stuck])
    keeper.remove(others)
    wait_for(lambda: not any(file_of(one).exists() for one in others), "the others are removed")
    assert file_of(stuck).exists()
    removed.set()


def test_what_an_ended_program_does_not_need_is_freed_before_its_outcome_is_stored(
    keeper: Keeper, tmp_path: Path, over: list[tuple[Execution, Any]]
) -> None:
    """The disk may be full, so that the outcome cannot be stored: both would wait for each other."""
    (one,) = executions(tmp_path, 1)
    one._launch.spools["stdout"] = spool = Spool(tmp_path / "1-1.stdout", 1000)
    os.write(spool.fd, b"x" * (8 << 20))
    one.room.program_ended(is_left=False)
    over.append((one, None))
    keeper.start()
    wait_for(lambda: os.fstat(spool.fd).st_blocks * 512 < 1 << 20, "its disk is freed")
    spool.close(delete=True)


def test_without_a_thread_files_are_removed_at_once(keeper: Keeper, tmp_path: Path) -> None:
    (one,) = executions(tmp_path, 1)
    keeper.remove([one])
    assert not file_of(one).exists()


def test_an_excess_wakes_the_loop(keeper: Keeper, tmp_path: Path, excess: threading.Event) -> None:
    (one,) = executions(tmp_path, 1)
    one.room.excess = "its report takes too much"
    keeper.fenced.append(one)
    keeper.start()
    assert excess.wait(60)


def test_a_look_that_fails_ends_no_thread(
    keeper: Keeper, tmp_path: Path, excess: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = executions(tmp_path, 2)
    monkeypatch.setattr(bad.room, "look", None)
    good.room.excess = "its report takes too much"
    keeper.fenced += [bad, good]
    keeper.start()
    assert excess.wait(60)


def test_fenced_output_that_is_not_stored_is_left_to_the_next_worker(keeper: Keeper, tmp_path: Path) -> None:
    shipped, unshipped = executions(tmp_path, 2)
    spool = unshipped.spools["stdout"] = Spool(file_of(unshipped).with_suffix(".stdout"), 1000)
    keeper.fence([shipped, unshipped])
    shipped.fail_start("it never began")
    shipped.is_shipped = True
    keeper.remove_shipped()
    assert not file_of(shipped).exists()
    assert not keeper._spool.is_left
    keeper.close()
    assert keeper._spool.is_left
    assert Path(spool.path).exists()


def test_output_that_a_database_refuses_for_long_is_left_to_the_next_worker(
    keeper: Keeper, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is simulated: none is known. It ended a worker that came back after an outage."""
    (one,) = executions(tmp_path, 1)
    one.spools["stdout"] = spool = Spool(tmp_path / "1-1.stdout", 1000)
    os.write(spool.fd, b"paid")
    db = Database(sqlite_url)
    shipper = Shipper(db, 1.0, "w", keeper, lambda: None)

    def fail(*_: object) -> NoReturn:
        raise sa.exc.DataError("INSERT", None, Exception("refused"))

    with monkeypatch.context() as patch:
        patch.setattr(output, "append", fail)
        with pytest.raises(Unreachable, match="The database answers with an error: refused"):
            shipper.ship_rest([one])
        assert not one.is_shipped
        patch.setattr(shipping, "UNKNOWN_FOR", -1.0)
        assert not shipper.ship_rest([one])
    assert (one.is_shipped, one.leaves_output) == (True, True)
    one.close()
    assert Path(spool.path).exists()
    db.close()


def test_files_of_a_program_that_outlives_kill_are_kept_until_it_ends(keeper: Keeper, tmp_path: Path) -> None:
    (one,) = executions(tmp_path, 1)
    keeper.fence([one])
    one.is_shipped = True
    one.process = MagicMock(**{"poll.return_value": None})
    keeper.remove_shipped()
    assert (keeper.fenced, file_of(one).exists()) == ([one], True)
    one.process = MagicMock(**{"leftovers.return_value": []})
    keeper.remove_shipped()
    assert (keeper.fenced, file_of(one).exists()) == ([], False)


@pytest.mark.parametrize("whose", ["a dead worker", "a worker that leaves"])
def test_a_folder_whose_removal_waits_delays_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """A process may be inside one write to a file in it for minutes."""
    monkeypatch.setattr(removal, "PATIENCE", 0.01)
    dead = tmp_path / "dead"
    begun: list[str] = []
    goes_on = threading.Event()
    remove = Path.unlink

    def waits(path: Path) -> None:
        begun.append(path.suffix)
        goes_on.wait(60)
        remove(path)

    monkeypatch.setattr(Path, "unlink", waits)
    (dead / "1-1-x").mkdir(parents=True)
    for file in (dead / "lock", dead / "1-1-x/1-1.secrets", dead / "1-1-x/1-1.stdout"):
        file.touch()
    other = os.open(dead / "lock", os.O_RDWR)
    db = MagicMock()
    db.query.return_value = []
    if whose == "a dead worker":
        db.query.side_effect = [[1], [], None]  # it is known, it left no execution, and none of this number
        SpoolFolder(tmp_path, "living", "w1").clear_dead(db)
    else:
        own = SpoolFolder(tmp_path, "dead", "w1")
        own.ensure()
        other = os.open(dead / "lock", os.O_RDWR)
        own.close()
    wait_for(lambda: begun == [".stdout"], "it has begun, with what needs the other files")
    with pytest.raises(BlockingIOError):  # nobody takes it for the folder of a dead worker, and waits, too
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    goes_on.set()
    fcntl.flock(other, fcntl.LOCK_EX)
    assert not dead.exists()
    assert begun == [".stdout", ".secrets"]
    os.close(other)


def test_a_worker_that_leaves_stores_the_output_of_fenced_programs_first(tmp_path: Path) -> None:
    settings = Settings(spool=str(tmp_path))
    worker = Worker(Database(f"sqlite:///{tmp_path}/jobfac.db"), settings, name="w1", slots=1)
    worker._lease.adopt(1, time.monotonic())
    worker._phases.signal(time.monotonic(), gives_up=False)
    assert worker._is_done()
    (one,) = executions(tmp_path, 1)
    worker._held.keeper.fence([one])
    assert worker._is_done(), "its program lives: nobody waits for that"
    one.fail_start("it never began")
    assert not worker._is_done()
    one.is_shipped = True
    assert worker._is_done()
    one.is_shipped = False
    worker._phases.gives_up = True
    assert worker._is_done()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """As long as it is not set, who reads the report of run 1 waits for its owner."""
    answers, read = threading.Event(), Report.read

    def play(report: Report, *given: Any, **options: Any) -> bool:
        if "/1-1-" in report.path:
            answers.wait()
        return read(report, *given, **options)

    monkeypatch.setattr(Report, "read", play)
    return answers


def test_the_loop_reads_no_report_of_another_user(
    keeper: Keeper, excess: threading.Event, tmp_path: Path, reads: threading.Event
) -> None:
    (one,) = executions(tmp_path, 1)
    file_of(one).write_text('{"result": "failed"}')
    one.requeue("it has ended")
    one.report.is_foreign = True
    assert keeper.read_report(one, 100) is None
    assert one.shipping.locked(), "it is being read"
    assert keeper.read_report(one, 100) is None
    reads.set()
    assert excess.wait(30), "the loop is woken"
    assert keeper.read_report(one, 100) is True
    assert (one.report.result, one.shipping.locked()) == ("failed", True)


def test_a_report_whose_owner_lets_its_reader_wait_delays_the_end_of_no_other_run(
    sqlite_url: str, keeper: Keeper, tmp_path: Path, reads: threading.Event
) -> None:
    first, other = executions(tmp_path, 2)
    first.report.is_foreign = True
    for one in (first, other):
        file_of(one).write_text('{"progress": 0.5}\n')
    keeper.read_foreign([first, other])
    assert (first.shipping.locked(), other.shipping.locked()) == (True, False)
    with contextlib.closing(Database(sqlite_url)) as db:
        Shipper(db, 1.0, "w1", keeper, lambda: None).ship([first, other])
    assert (first.report.progress, other.report.progress) == (None, 0.5)
    reads.set()
    wait_for(lambda: first.report.progress, "it was read")


def test_one_thread_at_a_time_parses_reports_of_other_users(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at once would keep the processor from the loop."""
    most, now, parse = 0, 0, Report._parse

    def note(report: Report, line: bytes) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        time.sleep(0.01)
        found = parse(report, line)
        now -= 1
        return found

    monkeypatch.setattr(Report, "_parse", note)
    made = executions(tmp_path, 8)
    for one in made:
        file_of(one).write_text("{}\n{}")
        one.report.is_foreign = True
        assert keeper.read_report(one, 100) is None
    wait_for(lambda: all(one.report.is_at_end for one in made), "all are read")
    assert most == 1


def test_without_a_thread_the_loop_does_not_read_the_report_of_another_user(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("no thread")

    monkeypatch.setattr(threads, "begin", refuse)
    (one,) = executions(tmp_path, 1)
    one.report.is_foreign = True
    assert keeper.read_report(one, 100) is None
    assert (one.report.is_at_end, one.shipping.locked()) == (False, False), "the next tick tries again"
