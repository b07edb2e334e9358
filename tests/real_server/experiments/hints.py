"""Experiment 1: the lock hints as the program sends them, and what they pass over."""

from collections.abc import Iterator

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, FOUND_BY_KEY, LOCKED_BY_KEY, PASS, SKIP
from jobfac.database.dialects.rows import SEEK
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.real_server.experiments.place import Finding, Place, reason
from tests.support.database import define

HINTS = {
    "PASS": PASS, "SKIP": SKIP, "CLAIMING": CLAIMING, "LOCKED_BY_KEY": LOCKED_BY_KEY, "FOUND_BY_KEY": FOUND_BY_KEY,
    "SEEK": SEEK,
}  # fmt: skip
QUEUED = "SELECT id FROM jobfac.run {} WHERE state = 'queued' AND queue = N'default'"
LOCKS = {
    "locked with UPDLOCK": ("SELECT id FROM jobfac.run WITH (UPDLOCK, ROWLOCK) WHERE id = {}", {"PASS": True}),
    "changed": ("UPDATE jobfac.run SET priority = 1 WHERE id = {}", {"PASS": False}),
}
"""What another session does to a row, and whether each hint should still read it; SKIP never should."""


def experiment(place: Place) -> Iterator[Finding]:
    """Which spellings the server accepts, and which rows each of them reads."""
    define(place.db, hints={})
    run_id = place.db.transact(runs.start, StartRequest("hints", "experiment"))
    for mode in place.each_snapshot():
        for name, hint in HINTS.items():
            yield accepted(place, f"{mode}: {name}, {hint}", QUEUED.format(hint))
        for state, (lock, expected) in LOCKS.items():
            for name in ("PASS", "SKIP"):
                should = expected.get(name, False)
                yield _seen(place, f"{mode}: {name} reads a row that is {state}", lock, name, run_id, should)


def accepted(place: Place, question: str, text: str) -> Finding:
    """Whether the server takes the statement."""
    try:
        with place.session() as conn:
            conn.exec_driver_sql(text).all()
    except sa.exc.DBAPIError as error:
        return Finding(question, f"refused: {reason(error)}", is_trouble=True)
    return Finding(question, "accepted")


def _seen(place: Place, question: str, lock: str, name: str, run_id: int, should: bool) -> Finding:
    try:
        with place.session() as other, place.session() as conn:
            other.exec_driver_sql(lock.format(run_id))
            found = bool(conn.exec_driver_sql(QUEUED.format(HINTS[name])).all())
    except sa.exc.DBAPIError as error:
        return Finding(question, f"it waits or is refused: {reason(error)}", is_trouble=True)
    return Finding(question, f"{'yes' if found else 'no'}, {'yes' if should else 'no'} expected", found != should)
