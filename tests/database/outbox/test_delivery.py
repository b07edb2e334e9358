"""Delivery of notifications, the output that they contain, and runs that T-SQL starts and ends."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.channels import shown
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification
from jobfac.operations import notifications
from jobfac.operations.caller import Caller
from jobfac.scheduler.notifier import address_some, tail
from jobfac.states import Delivery, RunState
from jobfac.store import outbox, runs
from jobfac.store.outbox import delivery
from jobfac.store.outbox.addressing import BY_START
from jobfac.store.outbox.delivery import TRIES
from jobfac.store.output import Stored, append
from tests.support.database import Hand, define, get, now, start, together
from tests.support.outbox import OPS, apply_defaults, notified_events, on, rows
from tests.support.tsql import THROUGH_TSQL, execute


def waiting(db: Database, count: int) -> None:
    """Create ``count`` notifications, due one after the other."""
    define(db, a={"notify": [on("stopped")]})
    for _ in range(count):
        db.transact(runs.request_stop, start(db, "a"), now=False, by="me")
    notified_events(db)


def due(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(notification.update().values(due_at=utcnow(-1)))


def test_a_taken_notification_is_not_taken_again_during_its_lease(db: Database) -> None:
    waiting(db, 3)
    first = db.transact(outbox.take, 2, 60.0)
    assert len(first) == 2
    assert [one.tries for one in first] == [1, 1]
    assert first[0].recipient == d.Recipient.model_validate(OPS)
    assert first[0].body["state"] == first[0].event == "stopped"
    second = db.transact(outbox.take, 2, 60.0)
    assert len(second) == 1
    assert db.transact(outbox.take, 2, 60.0) == []
    assert db.transact(outbox.delivered, second[0])
    due(db)
    again = db.transact(outbox.take, 9, 60.0)
    assert [(one.id, one.tries, one.dedupe) for one in again] == [(one.id, 2, one.dedupe) for one in first]
    assert not db.transact(outbox.delivered, first[0])  # too late: another notifier has taken it
    assert db.transact(outbox.delivered, again[0])
    assert not db.transact(outbox.delivered, again[0])


def test_a_take_whose_answer_was_lost_delays_nothing(db: Database) -> None:
    waiting(db, 2)
    leased: list[outbox.Leased] = []
    first = db.transact(outbox.take, 1, 60.0, leased)  # its answer is lost
    assert [(one.id, one.tries) for one in leased] == [(first[0].id, 1)]
    again = db.transact(outbox.take, 1, 60.0, leased)
    again += db.transact(outbox.take, 1, 60.0)
    assert {(one.id, one.tries) for one in again} == {(first[0].id, 1), (first[0].id + 1, 1)}


def test_a_take_that_came_to_nothing_is_not_released_from_another_notifier(db: Database) -> None:
    waiting(db, 1)
    leased: list[outbox.Leased] = []
    with suppress(ZeroDivisionError), db.begin() as conn:
        assert outbox.take(conn, 1, 60.0, leased)
        raise ZeroDivisionError
    (theirs,) = db.transact(outbox.take, 1, 90.0)
    assert theirs.tries == leased[0].tries
    assert db.transact(outbox.take, 1, 60.0, leased) == []
    assert db.transact(outbox.delivered, theirs)


def test_a_recipient_the_mails_and_whom_starts_have_named_have_a_share_of_the_deliveries_each(db: Database) -> None:
    hooks = [{"webhook": f"http://127.0.0.1/{number}"} for number in range(5)]
    theirs = {"notify": [on("stopped", to=one) for one in hooks[3:]]}
    define(
        db,
        mails={"notify": [on("stopped", to={"email": [f"{one}@example.org" for one in "abc"]})]},
        hook={"notify": [on("stopped", to=hooks[0])]},
        other={"notify": [on("stopped", to=hooks[1])]},
        plain={},
    )
    begun = [start(db, job) for job in ("mails", "hook", "hook", "hook")]
    begun += [start(db, "plain", overrides=theirs) for _ in range(2)] + [
        start(db, "other", overrides={"notify": [on("stopped", to=hooks[1])]})
    ]
    for run_id in begun:
        db.transact(runs.request_stop, run_id, now=False, by="me")
    assert len(notified_events(db)) == 11
    busy: Counter[str] = Counter()
    found = []
    while taken := db.transact(outbox.take, 4, 60.0, None, outbox.Room(2, busy)):
        found += [(one.job, one.recipient.channel) for one in taken]
        busy.update(group for one in taken for group in one.groups)
    assert Counter(found) == {
        ("mails", "email"): 2, ("hook", "webhook"): 2, ("plain", "webhook"): 2, ("other", "webhook"): 1
    }  # fmt: skip
    assert len(db.transact(outbox.take, 20, 60.0)) == 4


@pytest.mark.parametrize("most", [9, 2], ids=["at once", "two at a time"])
def test_mails_to_those_whom_starts_have_named_leave_a_place_to_the_others(db: Database, most: int) -> None:
    """A storm of them delayed the mails about failures for as long as it lasted."""
    named = {"notify": [on("stopped", to={"email": [f"{number}@example.org" for number in range(6)]})]}
    define(db, plain={}, payroll={"notify": [on("stopped", to={"email": "duty@example.org"})]})
    for run_id in (start(db, "plain", overrides=named), start(db, "payroll")):
        db.transact(runs.request_stop, run_id, now=False, by="me")
        assert notified_events(db)
    busy: Counter[str] = Counter()
    found = []
    while taken := db.transact(outbox.take, most, 60.0, None, outbox.Room(3, busy)):
        found += [one.job for one in taken]
        busy.update(group for one in taken for group in one.groups)
    assert found == ["plain", "plain", "payroll"]


def test_notifications_of_starts_are_not_those_whom_starts_have_named(db: Database) -> None:
    to = [{"webhook": f"http://127.0.0.1/{number}"} for number in range(3)]
    define(db, a={"notify": [on("started", to=one) for one in to]})
    start(db, "a")
    assert Hand(db).claim()
    assert len(notified_events(db)) == 3
    taken = db.transact(outbox.take, 9, 60.0, None, outbox.Room(2, {BY_START: 2}))
    assert len(taken) == 3


def test_concurrent_notifiers_take_each_notification_once(db: Database) -> None:
    waiting(db, 24)
    taken = together(6, lambda _: [db.transact(outbox.take, 3, 60.0) for _ in range(4)])
    ids = [one.id for batches in taken for batch in batches for one in batch]
    assert len(ids) == len(set(ids))
    assert len(ids) + len(db.transact(outbox.take, 24, 60.0)) == 24


def test_concurrent_schedulers_address_each_event_once(db: Database) -> None:
    define(db, a={"notify": [on("stopped")]})
    for _ in range(12):
        db.transact(runs.request_stop, start(db, "a"), now=False, by="me")
    together(4, lambda _: db.transact(address_some))
    assert notified_events(db) == [("a", "stopped")] * 12


def test_a_failed_notification_is_retried_then_dead_and_can_be_requeued(db: Database) -> None:
    waiting(db, 1)
    for tries in range(1, TRIES + 1):
        due(db)
        (taken,) = db.transact(outbox.take, 1, 60.0)
        before = now(db)
        became = db.transact(outbox.failed, taken, f"no {tries}")
        (row,) = rows(db)
        assert (row["state"], row["error"], row["tries"]) == (became, f"no {tries}", tries)
        if tries < TRIES:
            wait = (row["due_at"] - before).total_seconds()
            about = min(10 * 2 ** (tries - 1), 3600)
            assert 0.6 * about - 0.1 <= wait < 1.4 * about + 5
    assert became == Delivery.DEAD
    due(db)
    assert db.transact(outbox.take, 1, 60.0) == []
    with db.read() as conn:
        assert [found.id for found in outbox.find(conn, shown, Delivery.DEAD)] == [row["id"]]
        assert outbox.find(conn, shown, Delivery.DELIVERED) == []
    assert db.transact(outbox.requeue, [row["id"] + 1], "me") == []
    assert db.transact(outbox.requeue, [row["id"]], "me") == [row["id"]]
    assert notifications.requeue(db, Caller("me"), None) == []
    (taken,) = db.transact(outbox.take, 1, 60.0)
    assert (taken.tries, taken.dedupe) == (1, row["dedupe"])


def test_a_notification_that_ends_its_schedulers_is_dead_at_last(db: Database) -> None:
    waiting(db, 2)
    for _ in range(TRIES):  # no scheduler lives long enough to store a result
        due(db)
        assert len(db.transact(outbox.take, 1, 60.0)) == 1
    due(db)
    (other,) = db.transact(outbox.take, 2, 60.0)
    dead, waits = rows(db)
    assert (dead["state"], dead["error"]) == (Delivery.DEAD, delivery.WITHOUT_RESULT)
    assert waits["id"] == other.id


def test_old_delivered_and_dead_notifications_are_removed(db: Database) -> None:
    waiting(db, 3)
    taken = db.transact(outbox.take, 2, 60.0)
    db.transact(outbox.delivered, taken[0])
    assert db.transact(outbox.forget, 3600.0) is False
    assert len(rows(db)) == 3
    with db.begin() as conn:
        conn.execute(notification.update().values(created_at=utcnow(-7200 * 1000)))
    db.transact(outbox.forget, 3600.0)
    assert [row["state"] for row in rows(db)] == ["waiting", "waiting"]


def test_the_tail_of_the_output_begins_at_a_line(db: Database) -> None:
    text = b"".join(b"line %d of many\n" % number for number in range(1000))
    chunks = [Stored(1, 1, "stdout", offset, text[offset : offset + 50]) for offset in range(10_000, len(text), 50)]
    db.transact(append, [*chunks, Stored(1, 1, "stderr", 0, "oops ü\n".encode())])
    lines = db.query(tail, 1, 1).splitlines()
    assert lines[0] == "stdout:"
    assert lines[-3:] == ["", "stderr:", "oops ü"]
    numbers = [int(line.split()[1]) for line in lines[1:-3]]
    assert numbers == list(range(numbers[0], 1000))
    assert 200 < len(numbers) < 300
    assert db.query(tail, 2, 1) == ""


def test_the_tail_of_the_output_says_where_something_was_cut(db: Database) -> None:
    """Otherwise the last line before the cut and the first one after it look as if they followed each other."""
    parts = {0: b"transfer 17 begun\n", 9018: b"transfer 99 done\n"}
    db.transact(append, [Stored(1, 1, "stdout", offset, data) for offset, data in parts.items()])
    parts = {5000: b"first\n", 5006: b"second\n", 9000: b"third\n"}
    db.transact(append, [Stored(1, 1, "stderr", offset, data) for offset, data in parts.items()])
    cut = "[... 3,987 bytes cut ...]"
    assert db.query(tail, 1, 1).splitlines() == [
        "stdout:",
        "transfer 99 done",
        "",
        "stderr:",
        "second",
        "",
        cut,
        "third",
    ]


class TestThroughTsql:
    """Runs that T-SQL starts and ends."""

    pytestmark = THROUGH_TSQL

    def test_a_denied_start_and_a_stop_are_notified(self, db: Database) -> None:
        define(db, a={"already_running": "deny", "notify": [on("denied", "stopped")]}, quiet={})
        first = execute(db, "start_job", job="a", by="dba")
        assert get(db, first)["notify"] == "all"
        execute(db, "start_job", job="a", by="dba")
        execute(db, "stop_run", run=first, by="dba")
        quiet = execute(db, "start_job", job="quiet", by="dba")
        execute(db, "stop_run", run=quiet, by="dba")
        assert get(db, quiet)["notify"] is None
        assert notified_events(db) == [("a", "denied"), ("a", "stopped")]
        assert json.loads(rows(db)[1]["body"])["reason"] == "stopped by dba before it began"

    def test_the_defaults_of_a_category_apply_to_a_run_from_t_sql(self, db: Database) -> None:
        apply_defaults(db, money={"notify": [on("failed")]})
        define(db, a={"category": "money"})
        execute(db, "start_job", job="a")
        hand = Hand(db)
        hand.end(hand.take(), RunState.FAILED)
        assert notified_events(db) == [("a", "failed")]


def test_all_dead_notifications_are_requeued_in_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for all would hold SQLite's lock for as long as it takes."""
    monkeypatch.setattr(delivery, "BATCH", 2)
    waiting(db, 5)
    with db.begin() as conn:
        conn.execute(notification.update().values(state=Delivery.DEAD))
    begun: list[int] = []

    def note(conn: sa.Connection, ids: Sequence[int], by: str) -> list[int]:
        begun.append(len(ids))
        return delivery.requeue(conn, ids, by)

    monkeypatch.setattr(outbox, "requeue", note)
    assert len(notifications.requeue(db, Caller("me"), None)) == 5
    assert begun == [2, 2, 1]


def test_a_recipient_that_a_newer_version_stored_is_listed(db: Database) -> None:
    waiting(db, 1)
    with db.begin() as conn:
        conn.execute(notification.update().values(recipient='{"pager": "x"}'))
    (found,) = db.query(outbox.find, shown)
    assert (found.channel, found.to) == ("unknown", "a recipient of a newer jobfac")
