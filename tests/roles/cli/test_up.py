"""`jobfac up`: one command starts everything."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support.factory import wait_for
from tests.support.fleet import Fleet


def test_up_creates_the_schema_serves_the_api_executes_runs_and_stops_on_term(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.factory.environment["JOBFAC_DATABASE_URL"] = f"sqlite:///{fleet.folder / 'fresh.db'}"
    up = fleet.factory.role("up", "--slots", "2", "--port", "0")

    def logged() -> re.Match[str] | None:
        assert up.poll() is None, fleet.log(up)
        return re.search(r"The factory is up: (http://[^/\s]+)/login\?token=\S+", fleet.log(up))

    link = wait_for(logged, "the link")
    wait_for(lambda: answers(f"{link[1]}/healthz"), "the API answers")
    assert '"a new, empty database was made"' in fleet.log(up), "perhaps the disk of the right one is not mounted"
    often = {"command": ["true"], "schedules": [{"every": "1s"}]}
    fleet.factory.apply({"job": {"command": ["echo", "made"]}, "later": {"command": ["true"]}, "often": often})
    done = fleet.factory.run("start", "job", "--follow")
    assert done.stdout == "made\n"
    delayed = fleet.factory.json("start", "later", "--in", "0.3s", "--wait")
    assert delayed["state"] == "succeeded"
    wait_for(lambda: fleet.factory.json("runs", "list", "--job", "often", "--state", "succeeded"), "a scheduled run")
    up.send_signal(signal.SIGTERM)
    assert up.wait(20) == 0
    assert [row["state"] for row in fleet.factory.json("workers", "list", "--all")] == ["stopped"]


@pytest.fixture(params=["a full disk", "a pipe that nobody reads"])
def unread(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor to which nothing can be written."""
    if request.param == "a full disk":
        opened = [os.open("/dev/full", os.O_WRONLY)]
    else:
        opened = [*reversed(os.pipe())]
        os.set_blocking(opened[0], False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(opened[0], b"x" * 65536)
        os.set_blocking(opened[0], True)
    yield opened[0]
    for one in opened:
        os.close(one)


def test_up_works_and_ends_where_nobody_can_read_what_it_says(sqlite_fleet: Fleet, unread: int) -> None:
    command = [sys.executable, "-m", "jobfac", "up", "--name", "w1", "--port", "0"]
    environment = {**sqlite_fleet.factory.environment, "PYTHONUNBUFFERED": ""}  # set, it hides what cannot be flushed
    with subprocess.Popen(command, env=environment, stdout=unread, stderr=unread) as up:
        try:
            wait_for(lambda: sqlite_fleet.factory.is_registered("w1", up.pid), "the worker is registered")
            up.terminate()
            assert up.wait(20) == 0
        finally:
            up.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
