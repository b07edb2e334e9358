"""A file server, or a disk that became read-only, is not taken for what it is not."""

import errno
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from jobfac.database.dialects import lease_clock
from jobfac.definitions import Job
from jobfac.machine import trusted
from jobfac.programs import Series
from jobfac.programs.children import children
from jobfac.programs.files.destinations import open_path
from jobfac.secret_references import resolve
from jobfac.settings import Settings
from jobfac.states import JobKind, RunState
from jobfac.store.workers import Claimed
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions import old_files
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.held import Executions
from jobfac.worker.executions.old_files import OldFiles
from jobfac.worker.health import Health
from jobfac.worker.spool_folder import SpoolFolder
from tests.hostile.others import needs_root
from tests.support.factory import wait_for
from tests.support.process_stage import finish
from tests.unit.worker.test_launch import claimed

NOW = datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC)
YEAR = 365 * 86400.0


class Ahead(datetime):
    """A clock that is a year ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=YEAR)


def execution(folder: Path, output: Any) -> Execution:
    job = Job.model_validate({"command": ["true"], "output": output})
    claimed = Claimed(
        id=1, job="job", job_version=1, kind=JobKind.PROGRAM, attempt=1, failures=0, priority=0, arguments=None,
        payload=None, sequence_run_id=None, queue="", created_at=NOW, started_at=NOW, notify=None,
    )  # fmt: skip
    return Execution(claimed, job, "token", folder, SILENCE)


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A log on which this process has a lease, as Samba has on a file that a client reads; and the open file."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for the lease with this signal
    path = tmp_path / "out.log"
    with path.open("w") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield path, file
    signal.signal(signal.SIGIO, before)


def test_an_output_file_that_is_reserved_does_not_make_the_worker_unhealthy(
    leased: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = execution(tmp_path, {"stdout": {"append": str(leased[0])}})
    assert one.begin() is None
    assert one.process is not None
    finish(one.process)
    outcome = one.outcome(0.5)
    assert outcome.state == RunState.START_FAILED, outcome.reason
    assert "another program, such as a file server, has reserved it" in str(outcome.reason)


def test_a_worker_whose_own_folder_is_gone_opens_files_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a deployment that removes the folder of the release from which the worker was started."""
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    (tmp_path / "token").write_text("geheim\n")
    assert resolve(f"file:{tmp_path}/token") == "geheim"
    SpoolFolder(tmp_path / "spool", "token", "w1").begin()
    os.close(open_path("append", tmp_path / "logs/out.log", 1, 1))
    assert (tmp_path / "spool/token/lock").exists()
    assert (tmp_path / "logs/out.log").exists()


def test_no_old_file_is_removed_for_hours_after_the_clock_was_set_forward(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is old for a clock that may be wrong, and does not come back when the clock is right again."""
    old, begun = tmp_path / "out-20200101T000000Z-1.log", time.time()
    old.touch()
    series = [Series(f"{tmp_path}/out-*.log", None, f"{tmp_path}/out-*.log", "job")]
    files = OldFiles(settings, SILENCE)
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: begun + YEAR)
        ahead.setattr(old_files, "datetime", Ahead, raising=False)
        ahead.setattr(lease_clock, "wall_ms", lambda: round((begun + YEAR) * 1000))
        files.after(None, series)
        assert not files.is_at_work, "it does not even look"
        again = OldFiles(settings, SILENCE)
        again.after(None, series)
        wait_for(lambda: not old.exists(), "a worker that knows no other clock removes it")


def test_an_output_file_is_opened_when_the_lease_is_returned(
    leased: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusted, "LEASE", 10.0)
    path, file = leased
    threading.Timer(0.1, fcntl.fcntl, (file, fcntl.F_SETLEASE, fcntl.F_UNLCK)).start()
    assert open_path("append", path, 1 << 20, 1) > 0


def test_runs_are_given_back_if_the_spool_or_the_guardian_has_no_room(tmp_path: Path) -> None:
    children.take_fault()  # of an earlier test
    job, health = Job.model_validate({"command": ["true"]}), Health(MagicMock())
    spool = MagicMock(path=tmp_path, token="token", ensure=MagicMock(side_effect=OSError(errno.ENOSPC, "full")))
    guardian, watcher, telemetry, old_files = (MagicMock() for _ in range(4))
    held = Executions(spool, guardian, watcher, telemetry, old_files, lambda: True, lambda: None, health, Settings())
    held.begin([claimed(1), claimed(2)], {("job", 1): job}, 0, {})
    held.tick((), requeue=False)
    assert [outcome.state for _, outcome in held.over] == [RunState.QUEUED] * 2
    assert (health.is_unhealthy, health.to_show()) == (True, f"unhealthy: no space in {tmp_path}")


@needs_root
def test_a_spool_that_became_read_only_requeues_the_run(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        one = execution(tmp_path, {})
        assert one.begin() == f"read-only file system in {tmp_path}"
        assert one.outcome(0.5).state == RunState.QUEUED
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
