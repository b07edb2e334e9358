"""An answer of an address for which a step waits is not lost."""

from typing import Any

import pytest

from jobfac.channels import webhook
from jobfac.scheduler import asker
from jobfac.scheduler.asker import Asker
from jobfac.settings import Settings
from jobfac.store.sequences import WaitingVisit
from tests.support.factory import wait_for


def test_an_answer_waits_for_a_lock_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [None, None, True]

    class Locked:
        """A database in which another transaction holds a lock of the sequence for a while."""

        def transact(self, *arguments: Any) -> bool | None:
            return results.pop(0)

    monkeypatch.setattr(asker, "TRIED_AGAIN", 0.001, raising=False)
    monkeypatch.setattr(webhook, "ask", lambda url, settings: None)
    asking = Asker(Locked(), Settings(), "s1")  # type: ignore[arg-type]
    asking.ask([WaitingVisit(1, 1, "rates", '{"http": "https://rates.example.org/", "every": 3600}')])
    wait_for(lambda: not results, "the answer is stored")
