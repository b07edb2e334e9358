"""The checks of the database and of the factory in it, which need nothing of this machine."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.engine import Database
from jobfac.database.sql_files import Views, views
from jobfac.doctor import engine, factory
from jobfac.doctor.finding import Finding, State, error_text, run_check
from jobfac.doctor.starts import starts
from jobfac.errors import WrongSchema
from jobfac.settings import sqlite_path

SLOW_ROUND_TRIP = 0.1
"""Seconds from which a round trip to the database is reported as slow."""

MAX_CLOCK_DIFFERENCE = 2.0
"""Seconds by which this machine's clock may differ from the database's without a warning."""

PINGS = 5
"""Round trips of which the median is taken."""


def examine_database(db: Database) -> list[Finding]:
    """Run every check of the database and of the factory in it, without those of this machine."""
    findings = list(_connection(db))
    if is_unreachable(findings):
        return findings
    path = sqlite_path(db.url.render_as_string(hide_password=False))
    if path is not None:
        findings += run_check("database file", lambda: engine.sqlite_file(path))
    findings += _engine_options(db)
    schema = run_check("schema", lambda: [_schema(db)])
    findings += schema
    if schema[0].state is not State.PROBLEM and db.dialect.name == "mssql":
        findings += run_check("rights", lambda: db.query(engine.mssql_rights))
    if schema[0].state is not State.OK:
        return findings  # the tables are missing or may not be read
    findings += run_check("views", lambda: [judge_views(db.query(views))])
    return findings + factory_findings(db)


def is_unreachable(findings: Iterable[Finding]) -> bool:
    """Whether the database or the API could not be reached, so that most checks were skipped."""
    return any(finding.check in ("database", "api") and finding.state is State.PROBLEM for finding in findings)


def _connection(db: Database) -> Iterator[Finding]:
    """Check that the database answers, how fast it does, and its clock."""

    def ping(conn: sa.Connection) -> list[tuple[float, float]]:
        return [_ping(conn) for _ in range(PINGS)]

    try:
        pings = db.query(ping, retry_for=0)
    except Exception as error:  # such as a refused login, a file that is no database, or an unknown host name
        yield unreachable(error)
        return
    round_trip = statistics.median(seconds for seconds, _ in pings)
    found = f"{db.url.render_as_string(hide_password=True).partition('?')[0]} answers in {round_trip * 1000:.1f} ms"
    if round_trip >= SLOW_ROUND_TRIP:
        remedy = "Put workers and schedulers near the database: each claim and each outcome costs a round trip or two."
        yield Finding("database", State.WARNING, found, remedy)
    else:
        yield Finding("database", State.OK, found)
    yield judge_clock(statistics.median(ahead for _, ahead in pings))


def _ping(conn: sa.Connection) -> tuple[float, float]:
    """Return the seconds of a round trip, and by how many seconds this machine's clock is ahead."""
    started, local_time = time.monotonic(), datetime.now(UTC)
    database_time = current_time(conn)
    seconds = time.monotonic() - started
    return seconds, (local_time - database_time).total_seconds() + seconds / 2


def judge_clock(ahead: float) -> Finding:
    """Judge by how many seconds this machine's clock is ahead of the database's."""
    found = f"this machine is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database"
    if abs(ahead) < MAX_CLOCK_DIFFERENCE:
        return Finding("clock", State.OK, found)
    remedy = "Let both follow a time server (NTP): runs keep the database's time, logs and `--at` this machine's."
    return Finding("clock", State.WARNING, found, remedy)


def unreachable(error: BaseException) -> Finding:
    remedy = "Check JOBFAC_DATABASE_URL, the login, and whether the server runs; what is in it was not checked."
    return Finding("database", State.PROBLEM, error_text(error), remedy)


def _engine_options(db: Database) -> list[Finding]:
    if db.dialect.name == "sqlite":
        return run_check("durability", lambda: db.query(engine.sqlite_modes))
    return run_check("options", lambda: db.query(engine.mssql_options))


def _schema(db: Database) -> Finding:
    try:
        db.check_schema()
    except WrongSchema as error:
        return Finding("schema", State.PROBLEM, error_text(error), "`jobfac db upgrade`, or a newer jobfac.")
    return Finding("schema", State.OK, f"version {db.head()} is current")


def judge_views(found: Views) -> Finding:
    """Judge the version of the views and procedures. Old ones are a warning: every role works with them."""
    if found is Views.OTHER:
        remedy = "`jobfac db upgrade` of the newest version in use replaces them, while roles work."
        words = "the views and procedures are those of another version of jobfac"
        return Finding("views", State.WARNING, words, remedy)
    which = "a later version" if found is Views.LATER else "this version"
    return Finding("views", State.OK, f"the views and procedures are those of {which} of jobfac")


def factory_findings(db: Database) -> list[Finding]:
    """Check the factory's tables. A check that has a problem or a warning shows only these."""
    checks: dict[str, Callable[[sa.Connection], Iterable[Finding]]] = {
        "workers": factory.workers,
        "starts": starts,
        "schedulers": factory.schedulers,
        "queue": factory.queues,
        "triggers": factory.triggers,
        "programs": factory.programs,
        "holds": factory.holds,
        "schedules": factory.schedules,
        "notifications": factory.notifications,
        "trouble": factory.trouble,
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        findings += run_check(name, partial(db.query, _collect, check))
    bad = {finding.check for finding in findings if finding.state is not State.OK}
    return [finding for finding in findings if finding.state is not State.OK or finding.check not in bad]


def _collect(conn: sa.Connection, check: Callable[[sa.Connection], Iterable[Finding]]) -> list[Finding]:
    return list(check(conn))
