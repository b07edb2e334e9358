"""The reaction of a worker to faults of the machine that prevent starts."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.programs import StartError
from jobfac.store.workers.draining import LEAVING
from jobfac.telemetry.logs import SILENCE
from jobfac.worker import health as health_module
from jobfac.worker.health import LONGEST_PAUSE, Condition, Health, examine, machine_fault


def test_a_fault_stops_the_claims_until_the_machine_is_well() -> None:
    health = Health(SILENCE)
    assert (health.starts(4), health.to_show(), health.retry_at) == (4, None, None)
    health.fault("no space in /spool", 100.0)
    assert (health.starts(4), health.to_show(), health.retry_at) == (0, "unhealthy: no space in /spool", 101.0)
    health.shown("unhealthy: no space in /spool")
    assert health.to_show() is None
    health.examined(None, 101.0)
    assert (health.starts(4), health.starts(0), health.to_show(), health.retry_at) == (1, 0, "", None)
    health.started()
    assert (health.starts(4), health.condition) == (4, Condition.WELL)


def test_a_worker_that_drains_says_so_while_it_has_runs() -> None:
    health = Health(SILENCE)
    health.leaves(still_runs=False)
    assert health.to_show() is None
    health.leaves(still_runs=True)
    health.fault("no space in /spool", 100.0)
    assert health.to_show() == LEAVING
    health.shown(None)
    assert health.to_show() == LEAVING
    health.shown(LEAVING)
    assert health.to_show() is None


def test_the_pauses_grow_until_a_program_starts() -> None:
    health = Health(SILENCE)
    health.fault("out of memory", 0.0)
    health.fault("out of memory", 0.5)
    assert health.retry_at == 1.0, "faults of one batch count as one"
    pauses, now = [], 1.0
    for _ in range(7):
        health.examined("out of memory", now)
        assert health.retry_at is not None
        pauses.append(health.retry_at - now)
        now = health.retry_at
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, LONGEST_PAUSE]
    health.examined(None, now)
    health.fault("out of memory", now)
    assert health.retry_at == now + LONGEST_PAUSE
    health.examined(None, now)
    health.started()
    health.fault("out of memory", now)
    assert health.retry_at == now + 1.0


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.ENOSPC, "no space in /spool"),
        (errno.EMFILE, "too many open files in this worker"),
        (errno.EDQUOT, "no space in /spool (quota)"),
        (errno.ENFILE, "too many open files on this machine"),
        (errno.EAGAIN, "no more processes can be started"),
        (errno.ENOMEM, "out of memory"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
        (errno.E2BIG, None),
    ],
)
def test_errors_of_the_machine_are_recognised(number: int, fault: str | None) -> None:
    error = OSError(number, os.strerror(number))
    assert machine_fault(error, Path("/spool")) == fault
    wrapped = StartError("it cannot start")
    wrapped.__cause__ = error
    assert machine_fault(wrapped, Path("/spool")) == fault
    assert machine_fault(StartError("no cause"), Path("/spool")) is None


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EROFS, "read-only file system in /spool"),
        (errno.EIO, "input/output error in /spool"),
        (errno.ESTALE, "stale file handle in /spool"),
        (errno.EUCLEAN, "structure needs cleaning in /spool"),
        (errno.EBADMSG, "bad message in /spool"),
        (errno.ENOTCONN, "transport endpoint is not connected in /spool"),
    ],
)
def test_a_faulty_disk_is_a_fault_of_the_machine_only_if_the_spool_lies_on_it(number: int, fault: str) -> None:
    error = OSError(number, "test")
    assert machine_fault(error, Path("/spool")) == fault
    wrapped = StartError("a program or a file of the job")
    wrapped.__cause__ = error
    assert machine_fault(wrapped, Path("/spool")) is None


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 8, hard))  # noqa: PTH208
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_examination_leaves_no_files(tmp_path: Path) -> None:
    assert examine(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert examine(tmp_path / "gone") is None, "the next start makes the folder"
    (tmp_path / "spool").touch()
    way = f"'{tmp_path}/spool' is not a folder; move it away, or choose another folder"
    assert examine(tmp_path / "spool/token") == way
    (tmp_path / "probe").mkdir()
    assert examine(tmp_path) == f"is a directory: {tmp_path}/probe"


def test_a_lack_of_descriptors_is_found(tmp_path: Path, few_descriptors: None) -> None:
    assert examine(tmp_path) == "too many open files in this worker"


def test_ample_descriptors_are_counted_once_a_second_and_scarce_ones_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    rooms = iter([1000, 79, 3, 80, 2])

    def count() -> int:
        counted.append(next(rooms))
        return counted[-1]

    monkeypatch.setattr(health_module, "room_for_programs", count)
    limits = iter([1024] * 6 + [512])
    monkeypatch.setattr(health_module, "descriptor_limit", lambda: next(limits))
    one = Health(SILENCE)
    assert [one.room(6, 2, now) for now in (10.0, 10.9)] == [6, 6]
    assert counted == [1000]
    assert [one.room(6, 2, now) for now in (11.1, 11.2)] == [6, 3]
    assert [one.room(6, 2, now) for now in (11.3, 11.4)] == [6, 6]
    assert counted == [1000, 79, 3, 80]
    assert one.room(6, 2, 11.5) == 2, "the limit has changed"
