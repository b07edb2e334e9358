"""Outbox events whose bodies are large, as of runs with a payload of megabytes."""

import json
from collections import Counter

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.scheduler.notifier import address_some
from jobfac.store import outbox
from jobfac.store.outbox import OutboxEvent
from jobfac.store.outbox.recording import LARGEST
from tests.support.database import define, start
from tests.support.outbox import on, rows


def test_large_bodies_are_addressed_in_pieces(db: Database) -> None:
    many = {"email": [f"{number}@example.org" for number in range(5)]}
    define(db, a={"notify": [on("failed", to=many)]})
    large, longest = LARGEST // 2, 0
    body = {"job": "a", "payload": "x" * large}
    db.transact(outbox.record, [OutboxEvent("a", "failed", body, detail=str(number)) for number in range(6)])
    db.transact(outbox.record, [OutboxEvent("a", "failed", {"job": "a"}, detail="6")])

    def note(*call: object) -> None:
        nonlocal longest
        longest = max(longest, len(str(call[3])))

    sa.event.listen(db.engine, "before_cursor_execute", note)
    number, rounds = 0, 0
    while db.transact(address_some):
        rounds += 1
        number, before = len(rows(db)), number
        assert number - before <= 15
    assert (rounds, len(rows(db))) == (3, 35)
    assert longest < 4 * LARGEST
    assert [json.loads(row["body"])["detail"] for row in rows(db)] == [str(number // 5) for number in range(35)]


def test_few_large_bodies_are_delivered_at_a_time(db: Database) -> None:
    to = [on("failed", "recovered", to={"webhook": f"http://127.0.0.1/{number}"}) for number in range(5)]
    define(db, large={"notify": to}, small={"notify": to})
    body = {"job": "large", "payload": "\N{EURO SIGN}" * (LARGEST // 8)}
    db.transact(outbox.record, [OutboxEvent("large", "failed", body)])
    db.transact(outbox.record, [OutboxEvent(job, "recovered", {"job": job}) for job in ("large", "small")])
    assert db.transact(address_some) is False
    busy: Counter[str] = Counter()
    found = []
    while taken := db.transact(outbox.take, 2, 60.0, None, outbox.Room(3, busy)):
        found += [(one.job, one.event) for one in taken]
        busy.update(group for one in taken for group in one.groups)
    assert sorted(found) == [*[("large", "failed")] * 4, *[("small", "recovered")] * 5]
    (again,) = [one for one in db.transact(outbox.take, 2, 60.0, None, outbox.Room(3, {})) if one.is_large]
    assert again.body["payload"] == body["payload"]


def test_large_bodies_of_starts_leave_room_to_others(db: Database) -> None:
    """A start may name receivers that hang, and other jobs have large bodies, too."""
    to = {"notify": [on("failed", to={"webhook": "http://127.0.0.1/defined"})]}
    define(db, other={}, pay=to)
    body = {"job": "pay", "payload": "\N{EURO SIGN}" * (LARGEST // 8)}
    by_start = {"notify": [on("failed", to={"webhook": f"http://127.0.0.1/{number}"}) for number in range(5)]}
    run_id = start(db, "other", overrides=by_start)
    db.transact(outbox.record, [OutboxEvent("other", "failed", {**body, "job": "other"}, run_id=run_id)])
    assert db.transact(address_some) is False
    db.transact(outbox.record, [OutboxEvent("pay", "failed", body)])
    assert db.transact(address_some) is False
    busy: Counter[str] = Counter()
    found = []
    while taken := db.transact(outbox.take, 2, 60.0, None, outbox.Room(3, busy)):
        found += [one.job for one in taken]
        busy.update(group for one in taken for group in one.groups)
    assert sorted(found) == ["other", "other", "pay"]
