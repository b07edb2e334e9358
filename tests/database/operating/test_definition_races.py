"""Two people change definitions at the same time: the second one decides on what the first one has stored."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.errors import Outdated, Refused
from jobfac.operations import jobs, versions
from jobfac.operations.caller import Caller
from tests.support.database import define

ME, YOU = Caller("me"), Caller("you")


def put(db: Database, by: Caller, job: str, command: str = "true", **more: Any) -> jobs.Written:
    return jobs.put(db, by, job, {"command": [command]}, **more)


def overlapping(db: Database, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """Call ``second`` while ``first`` is about to write, and let ``first`` go on when ``second`` waits or is done.

    Returns what ``second`` returned or raised. SQLite has one writer, so there ``second`` begins after ``first``.
    """
    waits, paused = threading.Event(), threading.Event()
    mine = threading.get_ident()

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        is_mine = threading.get_ident() == mine
        if not is_mine and paused.is_set() and "sp_getapplock" in statement:
            waits.set()
        if is_mine and not paused.is_set() and "INTO jobfac.job_version" in statement:
            paused.set()
            running.append(pool.submit(second))
            running[0].add_done_callback(lambda _: waits.set())
            waits.wait(0.5)  # to disable a job takes no named lock, so nothing says that it waits for the job's row

    running: list[Any] = []
    sa.event.listen(db.engine, "before_cursor_execute", listen)
    with ThreadPoolExecutor(1) as pool:
        first()
        if not running:
            running.append(pool.submit(second))
        try:
            return running[0].result(30)
        except Exception as error:
            return error


@pytest.mark.parametrize("act", ["put", "delete", "create"])
def test_a_condition_is_checked_against_what_another_caller_stores_at_the_same_time(db: Database, act: str) -> None:
    define(db, job={})
    found = overlapping(
        db,
        lambda: put(db, ME, "new" if act == "create" else "job", "mine"),
        {
            "put": lambda: put(db, YOU, "job", "yours", if_match='"1"'),
            "delete": lambda: jobs.delete(db, YOU, "job", if_match='"1"'),
            "create": lambda: put(db, YOU, "new", "yours", if_absent=True),
        }[act],
    )
    assert isinstance(found, Outdated)


def test_a_job_that_a_sequence_is_just_beginning_to_use_is_not_deleted(db: Database) -> None:
    define(db, job={})
    sequence = {"steps": [{"name": "one", "jobs": ["job"]}]}
    found = overlapping(db, lambda: jobs.put(db, ME, "all", sequence), lambda: jobs.delete(db, YOU, "job"))
    assert isinstance(found, Refused)


def test_a_job_that_is_just_being_disabled_stays_disabled(db: Database) -> None:
    define(db, job={})
    overlapping(db, lambda: put(db, ME, "job", "mine"), lambda: jobs.disable(db, YOU, "job"))
    assert not put(db, ME, "job", "again").stored.enabled


def test_a_rollback_and_an_application_keep_what_another_caller_stores(db: Database) -> None:
    define(db, job={}, other={})
    put(db, ME, "job", "second")
    overlapping(db, lambda: put(db, ME, "job", "third"), lambda: versions.rollback(db, YOU, "job", 1))

    def read(known: Any) -> d.Definitions:
        return d.from_data({"jobs": {"other": {"command": ["false"]}}}, known=known)

    overlapping(db, lambda: jobs.apply(db, ME, read), lambda: jobs.disable(db, YOU, "other"))
    assert not put(db, ME, "other", "again").stored.enabled


def test_a_job_that_is_disabled_while_an_application_plans_anew_stays_disabled(db: Database) -> None:
    define(db, job={}, other={})
    texts = {"job": {"command": ["new"]}, "other": {"command": ["false"]}}
    put(db, ME, "job", "new")

    def read(known: Any) -> d.Definitions:
        if not changed:  # somebody changes the job after it was compared, so the application has to change it, too
            with ThreadPoolExecutor(1) as pool:
                changed.append(pool.submit(put, db, YOU, "job", "meanwhile").result(30))
        return d.from_data({"jobs": texts}, known=known)

    changed: list[Any] = []
    overlapping(db, lambda: jobs.apply(db, ME, read), lambda: jobs.disable(db, YOU, "job"))
    assert put(db, ME, "job", "again").stored.version > 3
    assert not put(db, ME, "job", "again").stored.enabled
