"""A wait for a lock is said when it lasts, and not again and again."""

from typing import Any

import pytest

from jobfac.scheduler import delays


class Log:
    def __init__(self) -> None:
        self.jobs: list[str] = []

    def warning(self, text: str, *, action: str, job: str) -> None:
        assert action == "start_waits"
        self.jobs.append(job)


def test_a_wait_that_lasts_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log: Any = Log()
    clock = [0.0]
    monkeypatch.setattr("jobfac.scheduler.delays.time.monotonic", lambda: clock[0])
    waits = delays.Delays(log)
    for now, locked in ((0, ["a"]), (19, ["a", "b"]), (21, ["a", "b"]), (22, ["a"]), (40, ["a", "b"])):
        clock[0] = now
        waits.note(locked)
    assert log.jobs == ["a"]
    for now in (59, 60, 600, 621):
        clock[0] = now
        waits.note(["a", "b"])
    assert log.jobs == ["a", "b", "a"]
