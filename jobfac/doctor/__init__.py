"""What is wrong with this installation, and what helps: each check is a small function that returns findings.

What a check reads and what it concludes are apart: the conclusions (``judge_...``) are pure.
"""

import os
import socket
from collections.abc import Iterator, Mapping

from jobfac.database.engine import Database
from jobfac.doctor import machine
from jobfac.doctor.central import examine_database, is_unreachable, judge_clock, out_of_reach
from jobfac.doctor.finding import Finding, State, run, said
from jobfac.errors import Unreachable
from jobfac.settings import Settings, SettingsError, load, sqlite_path
from jobfac.store import workers

__all__ = ["Finding", "State", "examine", "examine_database", "is_unreachable", "judge_clock"]


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
        return [out_of_reach(error)], _usual_slots()
    try:
        findings = examine_database(db)
        return findings, _slots(db) if any(found.check == "workers" for found in findings) else _usual_slots()
    finally:
        db.close()


def _slots(db: Database) -> int:
    """Of the worker of this machine that has most, or of one that is told nothing."""
    try:
        rows = db.query(workers.workers, True, retry_for=0)
    except Exception:  # it was well a moment ago; what is wrong now the other checks say
        return _usual_slots()
    return max((row.slots for row in rows if row.host == socket.gethostname()), default=_usual_slots())
