"""A database that lost its last commits while the workers stay alive, as after a forced failover to a lagging replica.

The workers' executions and the database agree again within a heartbeat.
"""

from typing import Any

import pytest

from jobfac.database.tables import attempt, run, run_event, worker
from tests.support.database import now
from tests.support.engines import EACH_DIALECT
from tests.support.factory import wait_for
from tests.support.fleet import Fleet
from tests.support.process_stage import lives

pytestmark = pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)


def lose_claim(fleet: Fleet, run_id: int, **more: Any) -> None:
    """Change the database as if the first claim of a run had not been committed."""
    with fleet.db.begin() as conn:
        queued = {**more, "state": "queued", "attempt": 0, "worker_id": None, "worker": None, "started_at": None}
        conn.execute(run.update().where(run.c.id == run_id).values(queued))
        conn.execute(attempt.delete().where(attempt.c.run_id == run_id))
        conn.execute(run_event.delete().where(run_event.c.run_id == run_id, run_event.c.event == "running"))


def lose_end(fleet: Fleet, run_id: int) -> None:
    """Change the database as if the end of a run had not been committed."""
    open_again = {"state": None, "ended_at": None, "exit_code": None}
    with fleet.db.begin() as conn:
        conn.execute(run.update().where(run.c.id == run_id).values({**open_again, "state": "running"}))
        conn.execute(attempt.update().where(attempt.c.run_id == run_id).values(open_again))
        conn.execute(run_event.delete().where(run_event.c.run_id == run_id, run_event.c.event == "succeeded"))


def test_a_program_with_a_lost_claim_continues_when_its_worker_claims_again(fleet: Fleet) -> None:
    fleet.define(job=fleet.journal.job(2))
    (run_id,) = fleet.start("job")
    fleet.worker("first")
    (begun,) = wait_for(lambda: fleet.journal.lines("start"), "running")
    lose_claim(fleet, run_id)
    done = fleet.wait(run_id)
    assert (done["state"], done["attempt"], done["worker"]) == ("succeeded", 1, "first")
    assert [(line.word, line.run) for line in fleet.journal.lines()] == [("start", run_id), ("end", run_id)]
    assert fleet.attempts(run_id)[0]["pid"] == begun.value


def test_a_program_with_a_lost_claim_ends_when_another_worker_has_the_run(fleet: Fleet) -> None:
    there = {"command": ["true"], "labels": {"only": "second"}}
    fleet.define(job=fleet.journal.job(600), brief={"command": ["true"]}, there=there)
    (run_id,) = fleet.start("job")
    first = fleet.worker("first", slots=1)
    (begun,) = wait_for(lambda: fleet.journal.lines("start"), "running")
    fleet.worker("second", "--label", "only=second", slots=1)
    lose_claim(fleet, run_id, queue=fleet.one("there")["queue"])  # the first worker must not claim earlier
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "running at the second")
    wait_for(lambda: not lives(begun.value), "the first one's program has ended")
    wait_for(lambda: "discarded" in fleet.events(run_id), "its result discarded")
    found = fleet.get(run_id)
    assert (found["state"], found["attempt"], found["worker"]) == ("running", 1, "second")
    assert "does not know that it runs here" in fleet.log(first)
    assert fleet.one("brief")["worker"] == "first"


@pytest.mark.parametrize("restartable", [True, False])
def test_a_run_with_a_lost_end_does_not_run_forever(fleet: Fleet, restartable: bool) -> None:
    fleet.define(job=fleet.journal.job(0, restartable=restartable))
    fleet.worker("first")
    run_id = fleet.one("job")["id"]
    lose_end(fleet, run_id)
    done = fleet.wait(run_id)
    assert (done["state"], done["attempt"]) == (("succeeded", 2) if restartable else ("lost", 1))
    closed = fleet.attempts(run_id)[0]
    assert closed["state"] == "lost"
    assert "forgot how it ended" in closed["reason"]
    assert len(fleet.journal.lines("end")) == done["attempt"]


def test_another_run_with_the_number_of_a_forgotten_one_is_executed(fleet: Fleet) -> None:
    """A restored database gives numbers away again. The program of the old run must not stand for the new one."""
    fleet.define(old=fleet.journal.job(600, code=7), new={"command": ["true"], "restartable": False})
    (run_id,) = fleet.start("old")
    fleet.worker("first")
    (begun,) = wait_for(lambda: fleet.journal.lines("start"), "running")
    lose_claim(fleet, run_id, job="new", created_at=now(fleet.db))
    done = fleet.wait(run_id)
    assert (done["state"], done["job"], done["attempt"], done["exit_code"]) == ("succeeded", "new", 2, 0)
    wait_for(lambda: not lives(begun.value), "the old program has ended")
    assert "not started" in fleet.attempts(run_id)[0]["reason"]


def test_a_worker_whose_id_another_one_has_ends_its_programs_and_registers_again(fleet: Fleet) -> None:
    """A restored database gives the ids of workers away again, too. Two with one id would take runs from each other."""
    fleet.define(job=fleet.journal.job(600))
    (run_id,) = fleet.start("job")
    fleet.worker("first")
    (begun,) = wait_for(lambda: fleet.journal.lines("start"), "running")
    with fleet.db.begin() as conn:
        conn.execute(worker.update().values(name="other", token="that of another process"))
    wait_for(lambda: not lives(begun.value), "its program has ended")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "the run is executed again when the other one is dead")
    former, again = fleet.attempts(run_id)
    assert (former["state"], former["reason"]) == ("lost", "its worker other died")
    assert (again["worker"], again["worker_id"]) == ("first", former["worker_id"] + 1)
