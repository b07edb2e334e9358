"""Checks after a chaos run that the programs' journals and the database agree, and that every guarantee held."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import attempt, run, run_event, upstream_end
from jobfac.states import FINAL
from scripts.chaos.clock import Clock
from scripts.chaos.dba import Excuses

MARGIN = 0.25
"""Maximum difference in seconds between the journal's clock and the database's time of a requeue."""

Key = tuple[int, int]
"""A run and the number of its attempt."""


@dataclass
class Execution:
    """The journal of one execution. Times in seconds since the epoch; ``code`` is None if no end was recorded."""

    start: float
    last: float
    code: int | None
    overlap: bool


def read_journal(folder: Path) -> dict[Key, Execution]:
    """The executions that wrote a journal into ``folder``."""
    found = {}
    for path in folder.glob("*.log"):
        lines = [line.split() for line in path.read_text().splitlines()]
        words = {word: (float(at), int(value)) for word, at, value in lines}
        if "start" not in words:
            continue
        number, count = map(int, path.stem.split("-"))
        last = max(float(at) for _, at, _ in lines)
        code = words["end"][1] if "end" in words else None
        found[number, count] = Execution(words["start"][0], last, code, "overlap" in words)
    return found


def violations(db: Database, journal: dict[Key, Execution], clock: Clock, silent: Collection[str] = ()) -> list[str]:
    """One sentence for each violated guarantee. ``silent``: jobs whose programs write no journal."""
    # Separate queries: the test server still chooses deadlock victims, and ``query`` repeats one that fails.
    runs = db.query(lambda conn: conn.execute(sa.select(run)).mappings().all())
    pending = db.query(lambda conn: conn.execute(sa.select(upstream_end.c.run_id)).scalars().all())
    stored = db.query(lambda conn: conn.execute(sa.select(attempt)).mappings().all())
    attempts = {(row["run_id"], row["number"]): row for row in stored}
    unfinished = Counter(row["state"] for row in runs if row["state"] not in FINAL)
    wrong = [f"{number} runs are still {state}" for state, number in unfinished.items()]
    wrong += [f"run {key[0]}: attempt {key[1]} ran beside another" for key, one in journal.items() if one.overlap]
    jobs = {row["id"]: row["job"] for row in runs}
    events = db.query(_event_times)
    for key, row in attempts.items():
        if jobs.get(key[0]) not in silent:
            ended = _true_end(row, events.get(key, ()), clock)
            wrong += _disagreements(key, row, journal.get(key), ended)
    wrong += [f"run {run_id}: the database has no attempt {number}" for run_id, number in journal.keys() - attempts]
    wrong += _over_the_limit(runs, journal)
    wrong += _followers(runs, pending)
    return wrong


def _followers(runs: Sequence[sa.RowMapping], pending: Collection[int]) -> list[str]:
    """Ends of the job 'short' that started not exactly one run of 'follows'."""
    causes = Counter(json.loads(row["origin"])["run"]["id"] for row in runs if row["job"] == "follows")
    ends = {row["id"] for row in runs if row["job"] == "short"} - set(pending)
    wrong = [run_id for run_id in ends if causes[run_id] != 1]
    return [f"the end of run {run_id} started {causes[run_id]} runs of 'follows'" for run_id in wrong]


def _event_times(conn: sa.Connection) -> dict[Key, list[float]]:
    """By run and attempt, when its events were stored, but that of its beginning."""
    found: dict[Key, list[float]] = {}
    for row in conn.execute(sa.select(run_event).where(run_event.c.event != "running")):
        found.setdefault((row.run_id, row.attempt), []).append(row.at.timestamp())
    return found


def _true_end(row: sa.RowMapping, stored: Sequence[float], clock: Clock) -> float | None:
    """The latest true time at which an attempt may have ended; None: it has not ended.

    A worker counts the time since the end back from the moment at which it stores the end, so the clock of that moment
    applies, even if it stepped in between. ``stored``: the times of the attempt's events.
    """
    if row["ended_at"] is None:
        return None
    ended: float = row["ended_at"].timestamp()
    return max(ended - offset for moment in (ended, *stored) for offset in clock.offsets(moment))


def _disagreements(key: Key, row: sa.RowMapping, one: Execution | None, ended: float | None) -> list[str]:
    run_id, number = key
    wrong = []
    if one is not None and ended is not None and one.last > ended + MARGIN:
        wrong.append(f"run {run_id}: attempt {number} lived on after it was {row['state']}")
    if row["exit_code"] is not None and (one is None or one.code != row["exit_code"]):
        wrong.append(f"run {run_id}: attempt {number} is stored with exit code {row['exit_code']}, its journal: {one}")
    return wrong


def unexcused(folder: Path, excuses: Excuses) -> list[str]:
    """Workers that lost their lease although they were not frozen and the database was not away, by their logs."""
    wrong = []
    for path in sorted(folder.glob("worker-*.log")):
        lost = False
        for line in path.read_text(errors="replace").splitlines():
            if '"worker_registered"' in line:
                lost = False
            if '"stop_requested"' in line:  # a heartbeat may find that its worker has just deregistered
                break
            if lost or ('"self_fence"' not in line and '"lease_lost"' not in line):
                continue
            lost = True  # until it registers anew: a heartbeat that still waits is told later
            told = json.loads(line)
            if not excuses.covers(datetime.fromisoformat(told["timestamp"]).timestamp()):
                wrong.append(f"{path.name}: {told['event']} at {told['timestamp']}, for no reason but the DBA")
    return wrong


def _over_the_limit(runs: Sequence[sa.RowMapping], journal: dict[Key, Execution]) -> list[str]:
    """Executions that ran together although their key, 'alone', has a limit of one."""
    alone = {row["id"] for row in runs if row["concurrency_key"] == "alone"}
    spans = sorted((one.start, one.last, key[0]) for key, one in journal.items() if key[0] in alone)
    return [
        f"runs {earlier[2]} and {later[2]} of the key 'alone' ran together"
        for earlier, later in pairwise(spans)
        if earlier[1] > later[0] and earlier[2] != later[2]
    ]
