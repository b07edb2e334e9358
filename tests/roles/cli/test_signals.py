"""A role obeys a signal, regardless of which of its threads the kernel delivers it to."""

import ctypes
import signal
from pathlib import Path

import pytest

from tests.support.factory import wait_for
from tests.support.fleet import Fleet


@pytest.mark.parametrize("role", ["worker", "scheduler", "api", "up"])
def test_a_signal_to_any_thread_stops_a_role(sqlite_fleet: Fleet, role: str) -> None:
    words = [role, "--port", "0"] if role in ("api", "up") else [role]
    process = sqlite_fleet.factory.role(*words)
    started = {"up": ["worker", "scheduler", "api"]}.get(role, [role])
    wait_for(lambda: all(f"{one} started" in sqlite_fleet.log(process) for one in started), "started")
    newest = max(int(thread.name) for thread in Path(f"/proc/{process.pid}/task").iterdir())
    assert ctypes.CDLL(None).tgkill(process.pid, newest, signal.SIGTERM) == 0
    assert process.wait(10) == 0


def test_a_terminal_that_is_closed_drains_a_worker(sqlite_fleet: Fleet) -> None:
    sqlite_fleet.define(brief=sqlite_fleet.journal.job(1))
    (run_id,) = sqlite_fleet.start("brief")
    process = sqlite_fleet.worker()
    wait_for(lambda: sqlite_fleet.journal.lines("start"), "running")
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 0
    assert sqlite_fleet.get(run_id)["state"] == "succeeded"
