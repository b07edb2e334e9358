"""Holds: nothing new starts there, the claim stays one ordered search, and their end frees everything at once."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import audit, outbox_event, run, schedule, start_hold
from jobfac.doctor import factory as checks
from jobfac.errors import Forbidden, NotFound, Refused
from jobfac.operations import holds
from jobfac.operations.caller import Caller
from jobfac.scheduler.poll import POLL, Poll
from jobfac.store import jobs, overview, runs, schedules, sequences, workers
from jobfac.store.history import search
from jobfac.store.holds import moving, reading
from jobfac.store.holds.placing import Scope
from jobfac.store.runs import StartRequest, queue_of_worker
from jobfac.store.workers.claiming import Room
from jobfac.views.holds import HoldView
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.turn import Turn, TurnRequest, TurnResult
from tests.support.database import Hand, define, events, get, start, states

ME = Caller("me")
NOTHING = Deliveries([], [], [], [], {}, [], {}, [])


def turn(db: Database, hand: Hand, free: int = 100, pools: tuple[str, ...] = ("default", "big")) -> list[int]:
    """One turn of a worker's loop: what it claims."""

    queues = db.query(jobs.matching_queues, pools, {}, free)
    request = TurnRequest(hand.id, hand.name, queues, False, free, free, NOTHING)
    result: TurnResult = db.transact(Turn(request, {}).take)
    return [one.id for one in result.claimed]


def hold(db: Database, reason: str = "why", until: datetime | None = None, **scope: str) -> HoldView:
    return holds.hold(db, ME, Scope(**scope), reason, until)


def end(db: Database, hold_id: int) -> None:
    """As if the time of a hold had come."""
    with db.begin() as conn:
        conn.execute(start_hold.update().where(start_hold.c.id == hold_id).values(until=utcnow(-1)))


def poll(db: Database) -> Poll:
    with db.singles.connect() as conn:
        return Poll(*conn.execute(POLL).one())


@pytest.fixture
def factory(db: Database) -> Database:
    define(db, a={"category": "etl"}, b={"category": "etl"}, c={}, big={"pool": "big"}, all={"steps": [STEP]})
    return db


STEP = {"name": "one", "jobs": ["c"]}
STEP_Q = {"name": "one", "jobs": ["q"]}


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        ({"job": "a"}, {"a"}),
        ({"category": "etl"}, {"a", "b"}),
        ({"pool": "big"}, {"big"}),
        ({}, {"a", "b", "c", "big"}),
    ],
)
def test_nothing_new_starts_until_the_release(factory: Database, scope: dict[str, str], held: set[str]) -> None:
    before = {job: start(factory, job) for job in ("a", "b", "c", "big")}
    placed = holds.hold(factory, ME, Scope(**scope), "why")
    after = {job: start(factory, job) for job in before}
    hand = Hand(factory, pools=["default", "big"])
    taken = turn(factory, hand)
    assert sorted(taken) == sorted(one[job] for one in (before, after) for job in before if job not in held)
    for job in before:
        assert bool(get(factory, after[job])["started_at"]) is (job not in held)
    shown = {one.id: one.held for one in factory.query(search.find_all)}
    assert {job for job in before if shown[after[job]]} == held
    assert {one for one in shown.values() if one} == {f"hold {placed.id} of {placed.scope}: why"}
    assert factory.query(runs.get, after["a"]).held == shown[after["a"]]
    holds.release(factory, ME, placed.id)
    holds.release(factory, ME, placed.id)  # again
    rest = turn(factory, hand)
    assert sorted([*taken, *rest]) == sorted([*before.values(), *after.values()])
    assert factory.query(reading.active) == []
    with factory.read() as conn:
        noted = [tuple(row) for row in conn.execute(sa.select(audit.c.action, audit.c.by).where(audit.c.by == "me"))]
    assert noted == [("hold", "me"), ("release", "me")]


def test_a_run_that_is_queued_after_the_others_were_set_aside_is_not_claimed(factory: Database) -> None:
    hold(factory, job="a")
    late, free = start(factory, "a"), start(factory, "b")  # as if between a turn's two statements
    hand = Hand(factory)
    assert [one.id for one in hand.claim(held=True)] == [free]
    with factory.begin() as conn:
        conn.execute(run.update().where(run.c.id == late).values(queue=queue_of_worker("w1")))
        assert workers.claim_pinned(conn, hand.id, "w1", Room(9, 9, held=True)).taken == []
        assert [one.id for one in workers.claim_pinned(conn, hand.id, "w1", Room(9, 9)).taken] == [late]


def test_a_hold_ends_at_its_time_and_frees_at_once(factory: Database) -> None:
    ids = [start(factory, "a") for _ in range(3)]
    placed = hold(factory, until=datetime.now(UTC) + timedelta(hours=1), job="a")
    hand = Hand(factory)
    assert states(factory, ids) == ["blocked"] * 3
    assert events(factory, ids[0]) == ["queued", "blocked"]
    known = hand.survey().queues
    assert poll(factory).hold_until == placed.until
    assert turn(factory, hand) == []
    end(factory, placed.id)
    assert hand.survey().queues != known, "a worker that waits reads its queues again"
    assert poll(factory).is_past(poll(factory).hold_until)
    while factory.transact(moving.free_ended, "s1"):
        pass
    assert not poll(factory).released
    assert states(factory, ids) == ["queued"] * 3
    assert turn(factory, hand) == ids
    ((ended,), _) = factory.query(reading.page, True, 10, None)
    assert (ended.released_by, ended.released_at is not None) == ("s1: its time came", True)


def test_two_holds_of_one_run_hold_until_the_last_ends(factory: Database) -> None:
    run_id = start(factory, "a")
    first, second = hold(factory, job="a"), hold(factory, category="etl")
    hand = Hand(factory)
    holds.release(factory, ME, first.id)
    assert turn(factory, hand) == []
    assert factory.transact(runs.release_blocked, None, "sweep") == 0
    end(factory, second.id)
    assert holds.release(factory, ME, second.id).released_by == "me: its time came", "nobody ended it before its time"
    assert turn(factory, hand) == [run_id]


def test_what_is_held_occupies_no_limit_and_keeps_its_own_rule(db: Database) -> None:
    define(
        db,
        a={"concurrency": {"key": "k"}},
        b={"concurrency": {"key": "k"}},
        q={"already_running": "queue"},
        denying={"already_running": "deny"},
    )
    first, second = start(db, "a"), start(db, "b")
    assert states(db, [first, second]) == ["queued", "blocked"]
    placed = hold(db, job="a")
    assert db.transact(runs.release_blocked, None, "sweep") == 1
    assert states(db, [first, second]) == ["blocked", "queued"]
    on_q = hold(db, job="q")
    waiting = [start(db, "q") for _ in range(3)]
    hand = Hand(db)
    assert turn(db, hand) == [second]
    holds.release(db, ME, placed.id)
    holds.release(db, ME, on_q.id)
    assert turn(db, hand) == waiting[:1]
    assert states(db, [first, *waiting]) == ["blocked", "running", "blocked", "blocked"]
    hold(db, job="denying")
    assert states(db, [start(db, "denying"), start(db, "denying")]) == ["queued", "denied"]


def test_sequences_are_not_begun_and_steps_wait(factory: Database) -> None:
    everything = hold(factory)
    first = start(factory, "all")
    assert not poll(factory).queued
    assert factory.transact(sequences.begin, "s").number == 0
    holds.release(factory, ME, everything.id)
    assert poll(factory).queued
    of_step = hold(factory, job="c")
    assert factory.transact(sequences.begin, "s").number == 1
    hand = Hand(factory)
    assert turn(factory, hand) == []
    mine = hold(factory, job="all")
    second = start(factory, "all")
    assert factory.transact(sequences.begin, "s").number == 0
    assert states(factory, [first, second]) == ["running", "blocked"]
    holds.release(factory, ME, of_step.id)
    holds.release(factory, ME, mine.id)
    assert len(turn(factory, hand)) == 1
    assert factory.transact(sequences.begin, "s").number == 1


def test_sequences_that_need_named_locks_are_begun_beside_held_ones(db: Database) -> None:
    define(db, q={"already_running": "queue"}, one={"steps": [{"name": "s", "jobs": ["q"]}]}, two={"steps": [STEP_Q]})
    hold(db, job="two")
    held, other = start(db, "two"), start(db, "one")
    assert db.transact(sequences.begin, "s").number == 0, "this one sets the held sequence aside"
    assert db.transact(sequences.begin, "s").number == 1
    assert states(db, [held, other]) == ["blocked", "running"]


def due(db: Database, minutes: int) -> None:
    with db.begin() as conn:
        moved = {"next_due_at": utcnow(-minutes * 60_000), "fire_at": utcnow(-minutes * 60_000)}
        conn.execute(schedule.update().values(**moved, last_due_at=None))


def started(db: Database) -> dict[str, int]:
    with db.read() as conn:
        rows = conn.execute(sa.select(run.c.job, sa.func.count()).group_by(run.c.job)).all()
        return {row[0]: row[1] for row in rows}


def test_what_is_due_queues_up_or_is_missed_by_its_own_rule(db: Database) -> None:
    rules = {word: {"schedules": [{"cron": "* * * * *", "missed": word}]} for word in ("skip", "once", "all")}
    wanted = d.from_data({"jobs": {job: {"command": ["x"], **body} for job, body in rules.items()}}).jobs
    for job, definition in wanted.items():
        db.transact(schedules.put, job, definition, "me")
    placed = hold(db)
    due(db, 5)
    done = db.transact(schedules.insert_due, "s")
    assert (done.schedules, set(started(db))) == (3, {"all"})
    assert started(db)["all"] >= 5
    with db.read() as conn:
        times = dict(conn.execute(sa.select(schedule.c.job, schedule.c.fire_at)).all())
        moment = conn.execute(sa.select(utcnow())).scalar_one()
    assert times["skip"] > moment < times["once"]
    assert db.transact(schedules.insert_due, "s").schedules == 0, "it is not looked at all the time"
    assert {one.job: one.held for one in db.query(schedules.list_schedules)} == dict.fromkeys(rules, placed.sentence)
    assert turn(db, Hand(db)) == []
    holds.release(db, ME, placed.id)
    after = db.transact(schedules.insert_due, "s")
    assert after.schedules >= 2
    assert started(db)["once"] == 1
    assert "skip" not in started(db)
    assert {miss.job for miss in after.misses} >= {"skip"}


def test_who_wants_to_know_is_told(db: Database) -> None:
    to: dict[str, Any] = {"email": "ops@example.org"}
    define(
        db,
        told={"notify": [{"on": "held", "to": to}]},
        other={"notify": [{"on": "failed", "to": to}]},
        far={"pool": "big", "notify": [{"on": "held", "to": to}]},
    )
    hold(db, reason="move", pool="default")
    with db.read() as conn:
        (item,) = conn.execute(sa.select(outbox_event)).all()
    assert (item.job, item.event, item.run_id) == ("told", "held", None)
    assert item.detail == "hold 1 of pool default: move"


def test_the_overview_and_the_views_show_it(factory: Database) -> None:
    start(factory, "a"), start(factory, "big"), start(factory, "c")
    of_job, of_pool = hold(factory, job="a"), hold(factory, pool="big")
    found = factory.query(overview.read)
    assert [one.id for one in found.holds] == [of_job.id, of_pool.id]
    assert {one.pool: one.hold for one in found.queued} == {"default": None, "big": of_pool.sentence}
    schema = "" if factory.dialect.name == "sqlite" else "jobfac."
    with factory.read() as conn:
        queued = conn.execute(sa.text(f"SELECT job, waits_for, place FROM {schema}v_queue")).all()
        rows = conn.execute(sa.text(f"SELECT id, active, waiting, reason FROM {schema}v_holds ORDER BY id")).all()
        problems = conn.execute(sa.text(f"SELECT problem, subject FROM {schema}v_health")).all()
    waits = {row.job: row.waits_for for row in queued}
    assert {row.job: row.place for row in queued} == {"a": None, "big": None, "c": 1}
    assert waits["a"] == f"hold {of_job.id} of job a: why"
    assert waits["big"] == f"hold {of_pool.id} of pool big: why"
    assert waits["c"].startswith("no live worker serves pool")
    assert [tuple(row) for row in rows] == [(of_job.id, 1, 1, "why"), (of_pool.id, 1, 1, "why")]
    assert ("no worker", "queue big") not in [tuple(row) for row in problems]
    (advised,) = factory.query(lambda conn: list(checks.queues(conn)))  # not to stop and retry the runs of 'big'
    assert advised.found == "no live worker takes the 1 runs queued in 'default'"


def test_the_doctor_names_it(factory: Database) -> None:
    hold(factory, reason="the disk is full", job="a")
    (found,) = factory.query(lambda conn: list(checks.holds(conn)))
    assert (found.check, found.found) == ("holds", "hold 1 of job a: the disk is full (by me)")
    for _ in range(4):
        hold(factory)
    assert factory.query(lambda conn: list(checks.holds(conn)))[-1].found == "and 2 more active holds"
    assert found.remedy == "`jobfac release 1` ends it, if it is no longer needed."


def test_what_cannot_be_held_is_refused_in_a_sentence(factory: Database) -> None:
    limited = replace(ME, name="key", categories=("etl",))
    cases: list[tuple[type[Exception], Caller, Scope, str, str]] = [
        (NotFound, ME, Scope(job="zz"), "r", "There is no job 'zz'"),
        (NotFound, ME, Scope(category="zz"), "r", "No job has the category 'zz'"),
        (NotFound, ME, Scope(pool="zz"), "r", "No job has the pool 'zz'"),
        (NotFound, ME, Scope(pool="@sequences"), "r", "No job has the pool '@sequences'"),
        (Refused, ME, Scope(), "  ", "A hold needs a reason"),
        (Refused, ME, Scope(pool="big", job="a"), "r", "A hold applies to one pool"),
        (Forbidden, limited, Scope(), "r", "The key 'key' may only hold jobs of etl"),
        (Forbidden, limited, Scope(pool="big"), "r", "The key 'key' may only hold jobs of etl"),
        (NotFound, limited, Scope(job="c"), "r", "There is no job 'c'"),
    ]
    for error, by, scope, reason, sentence in cases:
        with pytest.raises(error, match=sentence):
            holds.hold(factory, by, scope, reason)
    with pytest.raises(Refused, match="would have ended"):
        hold(factory, until=datetime(2020, 1, 1, tzinfo=UTC))
    placed = holds.hold(factory, limited, Scope(category="etl"), "r")
    of_c = hold(factory, job="c")
    assert [one.id for one in factory.query(holds.list_holds, limited).holds] == [placed.id]
    with pytest.raises(NotFound, match=f"There is no hold {of_c.id}"):
        holds.release(factory, limited, of_c.id)
    with pytest.raises(NotFound, match="There is no hold 99"):
        holds.release(factory, ME, 99)
    assert holds.release(factory, limited, placed.id).released_by == "key"


@pytest.mark.alone
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_with_10_000_queued_runs_half_of_them_held_the_claim_is_as_before(db: Database) -> None:
    define(db, job={}, other={}, big={"pool": "big"})
    for job in ("job", "other"):
        db.transact(runs.start_many, StartRequest(job, "me"), 5000)
    hand = Hand(db)

    def claimed(number: int) -> tuple[list[int], float]:
        began = time.thread_time()
        taken = turn(db, hand, 10)
        assert len(taken) == number
        return taken, time.thread_time() - began

    before = min(claimed(10)[1] for _ in range(5))
    placed = hold(db, job="other")
    assert db.transact(moving.set_aside, "w1").found == 0, "the hold has set all of them aside"
    after = [claimed(10) for _ in range(5)]
    assert {get(db, run_id)["job"] for taken, _ in after for run_id in taken} == {"job"}
    assert min(spent for _, spent in after) < before * 3 + 0.005
    with db.read() as conn:
        counts = _counts(conn)
        sql = "SELECT id FROM run WHERE state = 'queued' AND queue = 'default' ORDER BY priority DESC, id LIMIT 10"
        steps = [row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
    assert counts["blocked"] == 5000
    assert counts["queued"] == 5000 - 100
    assert steps == ["SEARCH run USING COVERING INDEX ix_run_claim (queue=?)"]
    of_pool = hold(db, pool="default")
    assert turn(db, hand, 10) == []
    holds.release(db, ME, of_pool.id)
    holds.release(db, ME, placed.id)
    with db.read() as conn:
        counts = _counts(conn)
    assert counts["queued"] == 10_000 - 100


def _counts(conn: sa.Connection) -> dict[str, int]:
    rows = conn.execute(sa.select(run.c.state, sa.func.count()).group_by(run.c.state))
    return {row[0]: row[1] for row in rows}
