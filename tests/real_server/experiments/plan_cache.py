"""Experiment 5: how many plans the server keeps while programs write output of uneven length, through both drivers."""

import random
import time
from collections.abc import Iterator

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import JobfacError
from jobfac.states import RunState
from jobfac.store import output, runs
from jobfac.store.output import Stored
from jobfac.store.runs import StartRequest
from tests.real_server.experiments.place import Finding, Place, reason, scalar
from tests.support.database import Hand, define

DRIVERS = ("pyodbc", "mssqlpython")
MANY = 5
"""More plans of one statement than this mean that a parameter is declared by its value."""

PLANS = """\
SELECT TOP (5) MIN(SUBSTRING(t.text, 1, 120)) AS text, COUNT(DISTINCT s.plan_handle) AS plans
FROM sys.dm_exec_query_stats AS s CROSS APPLY sys.dm_exec_sql_text(s.sql_handle) AS t
WHERE t.text LIKE N'%jobfac.%' GROUP BY s.query_hash ORDER BY COUNT(DISTINCT s.plan_handle) DESC"""

MEGABYTES = """\
SELECT CAST(SUM(CAST(p.size_in_bytes AS BIGINT)) / 1048576.0 AS DECIMAL(9, 1)) FROM sys.dm_exec_cached_plans AS p
CROSS APPLY sys.dm_exec_sql_text(p.plan_handle) AS t WHERE t.text LIKE N'%jobfac.%'"""

COMPILATIONS = """\
SELECT cntr_value FROM sys.dm_os_performance_counters WHERE RTRIM(counter_name) = N'SQL Compilations/sec'"""


def experiment(place: Place) -> Iterator[Finding]:
    """Write uneven output for a while with each driver; then count plans."""
    before = place.ask("compilations", lambda conn: str(scalar(conn, COMPILATIONS))).answer
    seconds = 0.0
    for driver in DRIVERS:
        began = time.monotonic()
        try:
            wrote = _write(place, driver)
            yield Finding(f"{driver}: pieces of output, each of another length", f"{wrote:,}")
        except (ImportError, JobfacError, sa.exc.SQLAlchemyError) as error:
            yield Finding(f"{driver}: pieces of output", f"not answered: {reason(error)}")
        seconds += time.monotonic() - began
    after = place.ask("compilations", lambda conn: str(scalar(conn, COMPILATIONS))).answer
    numbers = before.isdigit() and after.isdigit()
    rate = f"{(int(after) - int(before)) / seconds:.1f} (of the whole server)" if numbers else after
    yield Finding("compilations a second", rate)
    yield place.ask("megabytes of plans", lambda conn: str(scalar(conn, MEGABYTES)))
    yield place.ask("the most plans of one statement", _most)


def _most(conn: sa.Connection) -> Finding:
    rows = conn.exec_driver_sql(PLANS).all()
    told = "; ".join(f"{row.plans} × {' '.join(row.text.split())}" for row in rows) or "there is no plan"
    return Finding("the most plans of one statement", told, bool(rows) and rows[0].plans > MANY * len(DRIVERS))


def _write(place: Place, driver: str) -> int:
    """Claim, write and end runs with values of every length; returns how many pieces of output were written."""
    url = place.db.url.set(drivername=f"mssql+{driver}")
    if driver != "pyodbc":
        url = url.difference_update_query(["driver", "APP", "app"])
    db = Database(url.render_as_string(hide_password=False))
    chance = random.Random(5)
    pieces = 0
    try:
        define(db, uneven={})
        hand = Hand(db, f"uneven {driver}")
        end = time.monotonic() + place.seconds
        while time.monotonic() < end:
            length = chance.randrange(1, 9000)
            request = StartRequest("uneven", "experiment", payload="x" * length, arguments=["y" * (length % 500)])
            db.transact(runs.start, request)
            for claimed in hand.claim():
                chunk = Stored(claimed.id, claimed.attempt, "stdout", 0, bytes(length))
                db.transact(output.append, [chunk])
                db.transact(runs.report_progress, claimed.id, claimed.attempt, 0.5, "z" * (length % 900))
                hand.end(claimed, RunState.FAILED, reason="r" * (length % 1000), exit_code=length % 256)
                pieces += 1
    finally:
        db.close()
    return pieces
