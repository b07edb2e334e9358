"""Calls the procedures of sql/mssql as a DBA would, and reads the results."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import audit, run
from jobfac.store import runs, schedules, workers
from jobfac.store.workers import Registration
from jobfac.store.workers.claiming import Room
from tests.support.engines import ENGINES

THROUGH_TSQL = [
    pytest.mark.mssql,
    pytest.mark.parametrize("url", ENGINES[1:], indirect=True),
]
"""For tests of features that SQLite lacks: they run with each driver, and on a real server if there is one."""

OUTPUTS = {
    "start_job": "@run_id",
    "retry_run": "@run_id",
    "purge": "@deleted",
    "hold": "@hold_id",
    "add_note": "@note_id",
}


SPELLINGS = [
    ("k", "k", True),
    ("k", "k  ", True),
    ("k  ", "k", True),
    ("K😀", "K😀 ", True),
    ("k", "K", False),
    ("k", " k", False),
    ("k", "k\t", False),
    ("k", "k\u00a0", False),
    ("\u00e9", "e\u0301", False),
    ("straße", "strasse", False),
    ("a", "\uff41", False),
]
"""Two spellings of a start's key, and whether a database that takes them for the same key has the same start. What a
database compares depends on its collation; what was started with another spelling is never taken for the same."""


def call(conn: sa.Connection, procedure: str, **arguments: Any) -> Any:
    """Execute a procedure; returns the value of its OUTPUT parameter, if it has one."""
    given = ", ".join(f"@{name} = :{name}" for name in arguments)
    out = OUTPUTS.get(procedure)
    if out is None:
        return conn.execute(sa.text(f"EXEC jobfac.{procedure} {given}"), arguments)
    given = ", ".join(part for part in (given, f"{out} = @out OUTPUT") if part)
    text = f"SET NOCOUNT ON; DECLARE @out BIGINT; EXEC jobfac.{procedure} {given}; SELECT @out;"
    return conn.execute(sa.text(text), arguments).scalar_one()


def execute(db: Database, procedure: str, **arguments: Any) -> Any:
    return db.transact(call, procedure, retry_for=0, **arguments)


def refusal(db: Database, procedure: str, **arguments: Any) -> tuple[int, str]:
    """Return the number and the message of the error that refuses a call. 0: the driver does not tell the number."""
    with pytest.raises(sa.exc.DBAPIError) as caught:
        execute(db, procedure, **arguments)
    assert caught.value.orig is not None
    text = " ".join(map(str, caught.value.orig.args))  # not their repr, which escapes
    sentence = re.search(r"\[SQL Server\](.*?\.)(?: \(\d+\)|$|['\"])", text)
    number = re.search(r"\((5\d{4})\)", text)
    assert sentence is not None, text
    return int(number[1]) if number else 0, sentence[1]


def define(db: Database, **jobs: Mapping[str, Any]) -> None:
    bodies = {name: body if "steps" in body else {"command": ["true"], **body} for name, body in jobs.items()}
    wanted = d.from_data({"jobs": bodies}).jobs
    plan = d.plan({}, {name: d.canonical(one) for name, one in wanted.items()}, prune=False)
    db.transact(schedules.apply, plan, wanted, "me")


def row(db: Database, run_id: int) -> Mapping[Any, Any]:
    with db.read() as conn:
        return conn.execute(sa.select(run).where(run.c.id == run_id)).mappings().one()


def states(db: Database, ids: Sequence[int]) -> list[str]:
    return [row(db, run_id)["state"] for run_id in ids]


def events(db: Database, run_id: int) -> list[tuple[str, str]]:
    with db.read() as conn:
        return [(event.event, event.by) for event in runs.events_of(conn, run_id)]


def audited(db: Database) -> list[tuple[str, str, str]]:
    with db.read() as conn:
        found = conn.execute(sa.select(audit).where(audit.c.action != "apply").order_by(audit.c.id))
        return [(entry.by, entry.action, entry.subject) for entry in found]


def take(db: Database, *, name: str = "w1") -> int:
    """Register a worker that claims up to nine runs; returns its id."""
    who = Registration(name, "host", 1, "token", "0", 9, ["default"], {})
    worker_id = db.transact(workers.register, who, 60)
    db.transact(workers.claim, worker_id, name, {"default": 1}, Room(9, 9))
    return worker_id
