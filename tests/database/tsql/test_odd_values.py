"""Values that a caller did not mean: NULL, a blank text, a text that is too long, a key that was used before."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run, schedule, start_hold
from jobfac.store import jobs, parameters
from tests.support.tsql import THROUGH_TSQL, audited, define, execute, refusal, row

pytestmark = THROUGH_TSQL

DAY: dict[str, Any] = {
    "parameters": {
        "day": {"type": "date", "required": True},
        "limit": {"type": "integer", "default": 10},
        "rate": {"type": "number"},
        "at": {"type": "datetime"},
        "regions": {"type": "text", "many": True},
        "pin": {"type": "text", "sensitive": True},
        "lines": {"type": "integer", "many": True, "default": [1, 2]},
        "due": {"type": "date", "default": "${due.date}"},
    }
}


def refused(db: Database, call: str) -> str:
    """Return the message of the error that refuses a call with NULL in its text: as a parameter it has no type."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        db.transact(lambda conn: conn.exec_driver_sql(f"EXEC jobfac.{call};"), retry_for=0)
    return str(caught.value.orig)


def test_a_variable_without_a_value_holds_and_resumes_nothing(db: Database) -> None:
    define(db, a={"schedules": [{"name": "s", "every": "1h"}]})
    for scope in ("job", "pool", "category"):
        sentence = refused(db, f"hold @{scope} = NULL, @reason = N'r'")
        assert "@pool, @category or @job is NULL; leave out all three to hold everything." in sentence
    db.transact(lambda conn: conn.exec_driver_sql("EXEC jobfac.hold @job = N'a', @pool = NULL, @reason = N'r';"))
    execute(db, "pause_schedule", job="a")
    for procedure in ("resume_schedule", "pause_schedule"):
        assert "@schedule is NULL; leave it out" in refused(db, f"{procedure} @job = N'a', @schedule = NULL")
    with db.read() as conn:
        assert conn.execute(sa.select(schedule.c.paused)).scalar() is True
        assert conn.execute(sa.select(start_hold.c.job)).scalars().all() == ["a"]


def test_a_decision_needs_a_value(db: Database) -> None:
    define(db, a={}, q={"steps": [{"name": "wait", "approve": {"by": "operator"}}, {"name": "s", "jobs": ["a"]}]})
    run_id = execute(db, "start_job", job="q")
    sentence = refused(db, f"approve @run = {run_id}, @step = N'wait', @reject = NULL")
    assert "@reject must be 0, to approve" in sentence
    assert "@text must not be empty" in refused(db, f"add_note @run = {run_id}, @acknowledge = NULL")


CALLS: dict[str, dict[str, Any]] = {
    "start_job": {"job": "a"},
    "retry_run": {"run": 1},
    "stop_run": {"run": 1},
    "enable_job": {"job": "a"},
    "disable_job": {"job": "a"},
    "pause_schedule": {"job": "a"},
    "resume_schedule": {"job": "a"},
    "drain_worker": {"worker": 1},
    "hold": {"job": "a", "reason": "r"},
    "release": {"hold": 1},
    "add_note": {"run": 1, "text": "t"},
    "approve": {"run": 1, "step": "s"},
}


def test_everybody_who_does_something_has_a_name(db: Database) -> None:
    define(db, a={"schedules": [{"every": "1h"}]})
    execute(db, "start_job", job="a")
    before = audited(db)
    for procedure, arguments in CALLS.items():
        for blank in ("", "  "):
            assert refusal(db, procedure, **arguments, by=blank)[1].startswith("@by must not be blank"), procedure
        assert refusal(db, procedure, **arguments, by="n" * 5000)[1].startswith("@by has more than 128"), procedure
    assert audited(db) == before
    assert execute(db, "hold", job="a", reason="r", by="n" * 128)


def test_a_text_is_not_cut_silently(db: Database) -> None:
    define(db, a={})
    assert refusal(db, "hold", job="a", reason="r" * 1001)[1].startswith("@reason has more than 1,000 characters")
    assert refusal(db, "approve", run=1, step="s", reason="r" * 5000)[1].startswith("@reason has more than 1,000")
    assert execute(db, "hold", job="a", reason="r" * 1000)


@pytest.mark.parametrize("key", ["", "   "])
def test_a_blank_key_is_refused(db: Database, key: str) -> None:
    """All starts with it would give the run of the first one."""
    define(db, a={})
    assert refusal(db, "start_job", job="a", key=key)[1].startswith("@key must not be blank")


def _complete(conn: sa.Connection, run_id: int) -> None:
    """Write the values in their canonical form, as a worker does when the run begins."""
    found = conn.execute(sa.select(*parameters.COLUMNS).where(run.c.id == run_id)).one()
    parameters.complete(conn, parameters.row_of(found), jobs.load_version(conn, "a", 1))


def test_a_key_that_was_used_with_other_parameters_is_refused(db: Database) -> None:
    """The second start would be lost without a word."""
    define(db, a=DAY)
    first = {"day": "2027-01-31", "rate": 1.5, "at": "2027-01-31T22:00:00+01:00", "regions": ["eu", "us"], "pin": "1"}
    first |= {"lines": [1, 3]}

    def start(**changes: Any) -> Any:
        given = {name: value for name, value in {**first, **changes}.items() if value is not None}
        return {"job": "a", "key": "k", "parameters": json.dumps(given)}

    def check() -> None:
        assert execute(db, "start_job", **start()) == run_id
        others: tuple[dict[str, Any], ...] = (
            {"day": "2027-02-01"}, {"limit": 11}, {"rate": 2}, {"regions": ["eu"]}, {"regions": ["eu", "us", "x"]},
            {"regions": ["us", "eu"]}, {"at": "2027-01-31T23:00:00+01:00"}, {"pin": "2"},
            {"rate": None}, {"at": None}, {"regions": []}, {"regions": None}, {"pin": None},
            {"lines": []}, {"lines": None}, {"lines": [1, 2]},
        )  # fmt: skip
        for other in others:
            number, sentence = refusal(db, "start_job", **start(**other))
            assert number in (0, 50007)
            assert sentence.startswith(f"The key 'k' was used for run {run_id}, which differs in parameters"), other

    run_id = execute(db, "start_job", **start())
    check()
    db.transact(_complete, run_id)
    assert row(db, run_id)["parameters"] != start()["parameters"]
    check()
    for same in (
        {"limit": "10"},
        {"lines": ["1", "3"]},
        {"due": None},
        {"rate": "1.50"},
        {"at": "2027-01-31T21:00:00Z"},
    ):
        assert execute(db, "start_job", **start(**same)) == run_id, same
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar() == 1
    bare = {"job": "a", "key": "bare", "parameters": '{"day": "2027-01-31"}'}
    run_id = execute(db, "start_job", **bare)
    assert execute(db, "start_job", **bare) == run_id
    db.transact(_complete, run_id)
    assert execute(db, "start_job", **bare) == run_id
