"""A newer version of jobfac has stored the definition of a job: this version still delivers its alarms."""

import json

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import category, job_version
from jobfac.states import RunState
from jobfac.store import outbox
from jobfac.store.outbox import OutboxEvent
from tests.support.database import Hand, define, start
from tests.support.outbox import apply_defaults, notified_events, on


def store(db: Database, **more: object) -> None:
    """Add keys to the stored definition of ``a``."""
    with db.begin() as conn:
        text = conn.execute(sa.select(job_version.c.definition)).scalar_one()
        conn.execute(job_version.update().values(definition=json.dumps({**json.loads(text), **more})))


def test_alarms_of_a_definition_with_an_unknown_key_are_addressed(db: Database) -> None:
    define(db, a={"notify": [on("failed", "overdue")]})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    store(db, from_the_future=1)
    with db.begin() as conn:
        outbox.record(conn, [OutboxEvent("a", "overdue", {"job": "a"})])
    assert notified_events(db) == [("a", "failed"), ("a", "overdue")]


@pytest.mark.parametrize("entries", [[{"on": ["eaten"], "to": {"pigeon": "7"}}], 7])
def test_subscriptions_that_cannot_be_read_are_reported(db: Database, entries: object) -> None:
    define(db, a={"notify": [on("failed")]})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    store(db, notify=entries)
    with db.begin() as conn:
        (problem,) = outbox.address(conn, outbox.unaddressed(conn, 10).events, {})
    assert problem.startswith("version 1 of job 'a' cannot be read: ")


def test_a_subscription_that_cannot_be_read_costs_no_other(db: Database) -> None:
    define(db, a={"notify": [on("failed")]})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    store(db, notify=[{"on": ["failed"], "to": {"pigeon": "7"}}, on("failed")])
    assert notified_events(db) == [("a", "failed")]


def test_defaults_of_a_category_that_cannot_be_read_cost_no_other_recipient(db: Database) -> None:
    define(db, a={"category": "c", "notify": [on("failed", "overdue")]})
    apply_defaults(db, c={"notify": [on("failed")]})
    start(db, "a", overrides={"notify": [on("failed", to={"email": "me@example.org"})]})
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    them = on("failed", "overdue", to={"email": "them@example.org"})
    newer = {"notify": [{"on": ["failed"], "to": {"pigeon": "7"}}, them]}
    with db.begin() as conn:
        conn.execute(category.update().values(definition=json.dumps(newer)))
        outbox.record(conn, [OutboxEvent("a", "overdue", {"job": "a"})])
    assert notified_events(db) == [("a", "failed")] * 3 + [("a", "overdue")] * 2
