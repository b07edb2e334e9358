"""Stopping and retrying sequences and their jobs."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.definitions import Job
from jobfac.errors import NotFound, Refused
from jobfac.states import RunState
from jobfac.store import jobs, runs, sequences
from jobfac.store.runs import Stopped
from jobfac.store.workers import Claimed
from jobfac.worker.executions.filling import fill_job, origin_variables
from tests.support.database import define, get, make_due, start, state
from tests.support.sequences import Player, children, path
from tests.support.tsql import execute


def stop(db: Database, run_id: int, now: bool = False) -> Stopped:
    return db.transact(sequences.stop, run_id, now=now, by="me")


def retry(db: Database, run_id: int, from_failed: bool = True) -> int:
    return db.transact(sequences.retry, run_id, "me", from_failed=from_failed).run_id


def jobs_of(db: Database, run_id: int) -> dict[str, tuple[str, str | None]]:
    """Return the runs of a sequence's jobs: state and requested stop."""
    with db.read() as conn:
        found = conn.execute(sa.select(run.c.job, run.c.state, run.c.stop).where(run.c.sequence_run_id == run_id))
        return {row.job: (row.state, row.stop) for row in found}


TWO = {"steps": [{"name": "one", "jobs": ["a", "b"], "on_failure": "next"}, {"name": "two", "jobs": "c"}]}


def test_a_stopped_sequence_stops_its_jobs_and_starts_nothing_more(db: Database) -> None:
    define(db, a={}, b={"concurrency": {"key": "k"}}, c={}, seq=TWO)
    start(db, "b")
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    assert jobs_of(db, run_id) == {"a": ("running", None), "b": ("blocked", None)}
    assert stop(db, run_id) == (RunState.RUNNING, RunState.STOPPING)
    assert jobs_of(db, run_id) == {"a": ("stopping", "polite"), "b": ("stopped", "polite")}
    assert stop(db, run_id) == (RunState.STOPPING, RunState.STOPPING)
    assert stop(db, run_id, now=True) == (RunState.STOPPING, RunState.STOPPING)
    assert jobs_of(db, run_id)["a"] == ("stopping", "now")
    (ended,) = player.finish("a", state=RunState.STOPPED)
    assert (ended.run_id, ended.state) == (run_id, RunState.STOPPED)
    assert get(db, run_id)["reason"] == "stopped by me"
    assert path(db, run_id) == ["one:None>None"]
    assert stop(db, run_id) == (RunState.STOPPED, RunState.STOPPED)


def test_a_stopping_sequence_ends_as_stopped_even_if_its_last_job_succeeds(db: Database) -> None:
    define(db, a={}, seq={"steps": [{"name": "one", "jobs": "a"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    stop(db, run_id)
    player.finish("a")
    assert state(db, run_id) == "stopped"


def test_a_sequence_whose_jobs_all_wait_ends_at_once(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq=TWO)
    run_id = start(db, "seq")
    db.transact(sequences.begin, "w1")
    assert stop(db, run_id) == (RunState.RUNNING, RunState.STOPPED)
    assert jobs_of(db, run_id) == {"a": ("stopped", "polite"), "b": ("stopped", "polite")}


def test_a_waiting_sequence_ends_at_once(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq=TWO)
    run_id = start(db, "seq")
    assert stop(db, run_id) == (RunState.QUEUED, RunState.STOPPED)
    assert db.transact(sequences.begin, "w1").ended == []
    assert path(db, run_id) == []


def test_a_stop_reaches_the_innermost_jobs(db: Database) -> None:
    inner = {"steps": [{"name": "i", "jobs": "a"}]}
    middle = {"steps": [{"name": "m", "jobs": ["inner", "b"]}]}
    define(db, a={}, b={}, inner=inner, middle=middle, seq={"steps": [{"name": "o", "jobs": "middle"}]})
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("b")
    stop(db, run_id)
    assert [state(db, one) for one in range(run_id, run_id + 3)] == ["stopping"] * 3
    ended = player.finish("a", state=RunState.STOPPED)
    assert [(one.job, one.state) for one in ended] == [(job, "stopped") for job in ("inner", "middle", "seq")]


def test_a_stopped_job_counts_as_a_failure_in_its_sequence(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq=TWO)
    run_id = start(db, "seq")
    db.transact(sequences.begin, "w1")
    for offset in (1, 2):
        assert stop(db, run_id + offset) == (RunState.QUEUED, RunState.STOPPED)
    assert path(db, run_id) == ["one:failure>two", "two:None>None"]
    assert state(db, run_id) == "running"


def test_the_outer_sequence_continues_after_a_nested_one_is_stopped(db: Database) -> None:
    inner = {"steps": [{"name": "i", "jobs": "a"}]}
    steps = [{"name": "o", "jobs": "inner", "on_failure": "next"}, {"name": "p", "jobs": "b"}]
    define(db, a={}, b={}, inner=inner, seq={"steps": steps})
    run_id = start(db, "seq")
    for _ in range(2):
        db.transact(sequences.begin, "w1")
    assert stop(db, run_id + 1) == (RunState.RUNNING, RunState.STOPPED)
    assert path(db, run_id) == ["o:failure>p", "p:None>None"]


def test_a_run_outside_of_a_sequence_is_stopped(db: Database) -> None:
    define(db, a={})
    run_id = start(db, "a")
    assert stop(db, run_id) == (RunState.QUEUED, RunState.STOPPED)
    with pytest.raises(NotFound, match="no run 4711"):
        stop(db, 4711)


@pytest.mark.parametrize("now", [False, True])
def test_the_sweep_passes_a_stop_on(db: Database, now: bool) -> None:
    define(db, a={}, b={}, c={}, seq=TWO)
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    db.transact(runs.request_stop, run_id, now=now, by="a DBA")
    db.transact(sequences.sweep, "sweeper")
    how = "now" if now else "polite"
    assert jobs_of(db, run_id) == {"a": ("stopping", how), "b": ("stopping", how)}
    player.finish("a", "b", state=RunState.STOPPED)
    assert get(db, run_id)["reason"] == "stopped by a DBA"


LOADED = {
    "steps": [
        {"name": "extract", "jobs": "a"},
        {
            "name": "load",
            "jobs": ["b"],
            "payloads": {"b": "${steps.extract.a.outputs.rows}"},
            "on_failure": {"step": "alert"},
        },
        {"name": "close", "jobs": "a", "on_success": "end"},
        {"name": "alert", "jobs": "c", "on_success": "end_failed"},
    ]
}


def failed_load(db: Database) -> int:
    """A run of the sequence above whose second step failed and led to an alert."""
    define(db, a={}, b={}, c={}, seq=LOADED)
    run_id = start(db, "seq", overrides={"arguments": {"c": ["x"]}}, priority=3)
    player = Player(db)
    player.look()
    player.finish("a", outputs='{"rows": 12}')
    player.look()
    player.fail("b")
    player.look()
    player.finish("c")
    assert state(db, run_id) == "failed"
    return run_id


def test_a_retry_continues_from_the_failed_step(db: Database) -> None:
    run_id = failed_load(db)
    again = retry(db, run_id)
    row = get(db, again)
    assert (row["retry_of"], row["priority"], row["created_by"]) == (run_id, 3, "me")
    player = Player(db)
    assert player.look() == ["b"]
    assert player.held[0].payload == "12", "what an earlier step reported in the run that is retried"
    player.fail("b")
    player.look()
    player.finish("c")
    third = retry(db, again)
    player.look()
    assert player.held[0].payload == "12"
    player.finish("b")
    player.look()
    player.finish("a")
    assert path(db, third) == ["load:success>close", "close:success>end"]
    assert state(db, third) == "succeeded"


def test_a_retry_may_begin_with_the_first_step(db: Database) -> None:
    again = retry(db, failed_load(db), from_failed=False)
    Player(db).look()
    assert path(db, again) == ["extract:None>None"]


def test_a_retry_of_a_stopped_sequence_continues_at_its_step(db: Database) -> None:
    define(db, a={}, b={}, c={}, seq=LOADED)
    run_id = start(db, "seq")
    player = Player(db)
    player.look()
    player.finish("a", outputs='{"rows": 12}')
    stop(db, run_id)
    assert player.look() == []
    again = retry(db, run_id)
    assert player.look() == ["b"]
    assert path(db, again) == ["load:None>None"]


def test_a_retry_without_a_failed_step_is_refused(db: Database) -> None:
    run_id = failed_load(db)
    with pytest.raises(NotFound, match="no run 4711"):
        retry(db, 4711)
    with pytest.raises(Refused, match="not of a sequence"):
        retry(db, run_id + 1)
    again = retry(db, run_id)
    with pytest.raises(Refused, match="still queued"):
        retry(db, again)
    player = Player(db)
    player.look()
    player.finish("b")
    player.look()
    player.finish("a")
    with pytest.raises(Refused, match=r"No step of run \d+ failed"):
        retry(db, again)


def test_a_retry_from_a_removed_step_is_refused(db: Database) -> None:
    run_id = failed_load(db)
    define(db, a={}, seq={"steps": [{"name": "extract", "jobs": "a"}]})
    with pytest.raises(Refused, match="The step 'load', which failed in run"):
        retry(db, run_id)
    db.transact(jobs.remove, "seq", "me")
    with pytest.raises(NotFound, match="no job 'seq'"):
        retry(db, run_id)


DATED = {
    "steps": [{"name": "one", "jobs": "a", "parameters": {"a": {"day": "${due.date}"}}}],
    "schedules": [{"cron": "0 6 * * *", "timezone": "Pacific/Kiritimati"}],
}


@pytest.mark.parametrize("origin", ["kept", "none"])
def test_a_retry_is_for_the_same_day(db: Database, origin: str) -> None:
    """Also of a run that T-SQL started, which has no origin."""
    define(db, a={"parameters": {"day": {"type": "date"}}}, seq={"steps": DATED["steps"]})
    due_at = datetime(2026, 1, 30, 6, tzinfo=UTC)
    run_id = start(db, "seq", manual=False, due_at=due_at)
    if origin == "none":
        with db.begin() as conn:
            conn.execute(run.update().values(origin=None, due_at=None, created_at=due_at))
    player = Player(db)
    player.look()
    player.fail("a")
    again = [run_id] if db.dialect.name == "sqlite" else [run_id, execute(db, "retry_run", run=run_id, by="me")]
    again += [retry(db, run_id), retry(db, run_id, from_failed=False)]
    player.look()
    assert [json.loads(children(db, one)[0]["parameters"]) for one in again] == [{"day": "2026-01-30"}] * len(again)


def due_variable(db: Database, run_id: int) -> str | None:
    """Return the due time that the program of a run sees."""
    with db.read() as conn:
        row = conn.execute(sa.select(*(run.c[name] for name in Claimed._fields)).where(run.c.id == run_id)).one()
    return dict(origin_variables(Claimed(*row))).get("JOBFAC_DUE_AT")


@pytest.mark.parametrize("given", ["nothing", "the due time", "a file"])
def test_the_program_of_a_retry_sees_when_its_schedule_was_due(db: Database, given: str) -> None:
    define(db, a={})
    due = datetime(2026, 1, 30, 6, tzinfo=UTC).astimezone(ZoneInfo("Asia/Tokyo"))
    origin = {"nothing": None, "the due time": {"due": due.isoformat()}, "a file": {"path": "/in/a.csv"}}[given]
    first, by_hand = start(db, "a", manual=False, due_at=due, origin=origin), start(db, "a")
    player = Player(db)
    player.look()
    player.fail("a", "a")
    second = retry(db, first, from_failed=False) if db.dialect.name == "sqlite" else execute(db, "retry_run", run=first)
    player.look()
    player.fail("a")
    for one in (first, second, retry(db, second, from_failed=False)):
        assert datetime.fromisoformat(str(due_variable(db, one))) == due
    assert due_variable(db, retry(db, by_hand, from_failed=False)) is None


def test_what_a_sequence_starts_is_for_its_day(db: Database) -> None:
    """At whatever time a step starts, in sequences inside it, and after a retry of the job alone."""
    define(
        db,
        a={"parameters": {"day": {"type": "date", "default": "${due.date}"}}},
        inner={"steps": [{"name": "two", "jobs": "a"}]},
        seq={"steps": [{"name": "one", "jobs": ["a", "inner"]}]},
    )
    due = datetime(2026, 1, 30, 0, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    run_id, by_hand = start(db, "seq", manual=False, due_at=due, origin={"due": due.isoformat()}), start(db, "seq")
    player = Player(db)
    player.look()
    player.fail("a", "a", "a", "a")
    started = {one: [*children(db, one), *children(db, children(db, one)[1]["id"])] for one in (run_id, by_hand)}
    again = retry(db, started[run_id][0]["id"], from_failed=False)
    programs = [one for one in started[run_id] if one["job"] == "a"]
    assert [json.loads(one["parameters"]) for one in programs] == [{"day": "2026-01-30"}] * 2
    for one in (*(child["id"] for child in started[run_id]), again):
        assert datetime.fromisoformat(str(due_variable(db, one))) == due
    assert {due_variable(db, child["id"]) for child in started[by_hand]} == {None}


def test_a_sequence_started_by_hand_is_dated_in_the_zone_of_its_first_schedule(db: Database) -> None:
    define(db, a={"parameters": {"day": {"type": "date"}}}, seq=DATED)
    run_id = start(db, "seq", at=datetime(2027, 1, 30, 20, tzinfo=UTC))
    make_due(db)
    db.transact(runs.promote_due, "w1")
    Player(db).look()
    assert json.loads(children(db, run_id)[0]["parameters"]) == {"day": "2027-01-31"}


def test_what_t_sql_starts_is_dated_in_the_zone_of_its_first_schedule(db: Database) -> None:
    """Its runs have no origin; a retry and the runs inside are for the same day."""
    day = {"parameters": {"day": {"type": "date", "default": "${due.date}"}}}
    define(db, a=day, seq=DATED, b={**day, "schedules": DATED["schedules"]})
    alone, seq = (
        execute(db, "start_job", job=one) if db.dialect.name == "mssql" else start(db, one) for one in ("b", "seq")
    )
    evening = datetime(2027, 1, 30, 20, tzinfo=UTC)
    with db.begin() as conn:
        conn.execute(run.update().values(origin=None, parameters=None, created_at=evening))
    player = Player(db)
    player.look()
    (claimed,) = (one for one in player.held if one.id == alone)
    with db.read() as conn:
        definition = jobs.load_version(conn, "b", claimed.job_version)
    assert isinstance(definition, Job)
    assert str(fill_job(definition, claimed).values["day"]) == "2027-01-31"
    player.fail("a", "b")
    again = retry(db, alone, from_failed=False)
    for one in (again, children(db, seq)[0]["id"]):
        assert json.loads(get(db, one)["parameters"]) == {"day": "2027-01-31"}
    if db.dialect.name == "mssql":
        twice = execute(db, "retry_run", run=seq)
        player.look()
        player.fail("a")
        thrice = retry(db, twice, from_failed=False)
        player.look()
        for one in (twice, thrice):
            assert json.loads(children(db, one)[0]["parameters"]) == {"day": "2027-01-31"}
