"""Programs that cannot be started: nothing stays open, and the fault is attributed to the run or the machine."""

import errno
import fcntl
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobfac import secret_references
from jobfac.definitions import Job
from jobfac.machine import trusted
from jobfac.programs import Places, Series, Signals, failures
from jobfac.programs.files import accounts
from jobfac.programs.files.inquiry import Opened, no_answer
from jobfac.settings import Settings
from jobfac.states import JobKind, RunState
from jobfac.store.workers import Claimed
from jobfac.store.workers.suspects import ALONE, NOTHING, Waiting
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions import environment, old_files
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.lifecycle import FIRST_ROOM, LONGEST_ROOM, Isolation, Stage
from jobfac.worker.executions.old_files import OldFiles
from tests.support.factory import wait_for
from tests.support.process_stage import finish


def claimed(number: int = 1, **more: Any) -> Claimed:
    now = datetime.now(UTC)
    usual: dict[str, Any] = {
        "id": number, "job": "job", "job_version": 1, "kind": JobKind.PROGRAM, "attempt": 1, "failures": 0,
        "priority": 0, "arguments": None, "payload": None, "sequence_run_id": None, "queue": "", "created_at": now,
        "started_at": now, "notify": None,
    }  # fmt: skip
    return Claimed(**(usual | more))


def test_the_cleanups_of_former_values_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = OldFiles(Settings(), SILENCE)
    template = f"{tmp_path}/${{parameters.customer}}/${{parameters.order}}-*.log"

    def after(number: int, job: str = "job") -> int:
        files.after(None, [Series(f"{tmp_path}/{number // 10}/{number}-*.log", None, template, job)])
        wait_for(lambda: not files.is_at_work, "it has ended")
        return len(files._not_before)

    assert [after(number) for number in range(20)] == [1] * 10 + [2] * 10, "one for each folder"
    assert after(19, "other") == 3, "whose path is the same, but not its files"
    begun = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begun + old_files.PAUSE)
    assert after(20) == 1


def test_a_sql_job_is_given_back_if_the_installation_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program is a part of jobfac: it ended as failed, or without the interpreter as start_failed."""
    job = Job.model_validate({"sql": {"connection": {"secret": "env:PATH"}, "text": "SELECT 1"}})
    gone = [(sys, "executable", "/none/python"), (failures, "SCRIPTS", ("sqljob/none.py",))]
    for number, (module, name, value) in enumerate(gone):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            one = Execution(claimed(number), job, "token", tmp_path, SILENCE)
            assert str(one.begin()).startswith("the installation of jobfac under this worker is gone")
            assert one.outcome(0.5).state == RunState.QUEUED
            one.close()


def test_a_folder_that_hangs_keeps_no_other_from_its_cleanup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network drive that is dead."""
    answers, cleaned = threading.Event(), []

    def remove(series: Series, *_: object) -> int:
        if "dead" in series.pattern:
            answers.wait()
        cleaned.append(series.pattern)
        return 0

    monkeypatch.setattr(old_files, "remove_timestamped", remove)
    files = OldFiles(Settings(), SILENCE)
    dead, other = (f"{tmp_path}/{name}/*.log" for name in ("dead", "other"))
    files.after(None, [Series(dead, None, dead, "job")])
    files.after(None, [Series(other, None, other, "job")])
    wait_for(lambda: cleaned == [other], "the other folder was cleaned")
    answers.set()
    wait_for(lambda: not files.is_at_work, "it has ended")


def open_files() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208


@pytest.mark.parametrize("stdout", ["none", "database", {"append": "out.log"}], ids=["none", "database", "file"])
def test_no_descriptor_is_left_when_the_second_stream_cannot_be_opened(tmp_path: Path, stdout: Any) -> None:
    output = {"stdout": stdout, "stderr": {"append": "/proc/no/such"}}
    job = Job.model_validate({"command": ["true"], "directory": str(tmp_path), "output": output})
    before = open_files()
    for number in range(20):
        execution = Execution(claimed(number), job, "token", tmp_path, SILENCE)
        assert execution.begin() is None
        assert execution.process is not None
        finish(execution.process)
        outcome = execution.outcome(0.5)
        assert outcome.state == RunState.START_FAILED
        assert "/proc/no/such" in (outcome.reason or "")
        execution.close()
    assert open_files() == before


def test_the_attempts_of_one_run_share_the_name_of_their_sessions_and_no_other_run_has_it(tmp_path: Path) -> None:
    sql = {"connection": {"secret": f"file:{tmp_path}/url"}, "text": "SELECT 1"}
    job = Job.model_validate({"sql": sql, "directory": "/no/such"})
    (tmp_path / "url").write_text("sqlite://")
    first, names = claimed(), []
    for number, run in enumerate((first, first._replace(attempt=2), claimed(2), claimed())):  # of another factory
        folder = tmp_path / str(number)
        folder.mkdir()
        execution = Execution(run, job, "token", folder, SILENCE)
        execution.begin()
        [script] = folder.rglob("*script")
        names.append(json.loads(script.read_text())["session"])
        execution.close()
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # open descriptors stay open
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("payload", "environment"), [("text", {}), (None, {}), (None, {"TOKEN": {"secret": f"file:{__file__}"}})]
)
def test_a_start_that_fails_because_of_the_machine_requeues_the_run(
    tmp_path: Path, no_descriptors: None, payload: str | None, environment: Any
) -> None:
    job = Job.model_validate({"command": ["true"], "environment": environment})
    execution = Execution(claimed(payload=payload), job, "token", tmp_path, SILENCE)
    assert execution.begin() == "too many open files in this worker"
    outcome = execution.outcome(0.5)
    assert (outcome.state, outcome.pid, execution.stage) == (RunState.QUEUED, None, Stage.OVER)
    assert (outcome.reason or "").startswith("not started: ")
    execution.close()


def test_a_secret_that_cannot_be_read_for_a_moment_puts_the_run_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("geheim-12\n")
    job = Job.model_validate({"command": ["true"], "environment": {"TOKEN": {"secret": f"file:{token}"}}})
    monkeypatch.setattr(trusted, "LEASE", 0.01)
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with token.open("r+") as reserved:  # as a file server does, which has to write what it keeps
        fcntl.fcntl(reserved, 1024, fcntl.F_WRLCK)  # F_SETLEASE
        execution = Execution(claimed(), job, "token", tmp_path, SILENCE)
        assert execution.begin() is None, "the machine is well"
    signal.signal(signal.SIGIO, former)
    outcome = execution.outcome(0.0)
    assert (outcome.state, outcome.retry_after) == (RunState.QUEUED, 10.0)
    assert (outcome.reason or "").startswith(f"not started: the secret file:{token} cannot be read: ")
    execution.close()


def test_a_secret_whose_folder_is_exchanged_meanwhile_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("geheim-12\n")
    answers: list[Any] = [FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), None]

    def exchanged(path: Path) -> int:
        if (error := answers.pop(0)) is not None:
            raise error
        return trusted.open_trusted(path)

    monkeypatch.setattr(secret_references, "open_trusted", exchanged)
    assert secret_references.resolve(f"file:{tmp_path}/token") == "geheim-12"


@pytest.mark.parametrize(("number", "is_in_doubt"), [(signal.SIGKILL, True), (signal.SIGSEGV, False)])
def test_a_question_for_an_account_that_somebody_ends_says_nothing_of_the_user(
    monkeypatch: pytest.MonkeyPatch, number: int, is_in_doubt: bool
) -> None:
    monkeypatch.setattr(accounts, "COMMAND", ("/bin/sh", "-c", f"kill -{number:d} $$"))
    with pytest.raises(OSError, match=f"ended with signal {number:d}") as caught:
        accounts.Accounts().ask("nobody")
    assert isinstance(caught.value, accounts.UserInDoubt) == is_in_doubt


@pytest.mark.parametrize("decides", [False, True], ids=["before", "after the decision"])
@pytest.mark.parametrize("limit", [{"timeout": "1m"}, {"silent_timeout": "1m"}], ids=str)
def test_a_program_that_ended_while_its_worker_stood_still_has_not_timed_out(
    tmp_path: Path, limit: Any, decides: bool
) -> None:
    """``decides``: the worker stands still between its decision and the signal."""
    os.mkfifo(tmp_path / "pipe")
    job = Job.model_validate({"command": ["cat", str(tmp_path / "pipe")], **limit})
    signals = Signals()
    execution = Execution(claimed(), job, "token", tmp_path, SILENCE, signals=signals)
    assert execution.begin() is None
    assert execution.process is not None
    places, began = Places(lambda: None), time.monotonic()
    for later in (0.0, 100.0, 200.0) if decides else (0.0,):
        execution.tick(began + later, places)
    (tmp_path / "pipe").write_bytes(b"")
    os.waitid(os.P_PID, execution.process.pid, os.WEXITED | os.WNOWAIT)  # nobody has noticed it yet
    for later in (100.0, 200.0):
        execution.tick(began + later, places)
        signals.send()
    assert execution.is_over()
    outcome = execution.outcome(0.5)
    assert (outcome.state, outcome.exit_code, outcome.retry_after) == (RunState.SUCCEEDED, 0, None)
    execution.close()


@pytest.mark.parametrize(("most", "losses"), [(3, 2), (2, 1), (1, 1)])
def test_a_run_is_suspected_when_one_more_death_would_end_it(most: int, losses: int) -> None:
    assert Isolation(most, 20.0).suspicion.losses == losses


def test_a_suspected_run_isolates_its_worker_for_ten_minutes_at_most() -> None:
    """A consumer that runs for months kept its worker from everything else."""
    isolation = Isolation(3, 20.0)
    isolation.begins((1, 3), 100.0)
    assert isolation.is_alone(100.0 + ALONE - 1)
    assert not isolation.is_alone(100.0 + ALONE)
    isolation.begins((2, 3), 100.0 + ALONE)
    isolation.forget([(2, 3)])
    assert not isolation.is_alone(100.0 + ALONE)


def test_a_busy_worker_makes_room_for_a_sixth_of_its_time_and_not_while_another_one_does() -> None:
    isolation, one = Isolation(3, 20.0), Waiting(frozenset({1}))
    assert not isolation.found(one, False, 100.0), "an idle worker may take it"
    assert not isolation.found(one._replace(elsewhere=True), False, 130.0)
    now, room = 140.0, FIRST_ROOM
    for _ in range(6):
        assert isolation.found(one, False, now)
        assert not isolation.found(Waiting(frozenset({1, 2})), False, now + 1)
        assert (isolation.makes_room(now + room - 1), isolation.makes_room(now + room)) == (True, False)
        assert not isolation.found(one, False, now + 6 * room - 1), "others would wait for ever for runs that never end"
        now, room = now + 6 * room, min(2 * room, LONGEST_ROOM)
    isolation.found(NOTHING, False, now)
    assert not isolation.makes_room(now + 1)
    assert isolation.wakes_at(None, now) is None
    assert isolation.found(one, True, now + 2), "no other worker could take it"
    times = [isolation.wakes_at(due, now + 2) for due in (now + 2, now + 2.5, now + 9, None)]
    assert times == [now + 2, now + 2.5, now + 3, now + 3], "what is due now is not put off until the next look"
    assert not isolation.makes_room(now + 2 + FIRST_ROOM)


@pytest.mark.parametrize(
    ("value", "more", "state", "says"),
    [
        ("hunter22", {"directory": "{}/${parameters.token}"}, RunState.START_FAILED, "/********' does not exist"),
        ("../hunter22", {"directory": "{}/${parameters.token}"}, RunState.START_FAILED, "is '***********'; give a"),
        ("hunter22", {"output": {"stdout": {"append": "/proc/${parameters.token}/x"}}}, RunState.START_FAILED, "*****"),
        ("hunter22", {"output": {"stdout": {"append": "{}/x-${parameters.token}.log"}}}, RunState.SUCCEEDED, None),
    ],
)
def test_what_is_said_about_a_start_shows_no_sensitive_value(
    tmp_path: Path, value: str, more: Any, state: RunState, says: str | None
) -> None:
    """Viewers read reasons and paths, and so do logs."""
    more = json.loads(json.dumps(more).replace("{}", str(tmp_path)))
    job = Job.model_validate({"command": ["true"], "parameters": {"token": {"sensitive": True}}, **more})
    run = claimed(sensitive=json.dumps({"token": value}))
    execution = Execution(run, job, "token", tmp_path, SILENCE)
    execution.places()
    assert execution.begin() is None
    if execution.process is not None:
        finish(execution.process)
    outcome = execution.outcome(0.5)
    assert outcome.state == state
    assert "hunter" not in f"{outcome.reason} {outcome.paths}"
    assert says is None or says in (outcome.reason or "")
    if says is None:
        assert outcome.paths == {"stdout": f"{tmp_path}/x-********.log"}
        assert (tmp_path / "x-hunter22.log").exists()
    execution.close()


def test_a_folder_that_does_not_answer_is_named_without_its_sensitive_part(tmp_path: Path) -> None:
    job = Job.model_validate(
        {"command": ["true"], "parameters": {"token": {"sensitive": True}}, "directory": "/mnt/${parameters.token}"}
    )
    execution = Execution(claimed(sensitive='{"token": "hunter22"}'), job, "token", tmp_path, SILENCE)
    place, _ = execution.places()
    assert isinstance(place, Opened)
    execution.fail_start(no_answer(place.path, 10))
    reason = execution.outcome(0.5).reason
    assert reason == "'/mnt/********' has not answered for 10 s; check the file system and its server"
    execution.close()


def test_the_marker_of_an_execution_cannot_be_guessed(tmp_path: Path) -> None:
    """With it, a program of another user could count its own processes among those of this one, which would not end."""
    job = Job.model_validate({"command": ["true"]})
    first, second = (Execution(claimed(7), job, "token", tmp_path, SILENCE).marker for _ in range(2))
    assert first.startswith("token/7/1/")
    assert first != second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run programs as another user")
@pytest.mark.parametrize(("user", "folder"), [("root", "/private"), ("nobody", None)])
def test_another_user_is_not_given_the_workers_folder_for_temporary_files(
    user: str, folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "base_environment", lambda: {"TMPDIR": "/private", "SHELL": "/bin/sh"})
    seen = environment.environment_of(user)
    assert (seen.get("TMPDIR"), seen["SHELL"], seen["USER"]) == (folder, "/bin/sh", user)
