"""A run with limits: what a worker that cannot keep them says, and how a run ends that hits one."""

import time
from pathlib import Path

import pytest

from jobfac.definitions import DefinitionError, Job, from_data
from jobfac.programs import Limits, Places, StartError, gate
from jobfac.programs.cgroup import Group
from jobfac.states import RunState
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions.execution import Execution
from jobfac.worker.executions.outcome import out_of_memory
from tests.unit.worker.test_launch import claimed


def ended(folder: Path, *command: str) -> Execution:
    """An execution with limits that has ended by itself."""
    job = Job.model_validate({"command": command, "limits": {"memory": "2GiB", "processes": 3}, "aware": False})
    execution = Execution(claimed(), job, "token", folder, SILENCE)
    assert execution.begin() is None
    end, places = time.monotonic() + 20, Places(lambda: None)
    while not execution.is_over():
        assert time.monotonic() < end
        execution.tick(time.monotonic(), places)
        time.sleep(0.002)
    return execution


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cgroup that every program gets."""
    folder = tmp_path / "group"
    folder.mkdir()

    class Made:
        def group(self, name: str, limits: Limits) -> Group:
            assert limits == Limits(2 << 30, None, 3)
            return Group(folder)

    monkeypatch.setattr(gate, "delegation", Made)
    return folder


def test_a_run_that_hits_its_memory_limit_says_so(tmp_path: Path, group: Path) -> None:
    (group / "memory.events").write_text("oom 0\noom_kill 1\n")
    (group / "memory.peak").write_text("2147483648\n")
    outcome = ended(tmp_path, "sh", "-c", "kill -KILL $$").outcome(0.5)
    assert outcome.reason == "killed by signal 9 (SIGKILL); the machine, or a limit above its worker, was out of memory"
    (group / "memory.events").write_text("oom 1\noom_kill 1\n")
    outcome = ended(tmp_path, "sh", "-c", "kill -KILL $$").outcome(0.5)
    assert (outcome.state, outcome.reason) == (RunState.FAILED, "out of memory (limit 2 GiB)")
    assert (outcome.signal, outcome.peak_memory) == (9, 2 << 30)


def test_a_failure_at_the_limit_of_processes_says_so(tmp_path: Path, group: Path) -> None:
    (group / "pids.events").write_text("max 12\n")
    (group / "memory.events").write_text("oom_kill 0\n")
    outcome = ended(tmp_path, "false").outcome(0.5)
    assert outcome.reason == "exit code 1; its limit of processes was reached 12 times"
    outcome = ended(tmp_path, "true").outcome(0.5)
    assert (outcome.state, outcome.reason) == (RunState.SUCCEEDED, None)


def test_the_group_is_removed_with_the_files_of_the_execution(tmp_path: Path, group: Path) -> None:
    (group / "cgroup.procs").unlink(missing_ok=True)
    execution = ended(tmp_path, "true")
    (group / "cgroup.procs").unlink()
    execution.close()
    assert not group.exists()


def test_limits_that_cannot_be_kept_refuse_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise StartError("this worker cannot enforce the job's limits: why; remedy, or remove limits from the job")

    monkeypatch.setattr(gate, "delegation", none)
    execution = ended(tmp_path, "true")
    outcome = execution.outcome(0.5)
    assert (outcome.state, outcome.pid) == (RunState.START_FAILED, None)
    assert (outcome.reason or "").startswith("this worker cannot enforce the job's limits")


def test_amounts_of_memory_are_written_as_in_the_definition() -> None:
    assert [out_of_memory(size) for size in (512 << 20, 1500000001)] == [
        "out of memory (limit 512 MiB)",
        "out of memory (limit 1500000001 bytes)",
    ]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({}, "must have memory, cpu or processes"),
        ({"memory": "1kB"}, "must be at least 1MiB, not '1kB'"),
        ({"memory": "much"}, "must be a size such as 1MiB"),
        ({"cpu": 0}, "must be a number from 0.01 to 1024, not 0"),
        ({"processes": 0}, "must be a whole number from 1 to"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, object], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        from_data({"jobs": {"a": {"command": ["true"], "limits": limits}}})
