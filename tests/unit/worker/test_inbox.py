"""The inbox of the worker's loop, and the loop's reaction to its messages, without processes or a database."""

import itertools
import signal
import threading
from collections.abc import Iterator

import pytest

from jobfac.database.dialects import Survey
from jobfac.states import WorkerState
from jobfac.store.workers import Beat
from jobfac.worker.loop.agenda import LOCKED_INTERVAL, Agenda
from jobfac.worker.loop.inbox import Inbox, Messages


def survey(**found: object) -> Survey:
    usual = {"state": WorkerState.ACTIVE, "stops": [], "queues": 1, "held": 0}
    return Survey(**(usual | found))  # type: ignore[arg-type]


class Woken:
    def __init__(self) -> None:
        self.times = 0
        self.inbox = Inbox(self.wake)

    def wake(self) -> None:
        self.times += 1


@pytest.fixture
def woken() -> Woken:
    return Woken()


def test_the_inbox_is_emptied_at_once(woken: Woken) -> None:
    woken.inbox.put_work()
    woken.inbox.put_drain(5.0)
    woken.inbox.put_drain(3.0)
    woken.inbox.put_survey(survey(held=2), held=1)
    taken = woken.inbox.take()
    assert (taken.work, taken.drains) == (True, [5.0, 3.0])
    assert taken.survey is not None
    assert taken.survey.differs
    assert woken.inbox.take() == Messages()


def test_the_last_survey_and_heartbeat_count(woken: Woken) -> None:
    woken.inbox.put_survey(survey(stops=[(1, 1, "now")]), held=1)
    woken.inbox.put_survey(survey(), held=0)
    woken.inbox.put_beat(Beat(-1.0))
    woken.inbox.put_beat(Beat(10.0))
    taken = woken.inbox.take()
    assert taken.survey is not None
    assert (taken.survey.survey.stops, taken.survey.differs, taken.beat) == ([], False, Beat(10.0))


@pytest.mark.parametrize(("expiry", "wakes"), [(5.0, 0), (0.0, 1), (-1.0, 1)])
def test_a_heartbeat_wakes_the_loop_only_if_a_lease_has_ended(woken: Woken, expiry: float, wakes: int) -> None:
    woken.inbox.put_beat(Beat(expiry))
    assert woken.times == wakes


@pytest.mark.parametrize(
    ("found", "wakes"),
    [
        ({}, 0),
        ({"queues": 2}, 1),
        ({"stops": [(1, 1, "polite")]}, 1),
        ({"held": 1}, 1),
        ({"state": WorkerState.DRAINING}, 1),
    ],
)
def test_a_survey_wakes_the_loop_only_if_there_is_something_to_do(
    woken: Woken, found: dict[str, object], wakes: int
) -> None:
    woken.inbox.put_survey(survey(), held=0)
    before = woken.times
    woken.inbox.put_survey(survey(**found), held=0)
    assert woken.times - before == wakes


def test_no_message_is_lost_between_threads(woken: Woken) -> None:
    number, count = 4, 2000

    def put(first: int) -> None:
        for one in range(count):
            woken.inbox.put_drain(float(first * count + one))

    threads = [threading.Thread(target=put, args=(first,)) for first in range(number)]
    for thread in threads:
        thread.start()
    found: list[float] = []
    while any(thread.is_alive() for thread in threads):
        found += woken.inbox.take().drains
    found += woken.inbox.take().drains
    assert sorted(found) == [float(one) for one in range(number * count)]


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_interrupt_any_use(woken: Woken, alarm: None) -> None:
    sent: list[float] = []
    numbers = itertools.count()

    def handle(signum: int, frame: object) -> None:
        number = float(next(numbers))  # another signal may interrupt this handler between any two steps
        sent.append(number)
        woken.inbox.put_drain(number)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    found: list[float] = []
    while len(sent) < 200:
        found += woken.inbox.take().drains
        woken.inbox.put_work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    found += woken.inbox.take().drains
    assert sorted(found) == sorted(sent), "a handler that was interrupted by another comes after it"


def test_the_agenda_follows_the_last_survey_and_heartbeat(woken: Woken) -> None:
    agenda = Agenda(heartbeat=5.0)
    at_first = agenda.queues_to_read
    assert at_first == 0
    woken.inbox.put_survey(survey(queues=3, stops=[(1, 1, "now")], held=1), held=0)
    woken.inbox.put_beat(Beat(0.0))
    agenda.absorb(woken.inbox.take(), 100.0)
    assert (agenda.stops, agenda.overdue, agenda.doubtful, agenda.queues_to_read) == ([(1, 1, "now")], True, True, 3)
    agenda.queues_read(3)
    agenda.absorb(Messages(), 100.0)
    assert (agenda.overdue, agenda.queues_to_read) == (True, None)
    woken.inbox.put_survey(survey(queues=3), held=0)
    woken.inbox.put_beat(Beat(3.0))
    agenda.absorb(woken.inbox.take(), 100.0)
    assert (agenda.stops, agenda.overdue) == ([], False)


def test_a_difference_is_compared_once_per_heartbeat(woken: Woken) -> None:
    agenda = Agenda(heartbeat=5.0)
    for now, doubtful in ((100.0, True), (104.9, False), (105.0, True)):
        woken.inbox.put_survey(survey(held=1), held=0)
        agenda.absorb(woken.inbox.take(), now)
        assert agenda.begin_turn() == (False, doubtful)


def test_a_turn_is_due_if_there_is_work_or_something_to_store() -> None:
    agenda = Agenda(5.0)
    assert agenda.has_to_act(free=1, to_store=False)
    assert not agenda.has_to_act(free=0, to_store=False)
    assert agenda.has_to_act(free=0, to_store=True)
    assert agenda.begin_turn() == (False, False)
    assert agenda.turn_done(claimed=1, is_full=False), "the queues are empty"
    assert not agenda.has_to_act(free=1, to_store=False)
    agenda.absorb(Messages(work=True), 0.0)
    assert agenda.has_to_act(free=1, to_store=False)


@pytest.mark.parametrize(("claimed", "is_full", "more"), [(2, True, True), (1, False, False), (0, True, False)])
def test_after_a_full_claim_there_may_be_more(claimed: int, is_full: bool, more: bool) -> None:
    agenda = Agenda(5.0)
    agenda.begin_turn()
    assert agenda.turn_done(claimed, is_full) != is_full
    assert agenda.more == more


def test_work_that_arrives_during_a_turn_is_not_forgotten(woken: Woken) -> None:
    agenda = Agenda(5.0)
    agenda.begin_turn()
    woken.inbox.put_work(reported=True)
    agenda.turn_done(claimed=0, is_full=False)
    agenda.absorb(woken.inbox.take(), 0.0)
    assert agenda.more
    assert agenda.begin_turn() == (True, False)


def test_a_failed_turn_is_retried_with_a_comparison() -> None:
    agenda = Agenda(5.0)
    agenda.begin_turn()
    agenda.turn_failed(doubtful=True, again=7.0)
    assert (agenda.uncertain, agenda.more, agenda.doubtful, agenda.not_before) == (True, True, True, 7.0)
    assert agenda.begin_turn() == (False, True)
    agenda.registered()
    assert (agenda.uncertain, agenda.more, agenda.stops) == (False, True, [])


def test_outcomes_that_a_turn_has_left_do_not_keep_the_loop_busy_while_the_database_is_away() -> None:
    agenda = Agenda(5.0)
    agenda.turn_left(1, now=10.0)
    assert not agenda.has_to_store(1, now=10.1)
    assert agenda.wakes_at(acts=False) == 10.0 + LOCKED_INTERVAL
    assert agenda.has_to_store(2, now=10.1), "another one has ended"
    assert agenda.has_to_store(1, now=10.0 + LOCKED_INTERVAL)
    agenda.turn_failed(doubtful=False, again=15.25)
    assert agenda.wakes_at(acts=True) == 15.25


def test_an_expiry_that_has_left_runs_is_repeated_after_the_next_heartbeat(woken: Woken) -> None:
    agenda = Agenda(5.0)
    agenda.orphans = True
    assert not agenda.overdue
    woken.inbox.put_beat(Beat(3.0))
    agenda.absorb(woken.inbox.take(), 100.0)
    assert agenda.overdue
