"""Experiment 2: which plans the server makes for each kind of statement, with more and more history."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.scheduler.poll import POLL
from jobfac.states import RunState
from jobfac.store import output, overview, retention, runs, statistics, workers
from jobfac.store.output import Stored
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from tests.real_server.experiments.place import Finding, Place
from tests.support.database import Hand, define, make_due

SHOWN = "{http://schemas.microsoft.com/sqlserver/2004/07/showplan}"
TOGETHER = 100_000
"""Rows that one statement of ``_grow`` inserts at most."""

HISTORY = ("run", "attempt", "run_output", "run_event")
"""Tables that grow with every run: no plan may read the whole of one."""

KINDS = {
    "claim": r"^WITH next AS",
    "wait": r"WAITFOR DELAY",
    "renew": r"^UPDATE l SET seen_at|UPDATE jobfac\.worker_lease SET seen_at",
    "held": r"WITH \(ROWLOCK, UPDLOCK, FORCESEEK\)",
    "finish": r"OPENJSON.*UPDATE jobfac\.run|^UPDATE jobfac\.run.*OPENJSON",
    "purge": r"^DELETE FROM jobfac\.run|ended_at IS NOT NULL",
    "statistics": r"jobfac\.daily",
    "insert": r"^INSERT INTO jobfac\.run\b",
    "v_queue": r"jobfac\.v_queue",
    "scheduler's poll": r"CASE WHEN.*EXISTS.*jobfac\.schedule",
}
"""Kinds of statements by a pattern of their text; the first that fits counts."""

CACHE = """\
SELECT t.text, CAST(p.query_plan AS NVARCHAR(MAX)) AS shown
FROM sys.dm_exec_query_stats AS s
CROSS APPLY sys.dm_exec_sql_text(s.sql_handle) AS t
CROSS APPLY sys.dm_exec_text_query_plan(s.plan_handle, s.statement_start_offset, s.statement_end_offset) AS p
WHERE t.text LIKE N'%jobfac.%' AND t.text NOT LIKE N'%dm_exec_query_stats%'"""


class Reading(NamedTuple):
    """What a plan reads: accesses such as `Index Seek ix_run_claim`, and conversions of columns."""

    accesses: frozenset[str]
    conversions: frozenset[str]

    @property
    def scans(self) -> list[str]:
        """Scans of the whole history; a scan of a filtered index reads only what is active."""
        whole = tuple(f"{way} {table}." for way in ("Clustered Index Scan", "Table Scan") for table in HISTORY)
        return sorted(one for one in self.accesses if one.startswith(whole))


def read_plan(shown: str) -> Reading:
    """Read a plan as SQL Server shows it in XML."""
    tree = ElementTree.fromstring(shown)
    accesses = set()
    for operator in tree.iter(f"{SHOWN}RelOp"):
        for way in operator:
            target = way.find(f"{SHOWN}Object")
            if target is not None and target.get("Schema") == "[jobfac]":
                table, index = (str(target.get(name, "")).strip("[]") for name in ("Table", "Index"))
                accesses.add(f"{operator.get('PhysicalOp')} {table}.{index}")
    implicit = (
        one.get("Expression", "") for one in tree.iter(f"{SHOWN}PlanAffectingConvert")
        if one.get("ConvertIssue") == "Seek Plan"
    )  # fmt: skip
    return Reading(frozenset(accesses), frozenset(implicit))


def kind_of(text: str) -> str | None:
    """The kind of a statement, or None."""
    plain = re.sub(r"\s+", " ", re.sub(r"^\(@.*?\)(?=[A-Z])", "", text.strip()))
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, plain)), None)


def judge(found: Mapping[str, Reading], size: int) -> Iterator[Finding]:
    """One answer for each kind of statement."""
    for kind in KINDS:
        question = f"{size:,} old runs: {kind}"
        if kind not in found:
            yield Finding(question, "no plan of it is in the cache")
            continue
        reading = found[kind]
        told = [", ".join(sorted(reading.accesses)) or "reads no table of jobfac"]
        told += [f"CONVERTS {one}" for one in sorted(reading.conversions)]
        yield Finding(question, "; ".join(told), bool(reading.conversions) or bool(size and reading.scans))


def experiment(place: Place) -> Iterator[Finding]:
    """Do everything that is done every day, with histories of each size, and read the plans from the cache."""
    for size in sorted(place.sizes):
        _grow(place, size)
        yield place.ask(f"{size:,} old runs: the plan cache is cleared", _clear)
        _work(place)
        try:
            with place.db.read() as conn:
                rows = [(str(row.text), str(row.shown or "")) for row in conn.exec_driver_sql(CACHE)]
        except sa.exc.DBAPIError:
            yield place.ask(f"{size:,} old runs: plans", lambda conn: str(conn.exec_driver_sql(CACHE).all()))
            continue
        yield from judge(_by_kind(rows), size)


def _by_kind(rows: Iterable[tuple[str, str]]) -> dict[str, Reading]:
    found: dict[str, list[Reading]] = defaultdict(list)
    for text, shown in rows:
        if shown and (kind := kind_of(text)):
            found[kind].append(read_plan(shown))
    return {kind: _together(readings) for kind, readings in found.items()}


def _together(readings: Sequence[Reading]) -> Reading:
    accesses = frozenset(one for reading in readings for one in reading.accesses)
    return Reading(accesses, frozenset(one for reading in readings for one in reading.conversions))


def _clear(conn: sa.Connection) -> str:
    conn.exec_driver_sql("ALTER DATABASE SCOPED CONFIGURATION CLEAR PROCEDURE_CACHE")
    return "yes"


def _grow(place: Place, size: int) -> None:
    """Make a history of ``size`` runs: a first few as the program makes them, then copies of them."""
    define(place.db, history={})
    ended = run.c.state == RunState.SUCCEEDED
    count = sa.select(sa.func.count()).select_from(run).where(ended)
    copied = [column for column in run.c if column.name != "id"]
    with place.db.read() as conn:
        have = conn.execute(count).scalar_one()
    while have < size:
        with place.db.begin() as conn:
            if not have:
                ids = runs.start_many(conn, StartRequest("history", "experiment"), min(size, 500))
                change = run.update().where(run.c.id >= ids[0], run.c.id <= ids[-1])
                have += conn.execute(change.values(state=RunState.SUCCEEDED, ended_at=run.c.created_at)).rowcount
            else:
                some = sa.select(*copied).where(ended).limit(min(have, size - have, TOGETHER))
                have += conn.execute(run.insert().from_select(copied, some)).rowcount


def _work(place: Place) -> None:
    db = place.db
    define(db, job={}, one={"already_running": "queue", "concurrency": {"key": "k"}})
    hand = Hand(db, "experiment", slots=50)
    db.transact(runs.start_many, StartRequest("job", "experiment"), 50)
    db.transact(runs.start, StartRequest("one", "experiment"))
    db.transact(runs.start, StartRequest("job", "experiment", key="once"))
    db.transact(runs.start, StartRequest("job", "experiment", delay=60.0))
    make_due(db)
    db.transact(runs.promote_due, "experiment")
    for claimed in hand.claim():
        db.transact(output.append, [Stored(claimed.id, 1, "stdout", 0, b"x")])
        hand.end(claimed)
    hand.renew()
    db.single(workers.renew, hand.id, 60.0)
    db.dialect.waiter(db.singles, "server").wait(["default"], hand.id, 0, 0.05)
    db.query(overview.read)
    db.query(lambda conn: conn.execute(POLL).one())
    db.query(lambda conn: conn.exec_driver_sql("SELECT * FROM jobfac.v_queue").all())
    db.transact(statistics.count)
    db.query(retention.overdue_jobs, "", Keep(86400.0 * 30))
    hand.die()
