"""Outbox events whose bodies are large, as of runs with a payload of megabytes."""

import json

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.scheduler.notifier import address_some
from jobfac.store import outbox
from jobfac.store.outbox import OutboxEvent
from jobfac.store.outbox.recording import LARGEST
from tests.support.database import define
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
