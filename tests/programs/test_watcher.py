"""The worker's loop is notified of every end once, and of every wake."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from jobfac.programs import ExitWatcher, Process, why_alive
from tests.support.factory import wait_for
from tests.support.process_stage import Stage, finish


@pytest.fixture
def watcher() -> Iterator[ExitWatcher]:
    made = ExitWatcher()
    yield made
    made.close()


def collect(watcher: ExitWatcher, count: int) -> list[Process]:
    found: list[Process] = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += watcher.wait(20)
    return found


def test_each_end_is_reported_once(stage: Stage, watcher: ExitWatcher) -> None:
    processes = [stage.start("sh", "-c", f"exit {code}")[0] for code in range(20)]
    sleeper, _, _ = stage.start("sleep", "600")
    for process in [*processes, sleeper]:
        watcher.add(process)
    found = collect(watcher, 20)
    assert sorted(process.exit.code or 0 for process in found if process.exit) == list(range(20))
    assert set(found) == set(processes)
    assert watcher.wait(0) == set()
    watcher.remove(sleeper)
    watcher.remove(sleeper)
    sleeper.kill()
    finish(sleeper)
    assert watcher.wait(0) == set()


def test_a_process_that_has_already_ended_is_reported_at_once(stage: Stage, watcher: ExitWatcher) -> None:
    process, _, _ = stage.start("true")
    finish(process)
    watcher.add(process)
    assert collect(watcher, 1) == [process]


TRACER = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_SEIZE = 0x4206
print(libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None), ctypes.get_errno(), flush=True)
time.sleep(600)
"""


def test_a_debugger_that_keeps_the_end_of_a_process_back_costs_no_cpu(stage: Stage, watcher: ExitWatcher) -> None:
    process, _, _ = stage.start("sleep", "600")
    watcher.add(process)
    command = [sys.executable, "-c", TRACER, str(process.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != "0 0\n":
            tracer.kill()
            pytest.skip("this user may trace no other process here")
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: f"process {tracer.pid} traces it" in why_alive(process), "the process has ended")
        turns, end = 0, time.monotonic() + 0.5
        while time.monotonic() < end:
            assert watcher.wait(20) == set()
            turns += 1
        assert turns <= 30
        tracer.kill()
    assert collect(watcher, 1) == [process]


def test_without_a_descriptor_a_process_is_polled(stage: Stage, watcher: ExitWatcher) -> None:
    process, _, _ = stage.start("sh", "-c", "until [ -e go ]; do sleep 0.01; done", directory=str(stage.folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        watcher.add(process)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert watcher.wait(0) == set()
    (stage.folder / "go").touch()
    assert collect(watcher, 1) == [process]


def test_any_thread_may_wake_the_loop(stage: Stage, watcher: ExitWatcher) -> None:
    threads = [threading.Thread(target=watcher.wake) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert watcher.wait(None) == set()
    for thread in threads:
        thread.join()
    watcher.wake()
    assert watcher.wait(None) == set()
    assert watcher.wait(0.001) == set()


def test_waking_never_blocks_and_is_harmless_after_the_end(watcher: ExitWatcher) -> None:
    for _ in range(100_000):  # more than the pipe can hold
        watcher.wake()
    assert watcher.wait(None) == set()
    watcher.close()
    watcher.close()
    watcher.wake()
