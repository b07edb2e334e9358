"""Experiment 4: deadlocks and lock timeouts while everything that takes several locks runs together."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.errors import JobfacError
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import retention, runs, sequences, workers
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from jobfac.store.workers import LeaseLost
from tests.real_server.experiments.place import Finding, Place, reason, scalar
from tests.support.database import Hand, define

ME = Caller("experiment")
FEW = 20
"""So many deadlocks in an observation are too many: each costs a repetition of its transaction."""

REPORTED = """\
SELECT COUNT(*) FROM (
    SELECT CAST(t.target_data AS XML) AS data FROM sys.dm_xe_session_targets AS t
    JOIN sys.dm_xe_sessions AS s ON s.address = t.event_session_address
    WHERE s.name = N'system_health' AND t.target_name = N'ring_buffer'
) AS r CROSS APPLY r.data.nodes('RingBufferTarget/event[@name="xml_deadlock_report"]') AS e(node)"""

ERRORS = {"1205": r"\(1205\)|deadlock", "1222": r"\(1222\)|Lock request time out", "51222": r"51222|could not be had"}


class Noted:
    """Errors by number, and the slowest heartbeat. Each thread writes its own keys; a Counter's update is atomic."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.others: list[str] = []
        self.slowest = 0.0

    def note(self, context: sa.ExceptionContext) -> None:
        """Count an error that a driver raised."""
        text = str(context.original_exception)
        number = next((number for number, pattern in ERRORS.items() if re.search(pattern, text)), None)
        if number is None:
            self.others.append(text[:200])
        else:
            self.errors[number] += 1


def experiment(place: Place) -> Iterator[Finding]:
    """Run everything together, with READ_COMMITTED_SNAPSHOT on and off."""
    optimized = "SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'IsOptimizedLockingOn') AS INT)"
    yield place.ask("optimized locking", lambda conn: {1: "on", 0: "off"}.get(scalar(conn, optimized), "unknown here"))
    for mode in place.each_snapshot():
        before = place.ask("deadlocks", lambda conn: str(scalar(conn, REPORTED))).answer
        noted, done = _together(place)
        counts = ", ".join(f"{noted.errors[number]} × {number}" for number in ERRORS)
        question = f"{mode}: everything together for {place.seconds:g} s"
        yield Finding(question, f"{counts}; {done:,} transactions", noted.errors["1205"] > FEW)
        if noted.others:
            yield Finding(f"{mode}: other errors", f"{len(noted.others)}, such as {noted.others[0]}", is_trouble=True)
        trouble = noted.slowest > 3.0
        yield Finding(f"{mode}: the slowest heartbeat", f"{noted.slowest:.2f} s", trouble)
        after = place.ask("deadlocks", lambda conn: str(scalar(conn, REPORTED))).answer
        told = f"{before} before, {after} after" if after.isdigit() else after
        yield Finding(f"{mode}: xml_deadlock_report in system_health", told)


def _together(place: Place) -> tuple[Noted, int]:
    db = Database(place.db.url.render_as_string(hide_password=False))
    define(db, fresh={"already_running": "replace"}, one={"already_running": "queue"}, free={},
           keyed={"concurrency": {"key": "k", "limit": 2}})  # fmt: skip
    noted, over, done = Noted(), threading.Event(), Counter[str]()
    sa.event.listen(db.engine, "handle_error", noted.note)
    acts: list[Callable[[], Any]] = [
        *(partial(_start, db, job) for job in ("fresh", "fresh", "one", "keyed")),
        *(partial(_work, Hand(db, f"hand{number}", slots=5)) for number in range(3)),
        partial(_stop, db), partial(_expire, db), partial(_purge, db), partial(_apply, db),
        partial(_beat, db, noted),
    ]  # fmt: skip

    def repeat(act: Callable[[], Any]) -> None:
        while not over.is_set():
            try:
                act()
                done["transactions"] += 1
            except (JobfacError, LeaseLost):
                done["refused"] += 1
            except Exception as error:
                noted.others.append(f"{type(error).__name__}: {reason(error)}")
                return

    threads = [threading.Thread(target=repeat, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    over.wait(place.seconds)
    over.set()
    for thread in threads:
        thread.join(60.0)
    sa.event.remove(db.engine, "handle_error", noted.note)
    db.close()
    return noted, done["transactions"]


def _start(db: Database, job: str) -> None:
    db.transact(runs.start, StartRequest(job, "experiment"))


def _work(hand: Hand) -> None:
    hand.renew()
    for claimed in hand.claim():
        hand.end(claimed, RunState.SUCCEEDED, exit_code=0)


def _stop(db: Database) -> None:
    active = db.query(lambda conn: scalar(conn, "SELECT MAX(id) FROM jobfac.run WHERE state = 'queued'"))
    if active is not None:
        db.transact(lambda conn: sequences.stop(conn, active, now=False, by="experiment"))


def _expire(db: Database) -> None:
    hand = Hand(db, "short")
    hand.claim(2)
    hand.lapse()
    db.transact(sequences.expire, "experiment")


def _purge(db: Database) -> None:
    retention.purge_all(db, Keep(0.001))


def _apply(db: Database) -> None:
    minute = time.monotonic_ns() % 60
    data = {"jobs": {"free": {"command": ["true"], "schedules": [{"cron": f"{minute} 4 1 1 *"}]}}}
    jobs.apply(db, ME, lambda known: d.from_data(data, known=known))


def _beat(db: Database, noted: Noted) -> None:
    hand = Hand(db, "heart")
    for _ in range(20):
        began = time.monotonic()
        db.single(workers.renew, hand.id, 60.0)
        noted.slowest = max(noted.slowest, time.monotonic() - began)
        time.sleep(0.05)
