"""Who asks again and again for what takes seconds keeps nobody else out."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobfac.api import app
from jobfac.store import schedules
from tests.support.api_stage import Served


def test_many_requests_for_the_load_leave_threads_to_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 300 jobs that are often due it takes ten seconds, and each request had one of the API's threads."""
    begun, goes_on = threading.Event(), threading.Event()
    at_once: list[int] = []
    read_load = schedules.read_load

    def slowly(*arguments: Any) -> Any:
        at_once.append(1)
        begun.set()
        assert goes_on.wait(60)
        return read_load(*arguments)

    monkeypatch.setattr(schedules, "read_load", slowly)
    number = 2 * app.THREADS
    with ThreadPoolExecutor(number) as clients:
        answers = [clients.submit(served.viewer.get, "/v1/schedules/load", timeout=60) for _ in range(number)]
        try:
            assert begun.wait(60)
            for _ in range(number):  # by then all the others have been accepted, too
                assert served.operator.get("/v1/overview", timeout=20).is_success
            assert len(at_once) == 1
        finally:
            goes_on.set()
        assert all(one.result().is_success for one in answers)
