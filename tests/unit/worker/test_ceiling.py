"""A worker never polls more often than the ceiling allows, whatever it finds."""

from hypothesis import given
from hypothesis import strategies as st

from jobfac.database.dialects.sqlite import FileWaiter
from jobfac.database.dialects.waiting import PollingWaiter, ServerWaiter
from jobfac.worker.poller import Ceiling


@given(st.floats(1, 200), st.lists(st.floats(0, 2), min_size=1, max_size=300))
def test_no_second_has_more_than_a_burst_and_the_rate(rate: float, pauses: list[float]) -> None:
    ceiling, now, polls = Ceiling(rate, 0.0), 0.0, []
    for pause in pauses:
        now += pause
        now += ceiling.take(now)
        polls.append(now)
    for first, begin in enumerate(polls):
        within = sum(begin <= one < begin + 1 for one in polls[first:])
        assert within <= 2 * rate + 1


def test_a_worker_that_always_finds_work_polls_at_the_rate() -> None:
    ceiling, now = Ceiling(20.0, 0.0), 0.0
    for _ in range(20 + 20 * 60):
        now += ceiling.take(now)
    assert 59 < now < 61


def test_the_rates_are_those_that_the_engines_allow() -> None:
    assert (ServerWaiter.polls_a_second, PollingWaiter.polls_a_second) == (20.0, 20.0)
    assert FileWaiter.polls_a_second == 200.0
