"""The reaction of a worker to faults of the machine that prevent starts, and to starts that fail in a row."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.programs import StartError
from jobfac.states import RunState
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from jobfac.store.workers.draining import LEAVING
from jobfac.telemetry.logs import SILENCE
from jobfac.worker import health as health_module
from jobfac.worker.health import LONGEST_PAUSE, Condition, Health, examine, machine_fault
from jobfac.worker.loop.failed_starts import (
    ASK_AGAIN,
    BEFORE,
    CALM,
    DOUBT,
    ENOUGH,
    LOOK_BACK,
    PACE,
    FailedStart,
    FailedStarts,
)

PAY = FailedStart("pay", 3, "there is no program 'pay'")


def test_a_fault_stops_the_claims_until_the_machine_is_well() -> None:
    health = Health(SILENCE)
    assert (health.starts(4, 200.0), health.to_show(), health.retry_at) == (4, None, None)
    health.fault("no space in /spool", 100.0)
    assert (health.starts(4, 200.0), health.to_show(), health.retry_at) == (0, "unhealthy: no space in /spool", 101.0)
    health.shown("unhealthy: no space in /spool")
    assert health.to_show() is None
    health.examined(None, 101.0)
    assert (health.starts(4, 200.0), health.starts(0, 200.0), health.to_show(), health.retry_at) == (1, 0, "", None)
    health.started(200.0)
    assert (health.starts(4, 200.0), health.condition) == (4, Condition.WELL)


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
    health.started(200.0)
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


def failed(*times: float) -> FailedStarts:
    starts = FailedStarts()
    for at in times:
        starts.add(PAY, at)
    return starts


def test_starts_that_fail_in_a_row_slow_the_claims_down_for_a_while() -> None:
    starts = failed(10.0, 10.1)
    assert (starts.most(8, 10.1), starts.wakes_at, starts.to_ask(10.1)) == (8, None, None)
    starts.add(PAY, 10.2)
    assert (starts.most(8, 10.2), starts.wakes_at, starts.goes_on(10.2)) == (0, 10.2 + PACE, False)
    assert starts.goes_on(10.31)
    assert not starts.goes_on(10.32), "it has just said so"
    assert (starts.most(8, 10.32), starts.most(0, 10.32), starts.wakes_at) == (1, 0, None)
    assert starts.most(8, 10.2 + DOUBT) == 8, "the job is at fault"
    starts.add(PAY, 10.3 + DOUBT)
    assert starts.most(8, 10.3 + DOUBT) == 8
    starts.add(PAY, 10.3 + DOUBT + CALM)
    assert starts.most(8, 10.3 + DOUBT + CALM) == 0, "the next doubt"


def test_a_program_that_begins_ends_the_row() -> None:
    starts = failed(10.0, 10.1, 10.2)
    assert not starts.begun(10.15), "since then a start has failed"
    assert starts.most(8, 10.2) == 0
    assert starts.begun(10.25)
    assert (starts.most(8, 10.3), starts.to_ask(10.3)) == (8, None)


def test_other_workers_are_looked_at_after_each_failure_and_later_each_second() -> None:
    starts = failed(10.0, 10.1, 10.5)
    assert starts.to_ask(10.5) == (PAY, 0.5 + BEFORE)
    assert starts.to_ask(10.6) is None, "nothing has failed since"
    starts.add(PAY, 11.0)
    assert starts.to_ask(11.0) == (PAY, 1.0 + BEFORE)
    after = 10.5 + DOUBT
    starts.add(PAY, after)
    assert starts.to_ask(after) is not None
    starts.add(PAY, after + 0.1)
    assert starts.to_ask(after + 0.1) is None
    assert starts.to_ask(after + ASK_AGAIN) is not None
    starts.add(PAY, after + 3600)
    assert starts.to_ask(after + 3600) == (PAY, LOOK_BACK)
    starts.elsewhere = "w2"
    starts.add(PAY, after + 3601)
    assert starts.to_ask(after + 3601) is None, "the answer is known"


def claimed() -> Claimed:
    return Claimed(**{**dict.fromkeys(Claimed._fields), "job": "pay", "job_version": 3})  # type: ignore[arg-type]


def outcome(state: RunState = RunState.START_FAILED, **more: float) -> Outcome:
    return Outcome(1, 1, state, reason="there is no program 'pay'", **more)  # type: ignore[arg-type]


def test_a_machine_that_fails_what_others_start_is_unhealthy_until_a_program_begins() -> None:
    health = Health(SILENCE)
    for number in range(ENOUGH):
        health.compare(lambda start, seconds: "w2", 10.0)
        assert health.condition == Condition.WELL
        health.ended(claimed(), outcome(), None, 10.0 + number / 10)
    health.compare(lambda start, seconds: None, 10.2)
    assert health.condition == Condition.WELL, "nobody has begun such a run"
    health.ended(claimed(), outcome(RunState.QUEUED, retry_after=10.0), None, 10.3)
    health.compare(lambda start, seconds: "w2" if start == PAY else None, 10.3)
    assert (health.condition, health.starts(8, 20.0), health.wakes_at()) == (Condition.UNHEALTHY, 0, 10.4)
    assert health.to_show() == (
        "unhealthy: the last 4 starts failed here, while w2 starts such runs; "
        "the last one, of pay: there is no program 'pay'"
    )
    health.examined(None, 11.3)
    assert health.starts(8, 20.0) == 1
    health.ended(claimed(), outcome(), None, 11.4)
    assert (health.condition, health.retry_at) == (Condition.UNHEALTHY, 13.4), "the pause grows"
    health.examined(None, 13.4)
    health.started(11.0)
    assert health.starts(8, 20.0) == 1, "that program began earlier"
    health.started(13.5)
    assert (health.condition, health.starts(8, 20.0), health.to_show()) == (Condition.WELL, 8, None)


def test_a_run_that_is_put_back_for_another_reason_is_no_failed_start() -> None:
    health = Health(SILENCE)
    for _ in range(2 * ENOUGH):
        health.ended(claimed(), outcome(RunState.QUEUED), None, 10.0)
    assert health.starts(8, 10.0) == 8
