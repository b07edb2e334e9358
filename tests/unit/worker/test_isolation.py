"""When a worker claims nothing because of runs that may kill it."""

import pytest

from jobfac.store.workers.suspects import NOTHING, Waiting
from jobfac.worker.executions.suspects import ALONE, ALONE_AGAIN, Isolation


@pytest.mark.parametrize(("most", "losses"), [(3, 2), (2, 1), (1, 1)])
def test_a_run_is_suspected_when_one_more_death_would_end_it(most: int, losses: int) -> None:
    assert Isolation(most, 20.0).suspicion.losses == losses


def test_a_suspected_run_isolates_its_worker_for_ten_minutes_at_most() -> None:
    """A consumer that runs for months kept its worker from everything else."""
    isolation = Isolation(3, 20.0)
    isolation.begins((1, 3), 100.0)
    assert isolation.is_alone(100.0 + ALONE - 1)
    assert not isolation.is_alone(100.0 + ALONE)
    isolation.begins((2, 3), 100.0 + ALONE)
    isolation.forget([(2, 3)])
    assert not isolation.is_alone(100.0 + ALONE)


def test_a_busy_worker_makes_room_for_ten_minutes_of_each_hour_and_not_while_another_one_does() -> None:
    isolation, one = Isolation(3, 20.0), Waiting(frozenset({1}))
    assert not isolation.found(one, False, 100.0), "an idle worker may take it"
    assert not isolation.found(one._replace(elsewhere=True), False, 130.0)
    assert isolation.found(one, False, 140.0)
    assert not isolation.found(Waiting(frozenset({1, 2})), False, 141.0)
    assert (isolation.makes_room(140.0 + ALONE - 1), isolation.makes_room(140.0 + ALONE)) == (True, False)
    assert not isolation.found(one, False, 140.0 + ALONE), "others of its runs would wait for ever"
    assert isolation.found(one, False, 140.0 + ALONE_AGAIN)
    isolation.found(NOTHING, False, 141.0 + ALONE_AGAIN)
    assert not isolation.makes_room(142.0 + ALONE_AGAIN)
    assert isolation.found(one, True, 143.0 + ALONE_AGAIN), "no other worker could take it"
