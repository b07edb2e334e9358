"""Why a run waits, said in Python and in SQL; and how long a run took that was tried more than once."""

import contextlib
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from rich.console import Console

from jobfac.cli.rendering import frame
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, worker_lease
from jobfac.operations import approvals, holds
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import overview, runs, schedules, workers
from jobfac.store.history import spans, waiting
from jobfac.store.holds.placing import Scope
from jobfac.views.holds import HoldView
from jobfac.views.overview import WaitingRuns
from tests.support.database import Hand, define, start
from tests.support.sequences import Player


def _schema(db: Database) -> str:
    return "" if db.dialect.name == "sqlite" else "jobfac."


def queue(db: Database) -> Sequence[sa.RowMapping]:
    with db.read() as conn:
        return conn.exec_driver_sql(f"SELECT id, waits_for FROM {_schema(db)}v_queue").mappings().all()


def seconds(db: Database, run_id: int) -> float:
    with db.read() as conn:
        query = f"SELECT run_seconds FROM {_schema(db)}v_runs WHERE id = {run_id}"
        return float(conn.exec_driver_sql(query).scalar_one())


def put_back(db: Database, run_id: int, ago: int) -> None:
    change = run.update().where(run.c.id == run_id).values(started_at=utcnow(-1000 * ago))
    db.transact(lambda conn: conn.execute(change))


def place(db: Database, scope: Scope, reason: str) -> HoldView:
    return holds.hold(db, Caller("anna"), scope, reason)


def test_why_a_run_waits_is_the_same_sentence_everywhere(db: Database) -> None:
    """``v_queue`` says it in SQL, pages, command line and API by ``views.waiting``."""
    needs = {"pool": "etl", "labels": {"zone": "a", "os": "linux"}}
    jobs_: dict[str, dict[str, Any]] = {
        "free": {}, "far": {"pool": "gpu"}, "labelled": needs, "serial": {"already_running": "queue"},
        "x": {"concurrency": {"limit": 1, "key": "Ledger"}}, "y": {"concurrency": {"limit": 1, "key": "Ledger"}},
    }  # fmt: skip
    define(db, **jobs_)
    ids = [start(db, job) for job in (*jobs_, "serial", "x", "y", "labelled")]
    define(
        db,
        wide={"pool": "etl", "labels": {"os": "linux"}, "slots": 2},
        narrow={"pool": "etl", "labels": {"os": "linux"}},
    )
    wide = start(db, "wide")
    ids += [start(db, "free", delay=600), wide, start(db, "narrow")]
    alone = start(db, "far")
    change = run.update().where(run.c.id == alone).values(for_worker="w9")
    db.transact(lambda conn: conn.execute(change))
    ids.append(alone)

    def sentences() -> dict[int, str]:
        in_sql = {row["id"]: row["waits_for"] for row in queue(db)}
        assert db.query(waiting.reasons, ids) == in_sql
        return in_sql

    told = sentences()
    assert told[ids[2]] == "no live worker serves pool 'etl' (labels os=linux,zone=a)"
    assert told[alone] == "worker w9, which alone may claim it"
    assert told[ids[6]] == f"run {ids[3]} of the job has not ended"
    assert told[ids[7]] == f"concurrency limit 1 of 'Ledger': run {ids[4]} of x"
    hand = Hand(db, slots=1, pools=["default", "etl"], labels={"zone": "b", "os": "linux"})
    told = sentences()
    assert told[ids[0]] == "its turn: a slot is free"
    assert told[ids[2]] == "no live worker serves pool 'etl' (labels os=linux,zone=a)"
    held = hand.take()
    told = sentences()
    assert held.id == ids[0]
    assert told[ids[3]] == "the only slot of pool 'default' is busy"
    assert told[wide] == "no live worker serves pool 'etl' (labels os=linux) with 2 slots"
    big = Hand(db, "w2", slots=2, pools=["etl"], labels={"os": "linux"})
    assert sentences()[wide] == "its turn: a slot is free"
    big.claim(queues=["etl[os=linux]"])
    assert sentences()[wide] == "2 free slots of one worker of pool 'etl' (labels os=linux) with 2 slots"
    db.transact(workers.set_message, hand.id, "unhealthy: no space in /spool")
    assert sentences()[ids[3]] == "worker w1 claims nothing: unhealthy: no space in /spool"
    one = place(db, Scope(pool="etl"), "upgrade")
    assert sentences()[wide] == f"hold {one.id} of pool etl: upgrade"
    hand.end(held, RunState.FAILED, retry_after=600.0)
    assert sentences()[held.id].startswith("its next attempt at 20")


def test_a_sequence_that_waits_for_a_person_says_so(db: Database) -> None:
    define(db, payout={"steps": [{"name": "sign", "approve": {"by": "operator"}}]})
    run_id = start(db, "payout")
    Player(db).look()
    said = "an approval, at the step 'sign'"

    def shown() -> tuple[str | None, list[str | None]]:
        (one,) = db.query(lambda conn: waiting.explained(conn, [runs.get(conn, run_id)]))
        return one.waits_for, [line.message for line in db.query(overview.read).running]

    assert shown() == (said, [f"waits for {said}"])
    approvals.approve(db, Caller("anna"), run_id, "sign")
    assert shown() == (None, []), "it has ended"


def test_a_run_that_queues_says_that_it_waits_for_a_retry(db: Database) -> None:
    define(db, serial={"already_running": "queue"})
    first, second = start(db, "serial"), start(db, "serial")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, retry_after=600.0)
    told = {row["id"]: row["waits_for"] for row in queue(db)}
    assert db.query(waiting.reasons, [first, second]) == told
    assert told[second] == f"run {first} of the job has not ended"


def test_what_is_served_ignores_case_as_workers_do(sqlite_url: str) -> None:
    queued = [WaitingRuns("ETL", 1, 9.0, None)]
    with contextlib.closing(Database(sqlite_url)) as db:
        hand = Hand(db, "w1", pools=["etl"])
        found = db.query(overview.read)._replace(queued=queued)
        db.transact(workers.set_message, hand.id, "unhealthy: no space in /spool")
        sick = db.query(overview.read)._replace(queued=queued)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(frame.draw(found, "x", 80, 24))
    assert re.search(r"ETL +1 +for 9.0s", captured.get())
    with console.capture() as captured:
        console.print(frame.draw(sick, "x", 80, 24))
    assert re.search(r"ETL +1 +not claimed", captured.get()), "it looked as if a worker took from it"


def test_a_worker_whose_lease_has_expired_serves_nothing(db: Database) -> None:
    """Until somebody notices its death, the pages said of its queue that a slot is free, and ``v_queue`` that no live
    worker serves it."""
    define(db, a={"schedules": [{"cron": "0 * * * *"}]})
    waits = start(db, "a")
    Hand(db)
    change = worker_lease.update().values(lease_until=utcnow(-60_000), seen_at=utcnow(-75_000))
    db.transact(lambda conn: conn.execute(change))
    (row,) = queue(db)
    assert row["waits_for"] == "no live worker serves pool 'default'"
    assert db.query(waiting.reasons, [waits]) == {waits: row["waits_for"]}
    found = db.query(overview.read)
    assert "default" not in overview.served(found.workers, found.now)
    assert db.query(schedules.read_load, 1).unserved == ["a"]


def test_a_run_lasts_from_its_first_start_to_its_end(db: Database) -> None:
    define(db, again={"retry": {"attempts": 2, "delay": "0s"}})
    run_id = start(db, "again")
    hand = Hand(db)
    first = hand.take()
    put_back(db, run_id, 40)
    hand.end(first, RunState.FAILED, retry_after=0.0)
    db.transact(runs.promote_due, "w1")
    hand.end(hand.take())
    assert 40 <= seconds(db, run_id) < 100
    attempts = db.query(runs.attempts, run_id)
    assert attempts[1].started_at > attempts[0].started_at
    began, hour = attempts[0].started_at, timedelta(hours=1)
    assert db.query(spans.tries, [run_id], began - hour, began + hour) == {run_id: attempts}
    assert db.query(spans.tries, [run_id], began + hour, began + 2 * hour) == {run_id: []}
