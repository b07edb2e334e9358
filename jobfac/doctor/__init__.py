"""What is wrong with this installation, and what helps: each check is a small function that returns findings.

What a check reads and what it concludes are apart: the conclusions (``judge_...``) are pure.
"""

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.doctor import engine, factory, machine
from jobfac.doctor.finding import Finding, State, run, said
from jobfac.errors import Unreachable, WrongSchema
from jobfac.settings import Settings, SettingsError, load, sqlite_path
from jobfac.store import workers

__all__ = ["Finding", "State", "examine", "is_unreachable"]

SLOW = 0.1
"""Seconds from which a round trip to the database is slow."""

APART = 2.0
"""Seconds by which this machine's clock and the database's may differ unnoticed."""

PINGS = 5


def examine(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Every check that can be made here, whatever is broken."""
    try:
        found = load(environment)
    except SettingsError as error:
        remedy = "Correct it; `jobfac config` lists what there is. Nothing that needs settings was checked."
        wrong = Finding("settings", State.PROBLEM, said(error), remedy)
        return [wrong, *run("guardian", machine.guardian), *run("files", lambda: machine.files(_usual_slots()))]
    findings = run("settings", lambda: machine.settings(environment))
    if found.api_url:
        return findings + run("api", lambda: machine.api(found))
    findings += _drivers(found.database_url)
    central, slots = _central(found)
    findings += central
    findings += run("spool", lambda: machine.spool(found.spool_folder()))
    findings += run("guardian", machine.guardian)
    return findings + run("files", lambda: machine.files(slots))


def is_unreachable(findings: Iterable[Finding]) -> bool:
    """Whether there was no way to the factory, so that most could not be checked."""
    return any(finding.check in ("database", "api") and finding.state is State.PROBLEM for finding in findings)


def _drivers(url: str) -> list[Finding]:
    def check() -> Iterator[Finding]:
        try:
            yield from machine.drivers(url)
        except ImportError as error:
            yield machine.missing_driver(error, url)

    return run("drivers", check)


def _usual_slots() -> int:
    return 2 * (os.cpu_count() or 1)


def _central(found: Settings) -> tuple[list[Finding], int]:
    """All about the database, and the most slots that a worker of this machine has."""
    path = sqlite_path(found.database_url)
    if path is not None and not path.exists():  # connecting would make an empty one
        remedy = "`jobfac db upgrade` or `jobfac up` makes it; or correct JOBFAC_DATABASE_URL."
        return [Finding("database", State.PROBLEM, f"there is no file {path}", remedy)], _usual_slots()
    try:
        db = Database(found.database_url)
    except Unreachable as error:
        return [_out_of_reach(error)], _usual_slots()
    try:
        findings = list(_reach(db))
        if is_unreachable(findings):
            return findings, _usual_slots()
        if path is not None:
            findings += run("database file", lambda: engine.sqlite_file(path))
        findings += _of_engine(db)
        schema = run("schema", lambda: [_schema(db)])
        findings += schema
        if schema[0].state is not State.PROBLEM and db.dialect.name == "mssql":
            findings += run("rights", lambda: db.query(engine.mssql_rights))
        if schema[0].state is not State.OK:  # there is nothing to read, or no right to
            return findings, _usual_slots()
        return findings + _of_factory(db), _slots(db)
    finally:
        db.close()


def _reach(db: Database) -> Iterator[Finding]:
    """Whether the database answers, how fast, and what time it is there."""

    def ping(conn: sa.Connection) -> list[tuple[float, float]]:
        return [_ping(conn) for _ in range(PINGS)]

    try:
        pings = db.query(ping, retry_for=0)
    except Exception as error:  # a refused login, a file that is no database, a name that is unknown
        yield _out_of_reach(error)
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


def _out_of_reach(error: BaseException) -> Finding:
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


def _of_factory(db: Database) -> list[Finding]:
    """All about workers, queue, schedules and notifications; what is good of one of them only if nothing is bad."""
    checks: dict[str, Callable[[sa.Connection], Iterable[Finding]]] = {
        "workers": factory.workers,
        "queue": factory.takers,
        "holds": factory.holds,
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


def _slots(db: Database) -> int:
    """Of the worker of this machine that has most, or of one that is told nothing."""
    try:
        rows = db.query(workers.workers, True, retry_for=0)
    except Exception:  # it was well a moment ago; what is wrong now the other checks say
        return _usual_slots()
    return max((row.slots for row in rows if row.host == socket.gethostname()), default=_usual_slots())
