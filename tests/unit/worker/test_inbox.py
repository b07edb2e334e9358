"""The inbox of the worker's loop, and what the loop makes of its messages: no process, no database."""

import signal
import threading
from collections.abc import Iterator

import pytest

from jobfac.states import WorkerState
from jobfac.store.workers import Beat
from jobfac.worker.agenda import Agenda
from jobfac.worker.inbox import Inbox, Messages


def beat(**told: object) -> Beat:
    usual = {"state": WorkerState.ACTIVE, "stops": [], "queues": 1, "held": 0, "expiry": 10.0}
    return Beat(**(usual | told))  # type: ignore[arg-type]


class Woken:
    def __init__(self) -> None:
        self.times = 0
        self.inbox = Inbox(self.wake)

    def wake(self) -> None:
        self.times += 1


@pytest.fixture
def woken() -> Woken:
    return Woken()


def test_it_is_emptied_at_once(woken: Woken) -> None:
    woken.inbox.put_work()
    woken.inbox.put_drain(5.0)
    woken.inbox.put_drain(3.0)
    woken.inbox.put_beat(beat(held=2), held=1)
    taken = woken.inbox.take()
    assert (taken.work, taken.drains) == (True, [5.0, 3.0])
    assert taken.news is not None
    assert taken.news.differs
    assert woken.inbox.take() == Messages()


def test_of_several_heartbeats_the_last_counts(woken: Woken) -> None:
    woken.inbox.put_beat(beat(expiry=-1.0, stops=[(1, 1, "now")]), held=0)
    woken.inbox.put_beat(beat(), held=0)
    news = woken.inbox.take().news
    assert news is not None
    assert (news.beat.stops, news.beat.expiry, news.differs) == ([], 10.0, False)


@pytest.mark.parametrize(
    ("told", "wakes"),
    [
        ({}, 0),
        ({"queues": 2}, 1),
        ({"stops": [(1, 1, "polite")]}, 1),
        ({"expiry": 0.0}, 1),
        ({"held": 1}, 1),
        ({"state": WorkerState.DRAINING}, 1),
    ],
)
def test_a_heartbeat_wakes_the_loop_only_if_there_is_something_to_do(
    woken: Woken, told: dict[str, object], wakes: int
) -> None:
    woken.inbox.put_beat(beat(), held=0)
    before = woken.times
    woken.inbox.put_beat(beat(**told), held=0)
    assert woken.times - before == wakes


def test_nothing_is_lost_between_threads(woken: Woken) -> None:
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

    def handle(number: int, frame: object) -> None:
        sent.append(float(len(sent)))
        woken.inbox.put_drain(sent[-1])

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    found: list[float] = []
    while len(sent) < 200:
        found += woken.inbox.take().drains
        woken.inbox.put_work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    found += woken.inbox.take().drains
    assert sorted(found) == sent, "a handler that was interrupted by another comes after it"


def test_the_agenda_follows_the_last_heartbeat(woken: Woken) -> None:
    agenda = Agenda()
    assert agenda.queues_to_read == 0
    woken.inbox.put_beat(beat(queues=3, stops=[(1, 1, "now")], expiry=0.0, held=1), held=0)
    agenda.absorb(woken.inbox.take())
    assert (agenda.stops, agenda.overdue, agenda.doubtful, agenda.queues_to_read) == ([(1, 1, "now")], True, True, 3)
    agenda.queues_read(3)
    agenda.absorb(Messages())
    assert (agenda.overdue, agenda.queues_to_read) == (True, None)
    woken.inbox.put_beat(beat(queues=3), held=0)
    agenda.absorb(woken.inbox.take())
    assert (agenda.stops, agenda.overdue, agenda.doubtful) == ([], False, False)


def test_when_a_turn_is_due() -> None:
    agenda = Agenda()
    assert agenda.has_to_act(free=1, to_store=False)
    assert not agenda.has_to_act(free=0, to_store=False)
    assert agenda.has_to_act(free=0, to_store=True)
    assert not agenda.begin_turn()
    assert agenda.turn_done(free=2, claimed=1), "the queues are empty"
    assert not agenda.has_to_act(free=1, to_store=False)
    agenda.absorb(Messages(work=True))
    assert agenda.has_to_act(free=1, to_store=False)


@pytest.mark.parametrize(("free", "claimed", "more"), [(2, 2, True), (2, 1, False), (0, 0, False), (2, 3, True)])
def test_after_a_full_claim_there_may_be_more(free: int, claimed: int, more: bool) -> None:
    agenda = Agenda()
    agenda.begin_turn()
    assert agenda.turn_done(free, claimed) == (free > claimed)
    assert agenda.more == more


def test_work_that_arrives_during_a_turn_is_not_forgotten(woken: Woken) -> None:
    agenda = Agenda()
    agenda.begin_turn()
    woken.inbox.put_work()
    agenda.turn_done(free=2, claimed=0)
    agenda.absorb(woken.inbox.take())
    assert agenda.more


def test_a_turn_that_failed_is_tried_again_and_compares() -> None:
    agenda = Agenda()
    agenda.begin_turn()
    agenda.turn_failed(doubtful=True, again=7.0)
    assert (agenda.uncertain, agenda.more, agenda.doubtful, agenda.not_before) == (True, True, True, 7.0)
    assert agenda.begin_turn()
    agenda.registered()
    assert (agenda.uncertain, agenda.more, agenda.stops) == (False, True, [])
