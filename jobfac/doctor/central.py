"""The checks of the database and of the factory in it, which need nothing of this machine."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.doctor import engine, factory
from jobfac.doctor.finding import Finding, State, run, said
from jobfac.errors import WrongSchema
from jobfac.settings import sqlite_path

SLOW = 0.1
"""Seconds from which a round trip to the database is slow."""

APART = 2.0
"""Seconds by which this machine's clock and the database's may differ unnoticed."""

PINGS = 5


def examine_database(db: Database) -> list[Finding]:
    """Every check of the database and of the factory in it, without those of this machine."""
    findings = list(_reach(db))
    if is_unreachable(findings):
        return findings
    path = sqlite_path(db.url.render_as_string(hide_password=False))
    if path is not None:
        findings += run("database file", lambda: engine.sqlite_file(path))
    findings += _of_engine(db)
    schema = run("schema", lambda: [_schema(db)])
    findings += schema
    if schema[0].state is not State.PROBLEM and db.dialect.name == "mssql":
        findings += run("rights", lambda: db.query(engine.mssql_rights))
    # Otherwise there is nothing to read, or no right to.
    return findings + of_factory(db) if schema[0].state is State.OK else findings


def is_unreachable(findings: Iterable[Finding]) -> bool:
    """Whether there was no way to the factory, so that most could not be checked."""
    return any(finding.check in ("database", "api") and finding.state is State.PROBLEM for finding in findings)


def _reach(db: Database) -> Iterator[Finding]:
    """Whether the database answers, how fast, and what time it is there."""

    def ping(conn: sa.Connection) -> list[tuple[float, float]]:
        return [_ping(conn) for _ in range(PINGS)]

    try:
        pings = db.query(ping, retry_for=0)
    except Exception as error:  # a refused login, a file that is no database, a name that is unknown
        yield out_of_reach(error)
        return
    trip = statistics.median(one for one, _ in pings)
    shown = f"{db.url.render_as_string(hide_password=True).partition('?')[0]} answers in {trip * 1000:.1f} ms"
    if trip >= SLOW:
        remedy = "Put workers and schedulers near the database: each claim and each outcome costs a round trip or two."
        yield Finding("database", State.WARNING, shown, remedy)
    else:
        yield Finding("database", State.OK, shown)
    yield judge_clock(statistics.median(apart for _, apart in pings))


def _ping(conn: sa.Connection) -> tuple[float, float]:
    """Seconds of a round trip, and by how many this machine's clock is ahead."""
    begun, here = time.monotonic(), datetime.now(UTC)
    there = factory.now(conn)
    took = time.monotonic() - begun
    return took, (here - there).total_seconds() + took / 2


def judge_clock(apart: float) -> Finding:
    """What follows from this machine's clock being so many seconds ahead of the database's."""
    found = f"this machine is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} the database"
    if abs(apart) < APART:
        return Finding("clock", State.OK, found)
    remedy = "Let both follow a time server (NTP): runs keep the database's time, logs and `--at` this machine's."
    return Finding("clock", State.WARNING, found, remedy)


def out_of_reach(error: BaseException) -> Finding:
    remedy = "Check JOBFAC_DATABASE_URL, the login, and whether the server runs; what is in it was not checked."
    return Finding("database", State.PROBLEM, said(error), remedy)


def _of_engine(db: Database) -> list[Finding]:
    if db.dialect.name == "sqlite":
        return run("durability", lambda: db.query(engine.sqlite_modes))
    return run("options", lambda: db.query(engine.mssql_options))


def _schema(db: Database) -> Finding:
    try:
        db.check_schema()
    except WrongSchema as error:
        return Finding("schema", State.PROBLEM, said(error), "`jobfac db upgrade`, or a newer jobfac.")
    return Finding("schema", State.OK, f"version {db.head()} is current")


def of_factory(db: Database) -> list[Finding]:
    """All about workers, queue, schedules and notifications; what is good of one of them only if nothing is bad."""
    checks: dict[str, Callable[[sa.Connection], Iterable[Finding]]] = {
        "workers": factory.workers,
        "queue": factory.takers,
        "schedules": factory.schedules,
        "notifications": factory.notifications,
        "trouble": factory.trouble,
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        findings += run(name, partial(db.query, _made, check))
    bad = {finding.check for finding in findings if finding.state is not State.OK}
    return [finding for finding in findings if finding.state is not State.OK or finding.check not in bad]


def _made(conn: sa.Connection, check: Callable[[sa.Connection], Iterable[Finding]]) -> list[Finding]:
    return list(check(conn))
