"""The procedures that stop, steer and purge do the same as the program, through both drivers."""

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, audit, run, run_event, run_output, schedule, visit, worker
from jobfac.states import RunState
from jobfac.store import jobs, runs, statistics
from jobfac.store.runs import Outcome, StartRequest
from tests.support.tsql import THROUGH_TSQL, audited, call, define, events, execute, refusal, row, states, take

pytestmark = THROUGH_TSQL

# Stopping and retrying


def test_stop_run(db: Database) -> None:
    define(db, a={})
    running = execute(db, "start_job", job="a")
    take(db)
    waiting, tried = (execute(db, "start_job", job="a") for _ in range(2))
    db.transact(lambda conn: conn.execute(run.update().where(run.c.id == tried).values(attempt=1)))
    for one in (waiting, running, tried):
        execute(db, "stop_run", run=one, by="boss")
    assert states(db, [waiting, running, tried]) == ["stopped", "stopping", "stopped"]
    assert row(db, waiting)["reason"] == "stopped by boss before it began"
    assert row(db, tried)["reason"] == "stopped by boss before its next attempt"
    assert (row(db, running)["stop"], row(db, running)["stop_by"], row(db, running)["ended_at"]) == (
        "polite",
        "boss",
        None,
    )
    execute(db, "stop_run", run=running, by="boss")  # the stop was already requested
    execute(db, "stop_run", run=running, now=True, by="boss")
    execute(db, "stop_run", run=waiting, now=True, by="boss")  # the run has already ended
    assert row(db, running)["stop"] == "now"
    assert events(db, running)[-2:] == [("stopping", "boss"), ("stopping", "boss")]
    assert len(events(db, running)) == 4
    assert events(db, waiting)[1:] == [("stopped", "boss")]
    assert audited(db)[0] == ("boss", "stop", f"run {waiting}")
    assert audited(db).count(("boss", "stop", f"run {waiting}")) == 1, "it had ended"
    assert refusal(db, "stop_run", run=99)[1] == "There is no run 99; jobfac.v_runs shows what there is."


def test_stop_run_stops_the_runs_of_a_sequence(db: Database) -> None:
    define(db, a={}, all={"steps": [{"name": "one", "jobs": ["a"]}]})
    parent = execute(db, "start_job", job="all")
    child = db.transact(runs.start, StartRequest("a", "me", manual=False, sequence_run_id=parent))
    db.transact(lambda conn: conn.execute(run.update().where(run.c.id == parent).values(state="running")))
    execute(db, "stop_run", run=parent, by="boss")
    assert states(db, [parent, child]) == ["stopping", "stopped"]


def test_stop_run_stops_many_runs_of_a_sequence_and_of_those_inside_it(db: Database) -> None:
    define(db, a={}, part={"steps": [{"name": "one", "jobs": ["a"]}]}, all={"steps": [{"name": "x", "jobs": ["part"]}]})
    outer = execute(db, "start_job", job="all")

    def inside(job: str, parent: int, count: int = 1) -> list[int]:
        return db.transact(runs.start_many, StartRequest(job, "me", manual=False, sequence_run_id=parent), count)

    (inner,) = inside("part", outer)
    sequences = [outer, inner]
    db.transact(lambda conn: conn.execute(run.update().where(lists.by_id(run.c.id, sequences)).values(state="running")))
    (ended,) = inside("a", outer)
    execute(db, "stop_run", run=ended, by="me")
    waiting = [*inside("a", outer, 5), *inside("a", inner, 5)]
    execute(db, "stop_run", run=outer, by="boss")
    assert states(db, [*sequences, *waiting]) == ["stopping"] * 2 + ["stopped"] * 10
    assert all(events(db, one)[1:] == [("stopped", "boss")] for one in waiting)
    assert row(db, ended)["stop_by"] == "me"


def test_retry_run(db: Database) -> None:
    define(db, a={"on_demand": False})
    first = db.transact(runs.start, StartRequest("a", "me", manual=False, arguments=["x"], payload="p", priority=4))
    assert refusal(db, "retry_run", run=first)[1] == f"Run {first} is still queued; stop it first, or wait for its end."
    worker_id = take(db)
    db.transact(runs.finish, worker_id, [Outcome(first, 1, RunState.FAILED)], "w1")
    again = execute(db, "retry_run", run=first, by="boss")
    found = row(db, again)
    assert [found[name] for name in ("state", "retry_of", "arguments", "payload", "priority", "created_by")] == [
        "queued", first, '["x"]', "p", 4, "boss",
    ]  # fmt: skip
    assert audited(db) == [("boss", "retry", f"run {first}")]
    assert refusal(db, "retry_run", run=99)[1] == "There is no run 99; jobfac.v_runs shows what there is."


# Steering


def test_enable_job_and_disable_job(db: Database) -> None:
    define(db, a={})
    execute(db, "disable_job", job="a", by="boss")
    assert refusal(db, "start_job", job="a")[1] == "Job 'a' is disabled; EXEC jobfac.enable_job allows it again."
    execute(db, "enable_job", job="a", by="boss")
    execute(db, "enable_job", job="a", by="other")  # already
    assert execute(db, "start_job", job="a")
    assert audited(db) == [("boss", "disable", "a"), ("boss", "enable", "a")]
    sentence = "There is no job 'b'; jobfac.v_job_statistics shows what there is."
    assert refusal(db, "disable_job", job="b")[1] == sentence


def test_pause_schedule_and_resume_schedule(db: Database) -> None:
    define(db, a={"schedules": [{"name": "one", "cron": "* * * * *"}, {"name": "two", "cron": "* * * * *"}]})

    def paused() -> dict[str, bool]:
        with db.read() as conn:
            return {found.name: found.paused for found in conn.execute(sa.select(schedule))}

    execute(db, "pause_schedule", job="a", schedule="one", by="boss")
    assert paused() == {"one": True, "two": False}
    execute(db, "pause_schedule", job="a", by="boss")
    assert paused() == {"one": True, "two": True}
    execute(db, "resume_schedule", job="a", by="boss")
    assert paused() == {"one": False, "two": False}
    with db.read() as conn:
        assert None not in conn.execute(sa.select(schedule.c.resumed_at)).scalars().all()
    assert sorted(audited(db)) == [
        ("boss", "pause", "a/one"),
        ("boss", "pause", "a/two"),
        ("boss", "resume", "a/one"),
        ("boss", "resume", "a/two"),
    ]
    execute(db, "resume_schedule", job="a")  # already
    missing = "Job 'a' has no schedule 'three'; jobfac.v_schedule shows what there is."
    assert refusal(db, "pause_schedule", job="a", schedule="three")[1] == missing
    assert (
        refusal(db, "pause_schedule", job="b")[1] == "Job 'b' has no schedule; jobfac.v_schedule shows what there is."
    )


def test_a_schedule_with_long_names_is_paused(db: Database) -> None:
    job, name = "j" * 128, "s" * 128
    define(db, **{job: {"schedules": [{"name": name, "cron": "* * * * *"}]}})
    execute(db, "pause_schedule", job=job, by="boss")
    assert audited(db) == [("boss", "pause", f"{job}/{name}"[:200])]


def test_drain_worker(db: Database) -> None:
    worker_id = take(db)
    execute(db, "drain_worker", worker=worker_id, by="boss")
    execute(db, "drain_worker", worker=worker_id, by="other")  # already
    with db.read() as conn:
        assert conn.execute(sa.select(worker.c.state)).scalar_one() == "draining"
    assert audited(db) == [("boss", "drain", f"worker {worker_id}")]
    assert refusal(db, "drain_worker", worker=99)[1] == "There is no live worker 99; jobfac.v_fleet shows the fleet."


# Purging


def age(conn: sa.Connection, old: int, others: list[int]) -> None:
    """Let runs end a hundred days ago; the first one has output and steps."""
    a_hundred_days = utcnow(-100 * 86400 * 1000)
    conn.execute(run.update().where(lists.by_id(run.c.id, [old, *others])).values(ended_at=a_hundred_days))
    chunks = [{"run_id": old, "attempt": 1, "stream": "stdout", "offset": n, "data": b"x"} for n in range(5)]
    conn.execute(run_output.insert().values(at=utcnow()), chunks)
    steps = [{"run_id": old, "step": "one", "number": n, "start": "started", "proceed": "when_all"} for n in range(5)]
    conn.execute(visit.insert().values(entered_at=utcnow()), steps)


def test_purge(db: Database) -> None:
    define(
        db,
        a={},
        kept={"retention": "400d"},
        gone={"retention": "400d"},
        counted={"retention": {"count": 5}},
        all={"steps": [{"name": "one", "jobs": ["a"]}]},
    )
    old, young = (db.transact(runs.start, StartRequest("a", "me")) for _ in range(2))
    kept, counted, last, gone = (
        db.transact(runs.start, StartRequest(job, "me")) for job in ("kept", "counted", "kept", "gone")
    )
    parent = db.transact(runs.start, StartRequest("all", "me"))
    child = db.transact(runs.start, StartRequest("a", "me", sequence_run_id=parent, manual=False))
    worker_id = take(db)
    for run_id in (old, young, kept, counted, last, gone, child):
        db.transact(runs.finish, worker_id, [Outcome(run_id, 1, RunState.SUCCEEDED)], "w1")
    db.transact(jobs.remove, "gone", "me")

    db.transact(age, old, [kept, counted, last, gone, child])
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert call(conn, "purge", batch=2) == 0  # no scheduler has counted the run yet
        db.transact(statistics.count)
        assert call(conn, "purge", batch=2) == 1
        assert call(conn, "purge", batch=2) == 0
        assert conn.execute(sa.select(run.c.id).order_by(run.c.id)).scalars().all() == [
            young,
            kept,
            counted,
            last,
            gone,
            parent,
            child,
        ]
        for table in (run_output, attempt, run_event, visit):
            found = conn.execute(sa.select(sa.func.count()).select_from(table).where(table.c.run_id == old))
            assert found.scalar_one() == 0
        assert call(conn, "purge", job="kept") == 1, "the last success stays"
        assert call(conn, "purge", older_than_days=101, job="counted") == 0
    with db.read() as conn:
        said = conn.execute(sa.select(audit.c.subject, audit.c.after).order_by(audit.c.id.desc()).limit(1)).one()
    assert tuple(said) == ("0 runs", "older than 101 days of job counted")


def test_purge_refuses_odd_numbers(db: Database) -> None:
    with db.singles.connect() as conn:
        for odd in (
            "older_than_days = -30",
            "older_than_days = NULL",
            "batch = NULL",
            "seconds = NULL",
            "seconds = -1",
            "job = NULL",
        ):
            with pytest.raises(sa.exc.DBAPIError, match=rf"@{odd.split()[0]} (must be|is NULL; leave it out)"):
                conn.exec_driver_sql(f"EXEC jobfac.purge @{odd};")


def test_purge_refuses_to_run_in_a_transaction(db: Database) -> None:
    sentence = "jobfac.purge must be called outside of a transaction: each of its batches commits."
    assert refusal(db, "purge")[1] == sentence
    define(db, a={})
    batch = """
        SET XACT_ABORT OFF; SET NOCOUNT ON;
        DECLARE @state INT;
        EXEC jobfac.start_job @job = N'a', @by = N'me';
        BEGIN TRY
            EXEC jobfac.purge;
        END TRY
        BEGIN CATCH
            SET @state = XACT_STATE();
        END CATCH;
        SELECT @state;
    """
    with db.begin() as conn:
        assert conn.exec_driver_sql(batch).scalar_one() == 1
    with db.read() as conn:
        assert conn.execute(sa.select(run.c.created_by)).scalars().all() == ["me"]
