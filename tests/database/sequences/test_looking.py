"""Steps that wait for a file or an address, on every engine: no slot, a time limit, and one who finds it."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import visit, worker, worker_lease
from jobfac.states import Decision
from jobfac.store import sequences
from jobfac.store.sequences import WaitingVisit
from jobfac.views.sequences import StepVisitView
from tests.database.sequences.test_waiting import ripen, sweep
from tests.support.database import define, events, get, now, start, together
from tests.support.sequences import Player, path

THEN = {"name": "load", "jobs": ["b"], "on_success": "end"}


def waiting(db: Database, parameters: dict[str, Any] | None = None, **wait: Any) -> tuple[Player, int]:
    """A sequence run that waits at its only step before ``load``."""
    steps = [{"name": "there", "wait": wait, "on_failure": {"step": "alert"}}, THEN]
    steps.append({"name": "alert", "jobs": ["c"], "on_success": "end_failed"})
    define(db, b={}, c={}, seq={"steps": steps, "parameters": {"day": {"default": "31"}}})
    player = Player(db)
    run_id = start(db, "seq", parameters=parameters)
    player.look()
    return player, run_id


def looked_for(db: Database, *pools: str) -> list[WaitingVisit]:
    return db.query(sequences.looked_for, pools)


def due(db: Database) -> list[WaitingVisit]:
    return db.transact(sequences.take_due, 10)


def seen(db: Database, run_id: int) -> StepVisitView:
    with db.read() as conn:
        return sequences.step_history(conn, run_id)[0]


def test_a_step_waits_for_a_file_that_the_workers_of_a_pool_look_for(db: Database) -> None:
    player, run_id = waiting(db, file="/in/*-${parameters.day}.csv", stable="30s", pool="etl")
    (one,) = looked_for(db, "etl", "other")
    assert (one.run_id, one.step, one.wanted) == (run_id, "there", {"file": "/in/*-31.csv", "stable": 30.0})
    assert (looked_for(db, "default"), due(db), player.look()) == ([], [], [])
    assert player.survey().watches > 0
    sweep(db)
    assert (get(db, run_id)["state"], seen(db, run_id).wanted) == ("running", "the file /in/*-31.csv in pool etl")
    answers = together(3, lambda place: db.transact(sequences.found, one, "/in/a-31.csv is there", f"w{place}"))
    assert sorted(map(bool, answers)) == [False, False, True]  # None: another one has its locks
    assert player.look() == ["b"]
    found = seen(db, run_id)
    assert (found.decision, found.decided_by, found.reason) == (Decision.FOUND, None, "/in/a-31.csv is there")
    assert (looked_for(db, "etl"), player.survey().watches) == ([], 0)
    player.finish("b")
    assert (get(db, run_id)["state"], events(db, run_id)[-2:]) == ("succeeded", ["found", "succeeded"])


def test_a_value_is_no_wildcard_and_leads_nowhere_else(db: Database) -> None:
    waiting(db, {"day": "[3]?"}, file="/in/*-${parameters.day}.csv")
    assert looked_for(db, "default")[0].wanted["file"] == "/in/*-[[]3][?].csv"
    player, run_id = waiting(db, {"day": "../../etc"}, file="/in/*-${parameters.day}.csv")
    assert player.look() == ["c"]
    assert "would leave its folder" in str(seen(db, run_id).reason)


def test_a_step_waits_for_an_address_that_one_scheduler_asks(db: Database) -> None:
    player, run_id = waiting(db, {"day": "3/1&x"}, http="https://rates.example.org/${parameters.day}", every="1h")
    assert seen(db, run_id).wanted == "an answer of https://rates.example.org/3%2F1%26x"
    taken = together(2, lambda _: due(db))
    (one,) = [visit for some in taken for visit in some]
    assert (one.wanted["http"], due(db)) == ("https://rates.example.org/3%2F1%26x", [])
    for _ in range(2):
        db.transact(sequences.note, one, "rates.example.org answered 503")
    assert seen(db, run_id).reason == "rates.example.org answered 503"
    with db.begin() as conn:
        conn.execute(visit.update().values(look_at=visit.c.entered_at))
    assert [again.id for again in due(db)] == [one.id]
    assert db.transact(sequences.found, one, "it has answered", "s1")
    assert (player.look(), seen(db, run_id).reason, player.survey().watches) == (["b"], "it has answered", 0)
    db.transact(sequences.note, one, "too late")
    assert seen(db, run_id).reason == "it has answered"


@pytest.mark.parametrize("wait", [{"file": "/in/a"}, {"http": {"secret": "env:RATES_URL"}}], ids=["file", "http"])
@pytest.mark.parametrize(("otherwise", "job"), [("fail", "c"), ("succeed", "b")])
def test_what_does_not_come_in_time(db: Database, wait: dict[str, Any], otherwise: str, job: str) -> None:
    is_unserved = "file" in wait and otherwise == "succeed"
    wait = {**wait, "pool": "etl"} if is_unserved else wait
    player, run_id = waiting(db, **wait, timeout="1h", otherwise=otherwise)
    assert seen(db, run_id).wake_at is not None
    (one,) = [*looked_for(db, "default", "etl"), *due(db)]
    ripen(db)
    assert db.transact(sequences.wake, "s1") == 1
    if is_unserved:  # a worker may come back
        assert player.look() == []
        ripen(db)
        assert db.transact(sequences.wake, "s1") == 1
    assert player.look() == [job]
    assert seen(db, run_id).decision == Decision.EXPIRED
    unseen = "no live worker of pool 'etl' looks for it" if is_unserved else None
    assert seen(db, run_id).reason == unseen, "the file may be there"
    assert db.transact(sequences.found, one, "too late", "w1") is False


EITHER = pytest.mark.parametrize("wait", [{"file": "/in/a"}, {"http": "http://a.example.org"}], ids=["file", "http"])


@EITHER
@pytest.mark.parametrize("otherwise", ["fail", "succeed"])
def test_what_nobody_looked_for_at_the_end_gets_one_more_look(
    db: Database, wait: dict[str, Any], otherwise: str
) -> None:
    player, run_id = waiting(db, **wait, timeout="1h", otherwise=otherwise)
    due(db)
    with db.begin() as conn:  # no role ran for an hour
        conn.execute(visit.update().values(wake_at=utcnow(-3_600_000)))
    db.transact(sequences.wake, "s1")
    db.transact(sequences.wake, "s1")
    again, said = seen(db, run_id), "when perhaps nobody looked, so it got one more look"
    assert (player.look(), again.decision) == ([], None)
    assert again.wake_at is not None
    assert again.awaits is not None
    assert timedelta(seconds=50) < again.wake_at - now(db) < timedelta(seconds=80)
    assert again.reason == f"its time was over at {again.awaits['over']}, {said}"
    (one,) = [*looked_for(db, "default"), *due(db)]
    if otherwise == "succeed":
        assert db.transact(sequences.found, one, "it is there", "w1")
        assert (player.look(), seen(db, run_id).decision) == (["b"], Decision.FOUND)
        assert seen(db, run_id).reason == f"it is there; {again.reason}"
        return
    if "http" in wait:
        db.transact(sequences.note, one, "a.example.org answered 503")
    with db.begin() as conn:  # once more, nobody
        conn.execute(visit.update().values(wake_at=utcnow(-3_600_000)))
    db.transact(sequences.wake, "s1")
    assert (player.look(), seen(db, run_id).decision) == (["c"], Decision.EXPIRED)
    expected = f"a.example.org answered 503; {again.reason}" if "http" in wait else again.reason
    assert seen(db, run_id).reason == expected


@pytest.mark.parametrize(("came", "seen_before"), [(5, 0), (3600, 30)], ids=["just come", "just gone"])
def test_a_worker_that_was_not_there_has_not_looked(db: Database, came: int, seen_before: int) -> None:
    player, run_id = waiting(db, file="/in/a", timeout="1h")
    with db.begin() as conn:
        conn.execute(visit.update().values(entered_at=utcnow(-3_600_000)))
        conn.execute(worker.update().values(started_at=utcnow(-1000 * came)))
        conn.execute(worker_lease.update().values(seen_at=utcnow(-1000 * seen_before)))
    for decision in (None, Decision.EXPIRED):
        ripen(db)
        db.transact(sequences.wake, "s1")
        assert seen(db, run_id).decision == decision
    assert player.look() == ["c"]


@EITHER
def test_a_stop_ends_the_waiting(db: Database, wait: dict[str, Any]) -> None:
    player, run_id = waiting(db, **wait)
    (one,) = [*looked_for(db, "default"), *due(db)]
    db.transact(sequences.stop, run_id, now=False, by="me")
    assert (get(db, run_id)["state"], path(db, run_id)) == ("stopped", ["there:None>None"])
    assert (looked_for(db, "default"), due(db), player.survey().watches) == ([], [], 0)
    assert db.transact(sequences.found, one, "too late", "w1") is False
    with db.read() as conn:
        assert conn.execute(sa.select(visit.c.look_at)).scalars().all() == [None]
