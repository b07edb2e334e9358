"""Read what the coming hours bring: due times of all schedules, usual durations, and the slots of the pools."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.tables import daily, schedule
from jobfac.recurrence import due_times
from jobfac.recurrence.load import HOUR, Firing, load
from jobfac.states import WorkerState
from jobfac.store import jobs, workers
from jobfac.store.schedules.decision import TICK
from jobfac.views.results.load import LoadView

DENSE = 10_000
"""The maximum number of due times of one schedule that are counted."""

USUAL_DAYS = 30
"""The days of statistics from which usual durations are computed."""

UNKNOWN = 60.0
"""Seconds that a job without statistics counts with."""

DEEPEST = 10
"""The maximum number of nested sequences."""


class Part(NamedTuple):
    """A program that a start of a job executes: how many seconds after the start, and with what it counts."""

    after: float
    job: str
    pool: str
    seconds: float
    slots: int


def read_load(conn: sa.Connection, days: int) -> LoadView:
    """Return how full the coming days are, from the beginning of this hour on.

    Paused schedules and disabled jobs do not count. The steps of a sequence count one after another, as if each
    succeeded.
    """
    now: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    begin = now.replace(minute=0, second=0, microsecond=0)
    until = begin + timedelta(days=days)
    stored = {one.id: one for one in jobs.load_all(conn)}
    usual = _usual(conn, now)
    firings: list[Firing] = []
    dense: list[str] = []
    used: set[str] = set()
    for job_id, name, rule in _rules(conn, stored):
        parts = list(_parts(job_id, stored, usual))
        used |= {part.job for part in parts}
        times = list(islice(due_times(rule, now - TICK, until - TICK), DENSE + 1))
        if len(times) > DENSE:
            dense.append(f"{job_id}/{name}")
        for due in times[:DENSE]:
            for part in parts:
                at = due + timedelta(seconds=part.after)
                firings.append(Firing(at, part.pool, job_id, name, part.seconds, part.slots))
    pools, moves = load(firings, _slots(conn), begin, (until - begin) // HOUR)
    return LoadView(begin, until, pools, moves, sorted(used - usual.keys()), dense)


def _rules(conn: sa.Connection, stored: Mapping[str, jobs.Stored]) -> Iterator[tuple[str, str, d.Schedule]]:
    """Yield the job, the name and the rule of each schedule that fires."""
    query = sa.select(schedule.c.job, schedule.c.name).where(schedule.c.paused == sa.true())
    paused = {(row.job, row.name) for row in conn.execute(query)}
    for one in stored.values():
        definition = one.definition
        for name, rule in zip(definition.schedule_names(), definition.schedules, strict=True):
            if one.enabled and rule.enabled and rule.is_calendar and (one.id, name) not in paused:
                yield one.id, name, rule


def _parts(
    job_id: str, stored: Mapping[str, jobs.Stored], usual: Mapping[str, float], after: float = 0.0, depth: int = 0
) -> Iterator[Part]:
    one = stored.get(job_id)
    if one is None or depth > DEEPEST:
        return
    if isinstance(one.definition, d.Sequence):
        for step in one.definition.steps:
            inside = [part for job in step.jobs for part in _parts(job, stored, usual, after, depth + 1)]
            yield from inside
            after = max([after, *(part.after + part.seconds for part in inside)])
    else:
        slots = getattr(one.definition, "slots", None) or 1
        yield Part(after, job_id, one.definition.pool, usual.get(job_id, UNKNOWN), slots)


def _usual(conn: sa.Connection, now: datetime) -> dict[str, float]:
    """Return the average seconds of each job's runs in the last days."""
    sums = (sa.func.sum(daily.c.run_ms).label("run_ms"), sa.func.sum(daily.c.ran).label("ran"))
    query = sa.select(daily.c.job, *sums).where(daily.c.day >= (now - timedelta(days=USUAL_DAYS)).date())
    rows = conn.execute(query.group_by(daily.c.job))
    return {row.job: float(row.run_ms) / float(row.ran) / 1000 for row in rows if row.ran}


def _slots(conn: sa.Connection) -> dict[str, int]:
    """Return the slots of the live workers of each pool. A worker of several pools counts for each."""
    found: defaultdict[str, int] = defaultdict(int)
    for worker in workers.workers(conn, alive_only=True):
        if worker.state == WorkerState.ACTIVE:
            for pool in worker.pools:
                found[pool] += worker.slots
    return dict(found)
