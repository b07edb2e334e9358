"""A worker that leaves while the database cannot be reached."""

import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.settings import Settings
from jobfac.worker.worker import Worker


@pytest.mark.parametrize(
    ("holds", "gives_up", "leaves"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_without_a_lease_it_waits_with_its_outcomes_for_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, gives_up: bool, leaves: bool
) -> None:
    worker = Worker(Database(f"sqlite:///{tmp_path}/jobfac.db"), Settings(spool=str(tmp_path)), name="w1", slots=1)
    monkeypatch.setattr(worker, "_register", MagicMock(side_effect=Unreachable("it is locked")))
    monkeypatch.setattr(worker, "_compose", MagicMock())
    monkeypatch.setattr("jobfac.worker.worker.replace", MagicMock())
    if holds:
        execution = MagicMock(process=None)
        execution.claimed.sequence_run_id = None
        worker._held.over.append((execution, MagicMock()))
    worker._phases.signal(time.monotonic(), gives_up)
    worker._register_again()
    assert worker._is_done() == leaves
