"""A session that calls a procedure may have SET ROWCOUNT, as a query window of SSMS may by its options.

It limits the statements inside procedures, too. Source: Microsoft, "SET ROWCOUNT".
"""

from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, run_event, schedule
from jobfac.states import RunState
from jobfac.store import runs, schedules, statistics
from jobfac.store.runs import Outcome, StartRequest
from tests.database.triggers.test_after import after, apply, started
from tests.support.tsql import THROUGH_TSQL, audited, call, define, execute, states, take

pytestmark = THROUGH_TSQL


def limited(conn: sa.Connection, procedure: str, **arguments: Any) -> Any:
    """Call a procedure in a session whose statements stop after one row."""
    conn.exec_driver_sql("SET ROWCOUNT 1")
    result = call(conn, procedure, **arguments)
    assert len(conn.execute(sa.text("SELECT 1 AS one UNION ALL SELECT 2")).all()) == 1  # the session still has it
    conn.exec_driver_sql("SET ROWCOUNT 0")
    return result


def test_a_stop_stops_every_run_of_a_sequence(db: Database) -> None:
    define(db, a={}, all={"steps": [{"name": "one", "jobs": ["a"]}]})
    parent = execute(db, "start_job", job="all")
    children = db.transact(runs.start_many, StartRequest("a", "me", manual=False, sequence_run_id=parent), 3)
    db.transact(lambda conn: conn.execute(run.update().where(run.c.id == parent).values(state="running")))
    db.transact(limited, "stop_run", run=parent)
    assert states(db, [parent, *children]) == ["stopping", "stopped", "stopped", "stopped"]


def test_every_schedule_is_paused_and_every_follower_starts(db: Database) -> None:
    apply(db, a={}, load=after("a", on=["stopped"]), count=after("a", on=["stopped"]))
    define(db, b={"schedules": [{"name": name, "cron": "* * * * *"} for name in ("one", "two", "three")]})
    db.transact(limited, "pause_schedule", job="b", by="boss")
    with db.read() as conn:
        assert conn.execute(sa.select(schedule.c.paused).where(schedule.c.job == "b")).scalars().all() == [True] * 3
    assert sorted(subject for _, _, subject in audited(db)) == ["b/one", "b/three", "b/two"]
    db.transact(limited, "stop_run", run=execute(db, "start_job", job="a"))
    db.transact(schedules.insert_followers, "s1")
    assert [len(started(db, job)) for job in ("load", "count")] == [1, 1]


def test_a_purge_leaves_no_events_behind(db: Database) -> None:
    define(db, a={})
    worker_id = None
    ids = [db.transact(runs.start, StartRequest("a", "me")) for _ in range(4)]
    worker_id = take(db)
    db.transact(runs.finish, worker_id, [Outcome(one, 1, RunState.SUCCEEDED) for one in ids], "w1")
    db.transact(statistics.count)
    db.transact(lambda conn: conn.execute(run.update().values(ended_at=utcnow(-100 * 86400 * 1000))))
    with db.singles.connect() as conn:
        assert limited(conn, "purge") == 3, "the last success stays"
        events = sa.select(sa.func.count()).select_from(run_event).where(run_event.c.run_id != ids[-1])
        assert conn.execute(events).scalar_one() == 0
