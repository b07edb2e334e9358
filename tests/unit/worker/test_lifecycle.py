"""The phases of a worker and the stages of an execution: legal moves, timeouts and stops. Uses no process or clock."""

from itertools import product

import pytest

from jobfac.states import Stop
from jobfac.worker.executions import lifecycle
from jobfac.worker.executions.lifecycle import Action, Cause, Lifecycle, Stage, merged
from jobfac.worker.loop import phases
from jobfac.worker.loop.phases import Phase, Phases
from jobfac.worker.machine import IllegalMove, Machine

TERM, KILL = (Action.TERMINATE,), (Action.KILL,)


def running(timeout: float | None = None, grace: float = 10.0, warn_after: float | None = None) -> Lifecycle:
    """Return the lifecycle of a program that was started at 100."""
    life = Lifecycle(timeout, grace, warn_after, now=99.0)
    life.started(100.0)
    return life


@pytest.mark.parametrize(("before", "after"), list(product(Stage, Stage)))
def test_only_legal_moves_are_possible(before: Stage, after: Stage) -> None:
    machine = Machine(before, lifecycle.MOVES)
    if after == before or after in lifecycle.MOVES[before]:
        machine.move(after)
        assert machine.state == after
    else:
        with pytest.raises(IllegalMove, match=f"'{before}' to '{after}'"):
            machine.move(after)


def test_every_state_has_moves_and_reaches_an_end() -> None:
    assert set(lifecycle.MOVES) == set(Stage)
    assert set(phases.MOVES) == set(Phase)
    assert all(Stage.OVER in after for stage, after in lifecycle.MOVES.items() if stage != Stage.OVER)
    assert all(Phase.LEFT in after for phase, after in phases.MOVES.items() if phase != Phase.LEFT)


def test_an_undisturbed_program_runs_until_its_end() -> None:
    life = running(timeout=50.0)
    assert (life.stage, life.next_time(100.0, ended=False)) == (Stage.RUNNING, 150.0)
    assert life.tick(120.0, ended=False, leftovers=False) == ()
    assert life.tick(121.0, ended=True, leftovers=False) == ()
    assert (life.stage, life.cause, life.next_time(121.0, ended=True)) == (Stage.OVER, None, None)


def test_a_timeout_terminates_and_then_kills_repeatedly() -> None:
    life = running(timeout=50.0, grace=10.0)
    assert life.tick(150.0, ended=False, leftovers=False) == TERM
    assert (life.stage, life.cause, life.next_time(150.0, ended=False)) == (Stage.ENDING, Cause.TIMED_OUT, 160.0)
    assert life.tick(159.9, ended=False, leftovers=False) == ()
    assert life.tick(160.0, ended=False, leftovers=False) == KILL
    assert life.next_time(160.0, ended=False) == 161.0
    assert life.tick(161.0, ended=False, leftovers=False) == KILL


def test_programs_that_do_not_end_are_killed_again_at_the_same_moments_and_ever_more_rarely() -> None:
    """Each KILL reads the table of all processes. Twenty such programs kept the loop from everything else."""

    def kills(grace: float) -> list[float]:
        life = running(timeout=1.0, grace=grace)
        at: list[float] = []
        life.tick(101.0, ended=False, leftovers=False)
        while len(at) < 10:
            at.append(life.next_time(0.0, ended=False) or 0.0)
            assert life.tick(at[-1], ended=False, leftovers=False)[-1:] == KILL
        return at

    one, other = kills(10.0), kills(12.3)
    assert one == [111.0, 112.0, 114.0, 116.0, 120.0, 128.0, 144.0, 160.0, 176.0, 192.0]
    assert other == [113.3, 114.0, 116.0, 120.0, 128.0, 144.0, 160.0, 176.0, 192.0, 208.0]


def test_without_grace_both_signals_are_sent_at_once() -> None:
    assert running(timeout=1.0, grace=0.0).tick(101.0, ended=False, leftovers=False) == TERM + KILL


def test_leftovers_are_ended() -> None:
    life = running()
    assert life.tick(110.0, ended=True, leftovers=True) == TERM
    assert (life.stage, life.cause) == (Stage.LINGERING, None)
    assert life.next_time(110.0, ended=True) == 110.05
    assert life.tick(120.0, ended=True, leftovers=True) == KILL
    life.tick(120.1, ended=True, leftovers=False)
    assert life.stage == Stage.OVER


def test_leftovers_of_a_stopped_program_get_no_second_grace() -> None:
    life = running(grace=10.0)
    assert life.request_stop(Stop.POLITE, False, 105.0, ended=False) == TERM
    assert life.tick(106.0, ended=True, leftovers=True) == ()
    assert (life.stage, life.next_time(115.2, ended=True)) == (Stage.LINGERING, 115.0)


def test_a_stop_terminates_once_and_no_timeout_follows() -> None:
    life = running(timeout=50.0, grace=100.0)
    assert life.request_stop(Stop.POLITE, False, 110.0, ended=False) == TERM
    assert life.request_stop(Stop.POLITE, False, 111.0, ended=False) == ()
    assert life.tick(150.0, ended=False, leftovers=False) == ()
    assert (life.cause, life.next_time(150.0, ended=False)) == (Cause.STOPPED, 210.0)


def test_a_kill_is_sent_at_the_next_tick() -> None:
    life = running()
    assert life.request_stop(Stop.NOW, False, 110.0, ended=False) == ()
    assert life.next_time(110.0, ended=False) == 110.0
    assert life.tick(110.0, ended=False, leftovers=False) == KILL
    assert (life.stage, life.cause) == (Stage.ENDING, Cause.STOPPED_NOW)


def test_a_programs_own_end_precedes_a_stop_but_its_leftovers_are_killed() -> None:
    life = running()
    assert life.request_stop(Stop.NOW, False, 110.0, ended=True) == ()
    assert life.cause is None
    assert life.tick(110.0, ended=True, leftovers=True) == KILL


def test_a_program_that_outlives_kill_is_reported_once() -> None:
    life = running(timeout=5.0, grace=1.0)
    for now in range(100, 106):
        life.tick(now, ended=False, leftovers=False)
    assert life.tick(106.0, ended=False, leftovers=False) == KILL
    assert [now for now in range(106, 130) if life.outlives_kill(now)] == [116]
    gone = running(timeout=5.0, grace=0.0)
    gone.tick(105.0, ended=False, leftovers=False)
    gone.tick(106.0, ended=True, leftovers=False)
    assert not gone.outlives_kill(200.0)


def test_a_stop_before_the_start_ends_the_execution() -> None:
    life = Lifecycle(None, 10.0, None, now=0.0)
    assert life.request_stop(Stop.POLITE, True, 1.0, ended=False) == ()
    assert (life.stage, life.cause) == (Stage.OVER, Cause.REQUEUED)
    with pytest.raises(IllegalMove):
        life.started(2.0)


@pytest.mark.parametrize(
    ("before", "how", "requeue", "after"),
    [
        (None, Stop.POLITE, False, Cause.STOPPED),
        (None, Stop.POLITE, True, Cause.REQUEUED),
        (None, Stop.NOW, True, Cause.REQUEUED_NOW),
        (Cause.TIMED_OUT, Stop.POLITE, False, Cause.STOPPED),
        (Cause.TIMED_OUT, Stop.NOW, True, Cause.REQUEUED_NOW),
        (Cause.STOPPED, Stop.POLITE, True, Cause.STOPPED),
        (Cause.STOPPED, Stop.NOW, True, Cause.STOPPED_NOW),
        (Cause.REQUEUED, Stop.POLITE, False, Cause.STOPPED),
        (Cause.REQUEUED, Stop.NOW, False, Cause.STOPPED_NOW),
        (Cause.REQUEUED, Stop.NOW, True, Cause.REQUEUED_NOW),
        (Cause.REQUEUED_NOW, Stop.POLITE, False, Cause.REQUEUED_NOW),
        (Cause.STOPPED_NOW, Stop.NOW, True, Cause.STOPPED_NOW),
    ],
)
def test_of_two_requests_the_stricter_counts(before: Cause | None, how: Stop, requeue: bool, after: Cause) -> None:
    assert merged(before, how, requeue) == after


def test_a_long_run_is_reported_once() -> None:
    life = running(warn_after=5.0)
    assert (life.next_time(100.0, ended=False), life.runs_long(104.9)) == (105.0, False)
    assert life.runs_long(105.0)
    assert not life.runs_long(106.0)
    assert life.next_time(106.0, ended=False) is None


def test_after_a_lost_lease_the_worker_returns_to_its_phase() -> None:
    one = Phases()
    seen = [(one.phase, one.is_leaving)]
    one.fence()
    one.registered()
    seen.append((one.phase, one.is_leaving))
    one.fence()
    one.drain(20.0)
    seen.append((one.phase, one.is_leaving))
    one.registered()
    seen.append((one.phase, one.is_leaving))
    assert seen == [(Phase.ACTIVE, False), (Phase.ACTIVE, False), (Phase.FENCED, True), (Phase.DRAINING, True)]


def test_the_earlier_limit_of_two_drains_applies() -> None:
    one = Phases()
    one.drain(20.0)
    one.drain(10.0)
    one.drain(30.0)
    assert (one.drain_until, one.is_drain_over(9.9), one.is_drain_over(10.0)) == (10.0, False, True)
    one.leave()
    assert one.phase == Phase.LEFT
    with pytest.raises(IllegalMove):
        one.fence()
