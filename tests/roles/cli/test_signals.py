"""A role obeys a signal, regardless of which of its threads the kernel delivers it to."""

import ctypes
import signal
from pathlib import Path
from typing import Any

import pytest

from jobfac.cli.signals import on_signal
from jobfac.programs.children import do_nothing
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


def test_a_terminal_that_closes_drains_a_worker(sqlite_fleet: Fleet) -> None:
    says = {"JOURNAL": str(sqlite_fleet.journal.folder)}
    waits = 'touch "$JOURNAL/begun"; until [ -e "$JOURNAL/go" ]; do sleep 0.05; done'
    sqlite_fleet.define(job={"command": ["sh", "-c", waits], "environment": says, "restartable": False})
    process = sqlite_fleet.worker()
    (run_id,) = sqlite_fleet.start("job")
    wait_for((sqlite_fleet.journal.folder / "begun").exists, "the program runs")
    for _ in range(2):  # from the kernel and from the shell
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Stopping: 1 program runs" in sqlite_fleet.log(process), "the worker drains")
    (sqlite_fleet.journal.folder / "go").touch()
    assert (process.wait(10), sqlite_fleet.get(run_id)["state"]) == (0, "succeeded")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, do_nothing])
def test_under_nohup_a_role_ignores_the_end_of_its_terminal(handler: Any) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, handler)
    try:
        on_signal(lambda first: None)
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        for number, former in before.items():
            signal.signal(number, former)
