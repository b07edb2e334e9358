"""What a hold costs: nothing in the claim, and no row for ever."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import start_hold
from jobfac.operations import holds
from jobfac.store import retention, runs, sequences
from jobfac.store.holds import moving, placing
from jobfac.store.holds.placing import Scope
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from tests.database.operating.test_holds import ME, factory, hold, turn
from tests.support.database import Hand, define, start, states
from tests.support.engines import ENGINES

__all__ = ["factory"]


def test_old_holds_are_removed_when_all_that_they_held_moves_on(factory: Database) -> None:
    ended, fresh, open_ = (hold(factory, job=job) for job in ("a", "b", "c"))
    for one in (ended, fresh):
        holds.release(factory, ME, one.id)
    with factory.begin() as conn:
        conn.execute(start_hold.update().where(start_hold.c.id != fresh.id).values(released_at=utcnow(-100_000)))
        conn.execute(start_hold.update().where(start_hold.c.id == open_.id).values(released_at=None))
    retention.purge_all(factory, Keep(50.0))
    assert {one.id for one in factory.query(holds.list_holds, ME, True).holds} == {fresh.id, open_.id}


@pytest.mark.mssql
@pytest.mark.parametrize("url", ENGINES[1:], indirect=True)
def test_the_claim_is_the_same_statement_beside_a_hold(factory: Database) -> None:
    """So SQL Server uses the same plan for it: one ordered seek in the filtered index of queued runs."""
    claims: list[str] = []

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "UPDATE next" in statement:
            claims.append(statement)

    sa.event.listen(factory.engine, "before_cursor_execute", listen)
    hand = Hand(factory, pools=["default", "big"])
    for scope in (None, {"job": "a"}, {"category": "etl"}, {"pool": "big"}):
        start(factory, "c")
        placed = None if scope is None else holds.hold(factory, ME, Scope(**scope), "why")
        assert len(turn(factory, hand, 1, ("default",))) == 1, scope
        if placed is not None:
            holds.release(factory, ME, placed.id)
    assert len(claims) == 4
    (text,) = set(claims)
    assert "start_hold" not in text
    assert re.search(
        r"SELECT TOP 1 .* FROM jobfac\.run WITH \(UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK, FORCESEEK\)\s+"
        r"WHERE state = 'queued' AND jobfac\.run\.queue = \? ORDER BY jobfac\.run\.priority DESC, jobfac\.run\.id\)",
        " ".join(text.split()),
    ), text


def test_other_pools_go_on_while_many_runs_are_set_aside(factory: Database) -> None:
    ids = factory.transact(runs.start_many, StartRequest("a", "me"), moving.BATCH + 1)
    big = start(factory, "big")
    factory.transact(placing.place, Scope(job="a"), "why", None, "me")
    hand = Hand(factory, pools=["default", "big"])
    assert turn(factory, hand) == [big], "the default pool may have more of them"
    free = start(factory, "c")
    assert turn(factory, hand) == [free]
    assert set(states(factory, ids)) == {"blocked"}


def test_a_sequence_begins_with_one_look_at_the_holds(factory: Database) -> None:
    define(factory, a={}, all={"steps": [{"name": "one", "jobs": ["a"]}]})
    start(factory, "all")
    looks: list[str] = []

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        looks.extend(["look"] * ("start_hold" in statement))

    sa.event.listen(factory.engine, "before_cursor_execute", listen)
    assert factory.transact(sequences.begin, "s1").number == 1
    assert len(looks) == 1
    holds.hold(factory, ME, Scope(), "why")
    start(factory, "all")
    assert factory.transact(sequences.begin, "s1").number == 0
