"""What a worker holds: no reason shows a secret, and a run that may kill its worker is neither forgotten nor joined."""

import contextlib
import json
import os
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from jobfac.database.engine import Database
from jobfac.definitions import Job
from jobfac.programs.guardian import clock
from jobfac.programs.usage import Exit
from jobfac.scheduler import Scheduler
from jobfac.settings import Settings
from jobfac.store.workers.suspects import Waiting
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions.deliveries import events_of_fenced
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.held import Executions
from jobfac.worker.executions.lifecycle import KILL_ANSWERED
from jobfac.worker.worker import Worker
from tests.support.factory import wait_for
from tests.unit.worker.test_launch import claimed


def test_the_reason_of_a_run_that_is_given_back_shows_no_sensitive_value(tmp_path: Path) -> None:
    job = Job.model_validate({"command": ["true"], "parameters": {"token": {"sensitive": True}}})
    execution = Execution(claimed(sensitive=json.dumps({"token": "hunter22"})), job, "token", tmp_path, SILENCE)
    execution.places()
    execution.requeue("no space for hunter22")
    assert execution.outcome(0.5).reason == "not started: no space for ********"


def test_a_busy_worker_that_makes_room_for_a_suspected_run_claims_nothing() -> None:
    spool, guardian, watcher, telemetry, old_files, health = (MagicMock() for _ in range(6))
    held = Executions(spool, guardian, watcher, telemetry, old_files, lambda: True, lambda: None, health, Settings())
    held.live[1, 1] = MagicMock()
    assert not held.claims_nothing()
    held.found_waiting(Waiting(frozenset({2})), is_single=True)
    assert held.claims_nothing()
    held.live.clear()
    assert not held.claims_nothing(), "it claims the run"


def test_a_program_that_outlives_kill_does_not_keep_its_worker_from_registering_again() -> None:
    """It may be stuck in the kernel for hours, and other programs need no drive."""
    spool, guardian, watcher, telemetry, old_files, health = (MagicMock() for _ in range(6))
    held = Executions(spool, guardian, watcher, telemetry, old_files, lambda: True, lambda: None, health, Settings())
    stuck = MagicMock(
        key=(7, 2), ended_in_time=False, is_reported=False, process=MagicMock(pid=os.getpid(), refuses=False)
    )
    stuck.is_over.return_value = False
    held.live[stuck.key] = stuck
    assert not held.gather_in_time(time.monotonic())
    long_ago = time.monotonic() - KILL_ANSWERED - 1
    stuck.process.refuses = True
    assert not held.gather_in_time(long_ago), "as another user it works on, and its worker may get the same run again"
    stuck.process.refuses = False
    assert held.gather_in_time(long_ago)
    (fenced,) = events_of_fenced(held.living(), "w1", "it lost its lease")
    assert fenced.detail == "it lost its lease and has sent KILL, which has not ended it yet"
    stuck.is_over.return_value = True
    ends = {
        Exit(None, 9, 0.0): "it lost its lease and ended it",
        Exit(0, None, 0.0): "it lost its lease; its program had already ended with exit code 0; the result was "
        "discarded",
    }
    for end, sentence in ends.items():
        stuck.process.exit, stuck.process.was_signalled = end, False
        assert [one.detail for one in events_of_fenced(held.living(), "w1", "it lost its lease")] == [sentence]
    stuck.is_over.return_value = False
    held.fence("its worker lost its lease")
    assert (held.live, held.keeper.fenced) == ({}, [stuck])
    assert [(one.run_id, one.event) for one in held.events] == [(7, "kill_unanswered")]


def test_what_ends_after_the_guardian_may_have_acted_has_not_ended_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at what other programs have left took longer than the guardian waits. Its KILL was stored as `failed`."""
    monkeypatch.setattr("jobfac.worker.executions.held.kill_all", lambda processes: None)
    spool, guardian, watcher, telemetry, old_files, health = (MagicMock() for _ in range(6))
    held = Executions(spool, guardian, watcher, telemetry, old_files, lambda: True, lambda: None, health, Settings())
    until = clock() + 0.2

    def slow() -> bool:
        wait_for(lambda: clock() >= until, "the guardian may act")
        return True

    early, late, later = MagicMock(ended_in_time=False), MagicMock(), MagicMock()
    early.is_over.return_value, late.is_over, later.is_over.return_value = True, slow, True
    held.live = {(number, 1): one for number, one in enumerate((early, late, later))}
    held.kill(until)
    assert [one.ended_in_time for one in (early, late, later)] == [True, False, False]
    held.kill()
    assert early.ended_in_time


def test_poison_attempts_of_the_settings_reach_the_expiry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(spool=str(tmp_path), poison_attempts=7)
    expire = MagicMock()
    monkeypatch.setattr("jobfac.worker.worker.expire_dead", expire)
    Worker(Database(f"sqlite:///{tmp_path}/jobfac.db"), settings, name="w1", slots=1)._expire_dead()
    assert expire.call_args.args[-1].poison_attempts == 7
    db = MagicMock()
    with contextlib.suppress(TypeError):  # the answer is none
        Scheduler(db, settings, "s1")._expire()
    assert db.transact.call_args.kwargs["poison_attempts"] == 7
