"""Subscriptions, without a database."""

from typing import Any

from jobfac.definitions import read_notify
from jobfac.store.outbox.delivery import LONGEST_PAUSE, TRIES, pause
from jobfac.store.outbox.subscriptions import event_name_for, subscription, wants


def entries(*bodies: Any) -> Any:
    return read_notify([{"to": {"email": "a@b"}, **body} for body in bodies])


def test_a_subscription_combines_all_entries() -> None:
    assert subscription([]) == (None, None)
    assert subscription(entries({"on": ["lost", "failed"]}, {"on": "failed"})) == ("failed lost", None)
    assert subscription(entries({"on": "failed", "of": "jobs"})) == (None, "failed")
    assert subscription(entries({"on": "failed", "of": "both"}), "lost") == ("failed lost", "failed lost")
    whole = subscription(entries({"on": ["finished", "started"]})).notify
    assert whole == "denied failed lost mixed start_failed started stopped succeeded timed_out"


def test_wants_checks_the_subscribed_events() -> None:
    assert not wants(None, "failed")
    assert wants("failed lost", "lost")
    assert not wants("start_failed", "failed")
    assert wants("all", "anything")
    assert not wants("recovered", "succeeded")


def test_a_recovery_is_notified_under_the_subscribed_name() -> None:
    assert event_name_for(("recovered", "succeeded"), "recovered") == "recovered"
    assert event_name_for(("succeeded",), "recovered") == "succeeded"
    assert event_name_for(("finished",), "recovered") == "succeeded"
    assert event_name_for(("recovered",), "succeeded") is None
    assert event_name_for(("finished",), "denied") == "denied"
    assert event_name_for(("finished",), "retry") is None


def test_pauses_grow_up_to_an_hour() -> None:
    pauses = [pause(tries) for tries in range(1, TRIES)]
    for found, expected in zip(pauses, (10.0, 20.0, 40.0), strict=False):
        assert 0.6 * expected <= found <= 1.4 * expected
    assert pause(20) == LONGEST_PAUSE == 3600.0
    assert 2400 < sum(pauses) < 8000


def test_a_storm_that_was_refused_does_not_come_back_at_once() -> None:
    last = sorted(pause(TRIES - 1) for _ in range(2000))
    busiest = max(sum(begin <= one < begin + 60 for one in last) for begin in range(0, 4000, 60))
    assert busiest < 120  # of 2,000 within a minute, where a receiver takes one each second
