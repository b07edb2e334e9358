"""No program outlives its worker, whether the worker is killed or frozen, or the guardian has died."""

import contextlib
import fcntl
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.cli.commands import roles
from jobfac.machine.marks import MARK
from jobfac.programs import Guardian, Process, StartError, guardian, kill_marked
from jobfac.programs.guardian import Guarded
from jobfac.programs.tree import Table, entry
from tests.support.process_stage import ZOO, Stage, lives, until


class Worker:
    """The minimal worker of the zoo."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.count = 0
        self.process = subprocess.Popen(
            [sys.executable, str(ZOO / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, line: str) -> str:
        """Send one line; returns its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def start(self, *argv: str) -> int:
        self.count += 1
        return int(self.tell(shlex.join(["start", f"{self.token}/{self.count}/1", *argv])))

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker(stage: Stage) -> Iterator[Worker]:
    made = Worker(stage.token)
    guardian = int(made.tell("guardian"))
    yield made
    made.end()
    until(lambda: not lives(guardian))


def guarding(process: Process) -> Guarded:
    guarded = Guarded()
    for line in (f"+ {process.marker}", f"= {process.marker} {process.pid}"):
        assert guarded.process_line(line)
    return guarded


def marked(token: str) -> list[int]:
    """Return all processes whose marker begins with ``token``."""
    by_marker = Table.read().pids_by_marker()
    return [pid for name, pids in by_marker.items() if name.startswith(token) for pid in pids]


def has_read(pid: int) -> bool:
    """Whether the process has read everything from its standard input."""
    left = bytearray(4)
    with Path(f"/proc/{pid}/fd/0").open("rb", buffering=0) as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, left)
    return not any(left)


def pauses(pid: int) -> int:
    """Return how often a process has waited."""
    (line,) = re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(line)


def test_twenty_trees_are_killed_after_the_workers_death(worker: Worker) -> None:
    for _ in range(20):
        worker.start("sh", "-c", "setsid sleep 600 & sleep 600 & wait")
    until(lambda: len(marked(worker.token)) == 60)
    members = marked(worker.token)
    worker.process.kill()
    until(lambda: not any(map(lives, members)))


def test_a_guardian_without_free_descriptors_kills_when_there_is_one(worker: Worker) -> None:
    program = worker.start("sh", "-c", "setsid sleep 600 & wait")
    until(lambda: len(marked(worker.token)) == 2)
    (escaped,) = {*marked(worker.token)} - {program}
    until(lambda: os.getsid(escaped) == escaped)
    guardian = int(worker.tell("guardian"))
    until(lambda: has_read(guardian))
    limits = resource.prlimit(guardian, resource.RLIMIT_NOFILE)
    resource.prlimit(guardian, resource.RLIMIT_NOFILE, (3, limits[1]))
    before = pauses(guardian)
    worker.process.kill()
    worker.process.wait()
    until(lambda: pauses(guardian) > before + 3)  # it tries, and tries again
    assert lives(escaped)
    resource.prlimit(guardian, resource.RLIMIT_NOFILE, limits)
    until(lambda: not lives(program) and not lives(escaped))


def test_a_guardian_without_memory_kills_when_there_is_some(worker: Worker) -> None:
    program = worker.start("sleep", "600")
    guardian = int(worker.tell("guardian"))
    until(lambda: has_read(guardian))
    limits = resource.prlimit(guardian, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{guardian}/statm").read_text().split()[0])
    resource.prlimit(guardian, resource.RLIMIT_AS, (pages * resource.getpagesize(), limits[1]))
    before = pauses(guardian)
    worker.process.kill()
    worker.process.wait()
    until(lambda: not lives(guardian) or pauses(guardian) > before + 3)  # it had enough, or it tries again
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(guardian, resource.RLIMIT_AS, limits)
    until(lambda: not lives(program))


def test_a_guardian_with_a_small_pipe_learns_of_many_programs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives small pipes to a user who has many."""
    monkeypatch.setattr("jobfac.programs.guarding.CAPACITY", 4096)
    guardian = Guardian()
    program, _, _ = stage.start("sleep", "600")
    try:
        guardian.about_to_start(f"{stage.token}/{number}/{'1' * 60}" for number in range(900, 1200))
        guardian.about_to_start([program.marker])
        guardian.started([(program.marker, program.pid)])
        first = guardian.pid
        assert first
        os.kill(first, signal.SIGKILL)
        until(lambda: not lives(first))
        guardian.renewed(600)
        assert guardian.pid != first
        os.close(guardian._pipe)  # as if the worker had died
        until(lambda: program.poll() is not None)
    finally:
        guardian._pipe = os.open(os.devnull, os.O_WRONLY)
        guardian.close()


def test_a_program_with_a_cleared_environment_is_found_by_its_session(worker: Worker) -> None:
    pid = worker.start("env", "-i", "sh", "-c", "sleep 600 & wait")
    until(lambda: not marked(worker.token))
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until(children.read_text)
    child = int(children.read_text())
    worker.process.kill()
    until(lambda: not lives(pid) and not lives(child))


def test_a_frozen_worker_loses_its_programs_and_may_continue(worker: Worker) -> None:
    guardian = int(worker.tell("guardian"))
    pids = [worker.start("sleep", "600") for _ in range(3)]
    worker.tell("renew 0.3")
    began = time.monotonic()
    worker.process.send_signal(signal.SIGSTOP)
    until(lambda: not any(map(lives, pids)))
    assert time.monotonic() - began > 0.2
    worker.process.send_signal(signal.SIGCONT)
    assert int(worker.tell("guardian")) == guardian
    worker.tell("renew 60")
    fresh = worker.start("sleep", "600")
    worker.tell("renew 60")
    assert lives(guardian)
    assert lives(fresh)


def test_a_program_started_after_the_lease_expired_is_killed(worker: Worker) -> None:
    worker.tell("renew 0")
    pid = worker.start("sleep", "600")
    until(lambda: not lives(pid))


def test_a_normal_shutdown_kills_nothing(worker: Worker) -> None:
    pid = worker.start("sleep", "600")
    guardian = int(worker.tell("guardian"))
    assert worker.tell("close") == "closed"
    assert entry(guardian) is None
    worker.end()
    assert lives(pid)
    assert kill_marked(worker.token) == 1


def test_a_program_that_has_ended_is_forgotten(worker: Worker) -> None:
    kept = worker.start("sleep", "600")
    freed = worker.start("sleep", "600")
    worker.tell(f"ended {worker.token}/2/1")
    worker.process.kill()
    until(lambda: not lives(kept))
    assert lives(freed)


def test_a_new_guardian_gets_the_state_of_a_dead_one(worker: Worker) -> None:
    pid = worker.start("sleep", "600")
    first = int(worker.tell("guardian"))
    os.kill(first, signal.SIGKILL)
    until(lambda: not lives(first))
    worker.tell("renew 60")
    second = int(worker.tell("guardian"))
    assert second != first
    assert lives(pid)
    worker.process.kill()
    until(lambda: not lives(pid))


def test_a_new_worker_can_kill_the_programs_of_a_killed_worker_and_guardian(worker: Worker) -> None:
    pids = [worker.start("sleep", "600") for _ in range(3)]
    os.kill(int(worker.tell("guardian")), signal.SIGKILL)
    worker.end()
    assert all(map(lives, pids))
    assert kill_marked(worker.token) == 3
    until(lambda: not any(map(lives, pids)))


def test_polite_signals_do_not_reach_the_guardian(worker: Worker) -> None:
    pid = worker.start("sleep", "600")
    guardian = int(worker.tell("guardian"))
    # Once it has killed a program, its set-up is complete.
    worker.tell("renew 0")
    until(lambda: not lives(pid))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guardian, number)
    worker.tell("renew 0")
    second = worker.start("sleep", "600")
    until(lambda: not lives(second))
    assert int(worker.tell("guardian")) == guardian


def test_a_stopped_guardian_never_blocks_the_worker_and_is_replaced() -> None:
    guardian = Guardian()
    guardian.start()
    first = guardian.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    markers = [f"no-such-program/{number}/1" for number in range(10_000)]
    for _ in range(10):
        guardian.about_to_start(markers)
        guardian.ended(markers)
    assert guardian.pid != first
    guardian.close()
    assert guardian.pid is None
    assert entry(first) is None


def test_without_a_guardian_no_program_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    guardian = Guardian()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(StartError, match="/no/such/python"):
        guardian.about_to_start(["a/1/1"])
    guardian.renewed(10)
    guardian.close()
    guardian.close()
    guardian.renewed(10)
    assert guardian.pid is None


def test_a_role_that_a_job_starts_has_no_mark_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that restarts the worker ends with it, and its leftovers are killed: the new worker is none of them."""
    monkeypatch.setattr("jobfac.telemetry.logs.configure", lambda _: None)
    monkeypatch.setattr(roles, "settings", lambda **_: None)
    soft, hard = resource.getrlimit(MARK)
    resource.setrlimit(MARK, (4711, hard))
    try:
        roles._configured()
        assert resource.getrlimit(MARK) == (hard, hard)
    finally:
        resource.setrlimit(MARK, (soft, hard))


def test_what_descends_from_the_leaders_ends_before_any_environment_is_read(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environments of other processes may take longer than the lease, after which another worker starts the run."""
    process, out, _ = stage.start("sh", "-c", "setsid sleep 600 & echo $!; wait")
    (child,) = stage.numbers(out)
    guarded = guarding(process)
    searches: list[Table] = []
    search = Table.pids_by_marker

    def late(table: Table, since: int = 0) -> dict[str, list[int]]:
        until(lambda: not lives(child) and not lives(process.pid))
        searches.append(table)
        return search(table, since)

    monkeypatch.setattr(Table, "pids_by_marker", late)
    guarded.kill()
    assert searches
    assert guarded.leaders == {}


@pytest.mark.parametrize("flag", [guardian.PROCESS_GROUP, 1 << 20], ids=["new kernel", "old kernel"])
def test_the_group_of_a_program_stands_still_until_the_processes_are_listed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    """Every user of the machine can delay the list. The program went on beside the next attempt on another machine."""
    process, out, _ = stage.start("sh", "-c", "sleep 600 & echo $!; wait")
    (child,) = stage.numbers(out)
    guarded = guarding(process)
    (handle,) = guarded.handles.values()
    read = Table.read

    def late() -> Table:
        monkeypatch.setattr(Table, "read", read)
        until(lambda: all(b") T " in Path(f"/proc/{pid}/stat").read_bytes() for pid in (child, process.pid)))
        return read()

    monkeypatch.setattr(guardian, "PROCESS_GROUP", flag)
    monkeypatch.setattr(Table, "read", late)
    guarded.kill()
    until(lambda: not lives(child) and not lives(process.pid))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_what_hides_in_a_session_of_its_own_ends_with_its_leader(stage: Stage) -> None:
    """As `sudo` with a terminal of its own: when its leader was killed first, nothing told where it came from."""
    process, out, _ = stage.start("sh", "-c", "prlimit --locks=5 env -i setsid sleep 600 & echo $!; wait")
    (hidden,) = stage.numbers(out)
    until(lambda: os.getsid(hidden) == hidden)
    guarded = guarding(process)
    guarded.kill()
    until(lambda: not lives(process.pid) and not lives(hidden))


def test_a_leader_that_ends_as_it_is_named_harms_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _, _ = stage.start("true")
    opened = os.pidfd_open

    def reaped(pid: int) -> int:
        handle = opened(pid)
        until(process.poll)
        return handle

    monkeypatch.setattr(os, "pidfd_open", reaped)
    assert guarding(process).handles == {}
