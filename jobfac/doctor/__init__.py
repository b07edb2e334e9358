"""Checks of this installation. Each check is a function that returns findings, and each problem names a remedy.

Checks read; pure functions named ``judge_...`` derive the findings.
"""

import os
import socket
from collections.abc import Iterator, Mapping

from jobfac.database.engine import Database
from jobfac.doctor import machine
from jobfac.doctor.central import examine_database, is_unreachable, judge_clock, unreachable
from jobfac.doctor.finding import Finding, State, error_text, run_check
from jobfac.errors import NotReady, Unreachable
from jobfac.settings import Settings, SettingsError, load, sqlite_path
from jobfac.store import workers

__all__ = ["Finding", "State", "examine", "examine_database", "is_unreachable", "judge_clock"]


def examine(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Run every check that is possible here. A failing check does not stop the others."""
    try:
        loaded = load(environment)
    except (SettingsError, NotReady) as error:
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
        return [unreachable(error)], _default_slots()
    try:
        findings = examine_database(db)
        return findings, _slots(db) if any(found.check == "workers" for found in findings) else _default_slots()
    finally:
        db.close()


def _slots(db: Database) -> int:
    """Return the largest number of slots of a live worker on this machine, or the default if there is none."""
    try:
        rows = db.query(workers.workers, True, retry_for=0)
    except Exception:  # the other checks have reported what is wrong
        return _default_slots()
    return max((row.slots for row in rows if row.host == socket.gethostname()), default=_default_slots())
