"""What a chaos run checks can fail: each violated guarantee is a sentence, and where all is well there is none."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from scripts.chaos import clients
from scripts.chaos.check import Execution, Key, read_journal, unexcused, violations
from scripts.chaos.clients import Clients
from scripts.chaos.clock import Clock
from scripts.chaos.dba import Excuses
from scripts.chaos.site import jobs
from scripts.chaos.stranger import Stranger
from tests.hostile.others import needs_root
from tests.support.database import Hand, define, start
from tests.support.factory import wait_for

Journal = dict[Key, Execution]
Stage = tuple[Database, Journal, Clock]


@pytest.fixture
def stage(sqlite_url: str, tmp_path: Path) -> Iterator[Stage]:
    """Three runs that a worker has executed one after the other, and what their programs have written."""
    db = Database(sqlite_url)
    define(db, **{name: body for name, body in jobs(tmp_path).items() if name in ("alone", "fails")})
    hand, journal = Hand(db), {}
    for job, state, code in (("alone", "succeeded", 0), ("alone", "succeeded", 0), ("fails", "failed", 3)):
        start(db, job)
        claimed, began = hand.take(), time.time()
        hand.end(claimed, RunState(state), exit_code=code)
        journal[claimed.key] = Execution(began, began, code, overlap=False)
    yield db, journal, Clock(tmp_path)
    db.close()


def test_what_agrees_is_no_violation(stage: Stage) -> None:
    assert violations(*stage) == []


def ran_beside(db: Database, journal: Journal) -> None:
    journal[1, 1] = replace(journal[1, 1], overlap=True)


def ended_otherwise(db: Database, journal: Journal) -> None:
    journal[3, 1] = replace(journal[3, 1], code=0)


def never_ran(db: Database, journal: Journal) -> None:
    del journal[3, 1]


def lived_on(db: Database, journal: Journal) -> None:
    journal[3, 1] = replace(journal[3, 1], last=time.time() + 1)


def ran_together(db: Database, journal: Journal) -> None:
    journal[1, 1] = replace(journal[1, 1], last=journal[2, 1].start + 0.01)


def is_forgotten(db: Database, journal: Journal) -> None:
    journal[1, 2] = journal[1, 1]


def waits(db: Database, journal: Journal) -> None:
    start(db, "fails")


def is_not_followed(db: Database, journal: Journal) -> None:
    define(db, short={})
    start(db, "short")
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.job == "short").values(state=RunState.SUCCEEDED))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (ran_beside, "run 1: attempt 1 ran beside another"),
        (ended_otherwise, "run 3: attempt 1 is stored with exit code 3, its journal: Execution"),
        (never_ran, "run 3: attempt 1 is stored with exit code 3, its journal: None"),
        (lived_on, "run 3: attempt 1 lived on after it was failed"),
        (ran_together, "runs 1 and 2 of the key 'alone' ran together"),
        (is_forgotten, "run 1: the database has no attempt 2"),
        (waits, "1 runs are still queued"),
        (is_not_followed, "the end of run 4 started 0 runs of 'follows'"),
    ],
)
def test_what_disagrees_is_a_violation(stage: Stage, harm: Callable[[Database, Journal], None], sentence: str) -> None:
    harm(*stage[:2])
    (found,) = violations(*stage)
    assert found.startswith(sentence)


def test_the_journal_of_a_program_is_read(tmp_path: Path) -> None:
    (tmp_path / "7-1.log").write_text("overlap 9.0 0\nstart 10.0 55\nalive 11.0 0\nend 12.0 3\n")
    (tmp_path / "7-2.log").write_text("start 20.0 55\nalive 21.5 0\n")
    assert read_journal(tmp_path) == {
        (7, 1): Execution(10.0, 12.0, 3, True),
        (7, 2): Execution(20.0, 21.5, None, False),
    }


def test_a_lease_that_was_lost_for_no_reason_is_a_violation(tmp_path: Path) -> None:
    said = {"event": "lease not renewed in time", "action": "self_fence", "timestamp": datetime.now(UTC).isoformat()}
    (tmp_path / "worker-1.log").write_text(json.dumps(said) + "\n")
    excuses = Excuses(3.0)
    assert [one.startswith("worker-1.log: lease not renewed in time") for one in unexcused(tmp_path, excuses)] == [True]
    excuses.note(5.0)
    said["timestamp"] = datetime.now(UTC).isoformat()
    (tmp_path / "worker-1.log").write_text(json.dumps(said) + "\n")
    assert unexcused(tmp_path, excuses) == []


def test_an_api_that_answers_nobody_beside_slow_clients_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        slow = Clients(server.getsockname()[1], "key", 1.0)
        slow._check(lambda: True)
    assert len(slow.refused) == 1


@needs_root
def test_what_another_user_can_do_is_a_violation(crossroads: Path) -> None:
    stranger = Stranger(crossroads)
    (crossroads / "secret").chmod(0o644)
    wait_for(lambda: "read" in (crossroads / "meddler.log").read_text(), "it has tried")
    (crossroads / "secret").write_text("theirs")
    found = stranger.violations(b"root's own")
    assert f"nobody could read {crossroads}/secret" in found
    assert "a job of nobody has written to a file of root" in found
    assert "a job of nobody has read a file in a closed folder of root" in found
