"""Checks of this installation. Each check is a function that returns findings, and each problem names a remedy.

Checks read; pure functions named ``judge_...`` derive the findings.
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
from jobfac.doctor.finding import Finding, State, error_text, run_check
from jobfac.errors import Unreachable, WrongSchema
from jobfac.settings import Settings, SettingsError, load, sqlite_path
from jobfac.store import workers

__all__ = ["Finding", "State", "examine", "is_unreachable"]

SLOW_ROUND_TRIP = 0.1
"""Seconds from which a round trip to the database is reported as slow."""

MAX_CLOCK_DIFFERENCE = 2.0
"""Seconds by which this machine's clock may differ from the database's without a warning."""

PINGS = 5
"""Round trips of which the median is taken."""


def examine(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Run every check that is possible here. A failing check does not stop the others."""
    try:
        loaded = load(environment)
    except SettingsError as error:
        remedy = "Correct it; `jobfac config` lists what there is. Nothing that needs settings was checked."
        wrong = Finding("settings", State.PROBLEM, error_text(error), remedy)
        files = run_check("files", lambda: machine.files(_default_slots()))
        return [wrong, *run_check("guardian", machine.guardian), *files]
    findings = run_check("settings", lambda: machine.settings(environment))
    if loaded.api_url:
        return findings + run_check("api", lambda: machine.api(loaded))
    findings += _drivers(loaded.database_url)
    of_database, slots = _database(loaded)
    findings += of_database
    findings += run_check("spool", lambda: machine.spool(loaded.spool_folder()))
    findings += run_check("guardian", machine.guardian)
    return findings + run_check("files", lambda: machine.files(slots))


def is_unreachable(findings: Iterable[Finding]) -> bool:
    """Whether the database or the API could not be reached, so that most checks were skipped."""
    return any(finding.check in ("database", "api") and finding.state is State.PROBLEM for finding in findings)


def _drivers(url: str) -> list[Finding]:
    def check() -> Iterator[Finding]:
        try:
            yield from machine.drivers(url)
        except ImportError as error:
            yield machine.missing_driver(error, url)

    return run_check("drivers", check)


def _default_slots() -> int:
    return 2 * (os.cpu_count() or 1)


def _database(settings: Settings) -> tuple[list[Finding], int]:
    """Return the findings about the database, and the largest number of slots of a worker on this machine."""
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():  # connecting would create an empty file
        remedy = "`jobfac db upgrade` or `jobfac up` makes it; or correct JOBFAC_DATABASE_URL."
        return [Finding("database", State.PROBLEM, f"there is no file {path}", remedy)], _default_slots()
    try:
        db = Database(settings.database_url)
    except Unreachable as error:
        return [_unreachable(error)], _default_slots()
    try:
        findings = list(_connection(db))
        if is_unreachable(findings):
            return findings, _default_slots()
        if path is not None:
            findings += run_check("database file", lambda: engine.sqlite_file(path))
        findings += _engine_options(db)
        schema = run_check("schema", lambda: [_schema(db)])
        findings += schema
        if schema[0].state is not State.PROBLEM and db.dialect.name == "mssql":
            findings += run_check("rights", lambda: db.query(engine.mssql_rights))
        if schema[0].state is not State.OK:  # the tables are missing or may not be read
            return findings, _default_slots()
        return findings + factory_findings(db), _slots(db)
    finally:
        db.close()


def _connection(db: Database) -> Iterator[Finding]:
    """Check that the database answers, how fast it does, and its clock."""

    def ping(conn: sa.Connection) -> list[tuple[float, float]]:
        return [_ping(conn) for _ in range(PINGS)]

    try:
        pings = db.query(ping, retry_for=0)
    except Exception as error:  # such as a refused login, a file that is no database, or an unknown host name
        yield _unreachable(error)
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
    database_time = factory.now(conn)
    seconds = time.monotonic() - started
    return seconds, (local_time - database_time).total_seconds() + seconds / 2


def judge_clock(ahead: float) -> Finding:
    """Judge by how many seconds this machine's clock is ahead of the database's."""
    found = f"this machine is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database"
    if abs(ahead) < MAX_CLOCK_DIFFERENCE:
        return Finding("clock", State.OK, found)
    remedy = "Let both follow a time server (NTP): runs keep the database's time, logs and `--at` this machine's."
    return Finding("clock", State.WARNING, found, remedy)


def _unreachable(error: BaseException) -> Finding:
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


def factory_findings(db: Database) -> list[Finding]:
    """Check workers, queue, schedules and notifications. A check that has a problem or a warning shows only these."""
    checks: dict[str, Callable[[sa.Connection], Iterable[Finding]]] = {
        "workers": factory.workers,
        "queue": factory.queues,
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


def _slots(db: Database) -> int:
    """Return the largest number of slots of a live worker on this machine, or the default if there is none."""
    try:
        rows = db.query(workers.workers, True, retry_for=0)
    except Exception:  # the other checks have reported what is wrong
        return _default_slots()
    return max((row.slots for row in rows if row.host == socket.gethostname()), default=_default_slots())
