"""Why a run waits, said in Python and in SQL; and how long a run took that was tried more than once."""

from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import runs, workers
from jobfac.store.history import waiting
from jobfac.store.runs import Outcome
from jobfac.store.workers import Registration
from tests.support.database import define, start


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


def register(db: Database) -> int:
    return db.transact(workers.register, Registration("w1", "host", 1, "token-w1", "0", 4, ["default"], {}), 60)


def claim(db: Database, worker_id: int) -> list[int]:
    return [claimed.id for claimed in db.transact(workers.claim, worker_id, "w1", ["default"], 10)]


def test_why_a_run_waits_is_the_same_sentence_everywhere(db: Database) -> None:
    """``v_queue`` says it in SQL, pages, command line and API by ``views.waiting``."""
    needs = {"pool": "etl", "labels": {"zone": "a", "os": "linux"}}
    jobs_ = {
        "free": {}, "far": {"pool": "gpu"}, "labelled": needs, "serial": {"already_running": "queue"},
        "x": {"concurrency": {"limit": 1, "key": "Ledger"}}, "y": {"concurrency": {"limit": 1, "key": "Ledger"}},
    }  # fmt: skip
    define(db, **jobs_)
    ids = [start(db, job) for job in (*jobs_, "serial", "x", "y", "labelled")]
    ids.append(start(db, "free", delay=600))

    def sentences() -> dict[int, str]:
        in_sql = {row["id"]: row["waits_for"] for row in queue(db)}
        assert db.query(waiting.reasons, ids) == in_sql
        return in_sql

    told = sentences()
    assert told[ids[2]] == "no live worker serves pool 'etl' (labels os=linux,zone=a)"
    assert told[ids[6]] == f"run {ids[3]} of the job has not ended"
    assert told[ids[7]] == f"concurrency limit 1 of 'Ledger': run {ids[4]} of x"
    who = Registration("w1", "host", 1, "token-w1", "0", 1, ["default", "etl"], {"zone": "b", "os": "linux"})
    worker_id = db.transact(workers.register, who, 60)
    told = sentences()
    assert told[ids[0]] == "its turn: a slot is free"
    assert told[ids[2]] == "no live worker serves pool 'etl' (labels os=linux,zone=a)"
    (held,) = [claimed.id for claimed in db.transact(workers.claim, worker_id, "w1", ["default"], 1)]
    told = sentences()
    assert held == ids[0]
    assert told[ids[3]] == "the only slot of pool 'default' is busy"
    db.transact(workers.set_message, worker_id, "unhealthy: no space in /spool")
    assert sentences()[ids[3]] == "worker w1 claims nothing: unhealthy: no space in /spool"
    retried = Outcome(held, 1, RunState.FAILED, retry_after=600.0)
    db.transact(runs.finish, worker_id, [retried], "w1")
    assert sentences()[held].startswith("its next attempt at 20")


def test_a_run_lasts_from_its_first_start_to_its_end(db: Database) -> None:
    define(db, again={"retry": {"attempts": 2, "delay": "0s"}})
    run_id = start(db, "again")
    worker_id = register(db)
    claim(db, worker_id)
    put_back(db, run_id, 40)
    db.transact(runs.finish, worker_id, [Outcome(run_id, 1, RunState.FAILED, retry_after=0.0)], "w1")
    db.transact(runs.promote_due, "w1")
    assert claim(db, worker_id) == [run_id]
    db.transact(runs.finish, worker_id, [Outcome(run_id, 2, RunState.SUCCEEDED)], "w1")
    assert 40 <= float(seconds(db, run_id)) < 100
    first, second = db.query(runs.attempts, run_id)
    assert second.started_at > first.started_at
