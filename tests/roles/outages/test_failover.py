"""Workers that die or freeze: their programs end in time. Other workers take their runs, never twice at once."""

import os
import signal
import time

import pytest

from jobfac.programs.files.spool import SEAL
from tests.support.engines import EACH_DIALECT
from tests.support.factory import SHORT, wait_for
from tests.support.fleet import Fleet, Process, guardian, kill, kill_with_guardian, thaw
from tests.support.process_stage import lives

LEASE = float(SHORT["JOBFAC_LEASE"])
SETSID = {"command": ["sh", "-c", "setsid sleep 600 & env -i setsid sleep 600 & exec sleep 600"]}


@pytest.mark.alone
def test_a_killed_workers_programs_end_within_2_s_and_its_runs_restart_within_the_lease_plus_2_s(
    fleet: Fleet,
) -> None:
    fleet.define(tree=SETSID)
    ids = fleet.start("tree", 20)
    first = fleet.worker("first", slots=20)
    wait_for(lambda: len(fleet.programs(first)) >= 40 and fleet.states() == {"running": 20}, "20 trees running")
    second = fleet.worker("second", slots=20)
    kill(first)
    wait_for(lambda: not fleet.programs(first), "all trees gone", timeout=2.0)
    wait_for(lambda: len(fleet.programs(second)) >= 40, "all trees on the second worker")
    dead = fleet.row(first)
    assert dead is not None
    again = [fleet.get(run_id) for run_id in ids]
    assert {(row["worker"], row["attempt"]) for row in again} == {("second", 2)}
    late = max(row["started_at"] for row in again) - dead["lease_until"]
    assert late.total_seconds() < 2
    assert [a["state"] for a in fleet.attempts(ids[0])] == ["lost", None]
    assert fleet.events(ids[0])[-3:] == ["running", "queued", "running"]
    assert "first died" in fleet.attempts(ids[0])[0]["reason"]


def test_a_run_that_is_not_restartable_ends_as_lost(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(fragile={"command": ["sleep", "600"], "restartable": False})
    (run_id,) = fleet.start("fragile")
    first = fleet.worker("first")
    fleet.wait(run_id, "running")
    kill(first)
    fleet.worker("second")
    assert fleet.wait(run_id)["state"] == "lost"
    assert "first died" in fleet.get(run_id)["reason"]


def test_the_output_of_a_killed_worker_is_stored_by_another_one(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(speaks={"command": ["sh", "-c", "echo last words; sleep 600"], "restartable": False})
    (run_id,) = fleet.start("speaks")
    first = fleet.worker("first", JOBFAC_SHIP_INTERVAL="60")
    spool = fleet.folder / "spool"
    wait_for(lambda: any(path.stat().st_size > len(SEAL) for path in spool.glob("*/*/*.stdout")), "it has spoken")
    fleet.worker("second")
    kill(first)
    fleet.wait(run_id)
    assert fleet.text(run_id) == b"last words\n"
    assert len(list(spool.iterdir())) == 1


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_frozen_worker_loses_its_programs_before_its_lease_and_registers_again(fleet: Fleet) -> None:
    fleet.define(long=fleet.journal.job(600), here=fleet.journal.job(0, labels={"only": "first"}))
    ids = fleet.start("long", 3)
    first = fleet.worker("first", "--label", "only=first")
    wait_for(lambda: len(fleet.journal.lines("start")) == 3, "three running")
    former = fleet.registration(first)
    fleet.worker("second")
    fleet.freeze(first)
    frozen = time.monotonic()
    wait_for(lambda: not fleet.programs(first), "its programs gone", timeout=LEASE)
    wait_for(lambda: len(fleet.journal.lines("start")) == 6, "going on elsewhere")
    wait_for(lambda: time.monotonic() - frozen > 2 * LEASE, "twice the lease")
    thaw(first)
    wait_for(lambda: fleet.registration(first)["id"] != former["id"], "registered again")
    assert fleet.registration(first)["state"] == "active"
    assert {fleet.get(run_id)["worker"] for run_id in ids} == {"second"}
    assert all(fleet.events(run_id).count("running") == 2 for run_id in ids)
    assert {fleet.one("here")["state"] for _ in range(3)} == {"succeeded"}
    assert not fleet.journal.doubled()


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_worker_frozen_alone_reports_no_end_that_its_guardian_caused(fleet: Fleet) -> None:
    """Nobody has ended its lease meanwhile, as when a machine with the only worker was suspended."""
    fleet.define(long=fleet.journal.job(600, later=0), fragile=fleet.journal.job(600, restartable=False))
    ids = [*fleet.start("long", 3), *fleet.start("fragile")]
    only = fleet.worker("only")
    wait_for(lambda: len(fleet.journal.lines("start")) == 4, "all run")
    fleet.freeze(only)
    frozen = time.monotonic()
    wait_for(lambda: not fleet.programs(only) and time.monotonic() - frozen > 1.5 * LEASE, "its programs gone")
    thaw(only)
    rows = fleet.finish(*ids)
    assert [(row["state"], row["attempt"]) for row in rows] == [("succeeded", 2)] * 3 + [("lost", 1)]
    assert {fleet.attempts(run_id)[0]["state"] for run_id in ids} == {"lost"}
    assert all("fenced" in fleet.events(run_id) for run_id in ids)


@pytest.mark.parametrize("point", ["committed", "guardian_notified"])
def test_a_worker_frozen_between_claim_and_start_starts_nothing_later(sqlite_fleet: Fleet, point: str) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600))
    (run_id,) = fleet.start("long")
    first = _frozen_at(fleet, point)
    fleet.worker("second")
    wait_for(lambda: fleet.journal.lines("start"), "started by the second")
    former = fleet.row(first)
    thaw(first)
    wait_for(lambda: fleet.row(first) != former and "registered again" in fleet.log(first), "registered again")
    assert [line.attempt for line in fleet.journal.lines("start")] == [2]
    assert fleet.get(run_id)["worker"] == "second"


def test_orphans_of_a_killed_worker_and_guardian_end_before_their_run_restarts_here(
    sqlite_fleet: Fleet,
) -> None:
    fleet = sqlite_fleet
    fleet.define(tree=fleet.journal.job(600))
    (run_id,) = fleet.start("tree")
    first = fleet.worker("first")
    (begun,) = wait_for(lambda: fleet.journal.lines("start"), "running")
    fleet.worker("second")
    kill_with_guardian(first)
    assert fleet.programs(first), "nobody is left who would end them"
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "started again")
    assert not lives(begun.value)
    assert not fleet.journal.doubled()
    assert fleet.get(run_id)["worker"] == "second"


def test_programs_end_before_their_run_restarts_here_though_worker_and_guardian_stand_still(
    sqlite_fleet: Fleet,
) -> None:
    fleet = sqlite_fleet
    fleet.define(again=fleet.journal.job(600), fragile=fleet.journal.job(600, restartable=False))
    ids = [*fleet.start("again"), *fleet.start("fragile")]
    first = fleet.worker("first")
    wait_for(lambda: len(fleet.journal.lines("start")) == 2, "running")
    begun = fleet.journal.lines("start")
    other = guardian(first.pid)
    os.kill(other, signal.SIGSTOP)
    fleet.freeze(first)
    fleet.worker("second")
    wait_for(lambda: len(fleet.journal.lines("start")) == 3, "started again")
    assert not any(lives(one.value) for one in begun if one.run == ids[0])
    wait_for(lambda: not any(lives(one.value) for one in begun), "those of a run that does not start again end, too")
    thaw(first)
    os.kill(other, signal.SIGCONT)
    wait_for(lambda: "registered again" in fleet.log(first), "registered again")
    assert not fleet.journal.doubled()
    assert [fleet.get(one)["state"] for one in ids] == ["running", "lost"]


def test_orphans_of_a_killed_worker_and_guardian_end_when_a_worker_starts_here(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(tree=SETSID)
    fleet.start("tree")
    first = fleet.worker("first")
    wait_for(lambda: len(fleet.programs(first)) >= 2, "running")
    kill_with_guardian(first)
    assert fleet.programs(first)
    fleet.worker("second", "--pool", "elsewhere")
    assert not fleet.programs(first)


def test_a_dead_guardian_is_replaced_by_a_working_one(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(tree=SETSID)
    fleet.start("tree")
    first = fleet.worker("first")
    wait_for(lambda: len(fleet.programs(first)) >= 2, "running")
    old = guardian(first.pid)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: guardian(first.pid) not in (0, old), "a new guardian")
    assert fleet.states() == {"running": 1}
    kill(first)
    wait_for(lambda: not fleet.programs(first), "all trees gone", timeout=2.0)


def test_a_late_result_is_discarded_with_an_event(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief=fleet.journal.job(0.2))
    (run_id,) = fleet.start("brief")
    first = _frozen_at(fleet, "outcome_in_hand")
    fleet.worker("second")
    found = fleet.wait(run_id)
    thaw(first)
    wait_for(lambda: "discarded" in fleet.events(run_id), "the late result discarded")
    assert (found["state"], found["worker"], found["attempt"], found["lost"]) == ("succeeded", "second", 2, 1)
    assert {**fleet.get(run_id)} == {**found, "lost": None}, "the worker lives, so it does not count as died"


def test_a_run_whose_program_did_not_begin_before_its_worker_lost_its_lease_begins_again(sqlite_fleet: Fleet) -> None:
    """The answer to its claim came late. Nothing was started, so also a run that must not repeat begins."""
    fleet = sqlite_fleet
    fleet.define(once=fleet.journal.job(0, restartable=False))
    (run_id,) = fleet.start("once")
    first = _frozen_at(fleet, "committed")
    end = time.monotonic() + LEASE
    wait_for(lambda: time.monotonic() > end, "the lease has run out")
    thaw(first)
    found = fleet.wait(run_id)
    assert (found["state"], found["attempt"], fleet.events(run_id).count("queued")) == ("succeeded", 2, 2)
    assert fleet.attempts(run_id)[0]["reason"] == "not started: its worker lost its lease"


def _frozen_at(fleet: Fleet, point: str) -> Process:
    """Start a worker whose loop hangs at the failpoint, and freeze it there; thawed, it goes on from the point."""
    hang = fleet.folder / "hang"
    hang.touch()
    worker = fleet.worker("first", slots=1, JOBFAC_HANG_AT=point, JOBFAC_HANG_WHILE=str(hang))
    wait_for(hang.read_text, f"at the failpoint {point}")
    fleet.freeze(worker)
    hang.unlink()
    return worker
