"""Read what the coming hours bring: due times of all schedules, usual durations, and the workers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import current_time
from jobfac.database.tables import daily, schedule
from jobfac.recurrence import due_times
from jobfac.recurrence.load import HOUR, Crew, Firing, Limit, load
from jobfac.states import RunState
from jobfac.store import jobs, workers
from jobfac.store.schedules.decision import TICK
from jobfac.views.results.load import LoadView

DENSE = 10_000
"""The maximum number of due times of one schedule that are counted."""

SPARSE, TOTAL = 1000, 100_000
"""So many due times of each schedule are counted, and of all schedules together so many more."""

LARGE, PROGRAMS = 1000, 200_000
"""So many programs of one start are counted, and of all starts. Each schedule gets its share of these at least."""

USUAL_DAYS = 30
"""The days of statistics from which usual durations are computed."""

UNKNOWN = 60.0
"""Seconds that a job without statistics counts with."""

DEEPEST = 10
"""The maximum number of nested sequences, and of jobs that start one after another."""

_ANY = datetime(2000, 1, 1, tzinfo=UTC)


class Part(NamedTuple):
    """A program that a start of a job executes, and how many seconds after the start.

    ``number``: how many workers execute it. The other fields are those of a ``Firing``.
    """

    after: float
    job: str
    pool: str
    seconds: float
    slots: int
    labels: frozenset[tuple[str, str]]
    limit: Limit | None
    number: int = 1


def read_load(conn: sa.Connection, days: int) -> LoadView:
    """Return how full the coming days are, from the beginning of this hour on.

    Paused schedules and disabled jobs do not count, nor do definitions that cannot be read. Every run is taken to
    succeed after its usual duration: the steps of a sequence count one after another, and jobs that start after others
    (``after``) when these have ended.
    """
    now = current_time(conn)
    begin = now.replace(minute=0, second=0, microsecond=0)
    until = begin + timedelta(days=days)
    stored = {one.id: one for one in jobs.load_all(conn) if one.unreadable is None}
    usual, crews = _usual(conn, now), _crews(conn, now)
    firings: list[Firing] = []
    dense: list[str] = []
    used: set[str] = set()
    due: dict[tuple[str, str], list[datetime]] = {}
    rules = list(_rules(conn, stored))
    left = TOTAL
    for job_id, name, rule in rules:
        if rule.is_calendar:
            coming = due_times(rule, begin - TICK, until - TICK)
            times = list(islice(coming, SPARSE))
            times += islice(coming, min(DENSE - SPARSE, left))
            left -= max(0, len(times) - SPARSE)
            due[job_id, name] = times
            if next(coming, None) is not None:
                dense.append(f"{job_id}/{name}")
    expansion = Expansion(stored, usual, crews, _followers(rules, due))
    for (job_id, name), times in due.items():
        parts = expansion.parts(job_id)
        used |= {part.job for part in parts}
        number = sum(part.number for part in parts)
        most = max(PROGRAMS // len(due), PROGRAMS - len(firings)) // max(1, number)
        if (len(times) > most or expansion.is_cut) and f"{job_id}/{name}" not in dense:
            dense.append(f"{job_id}/{name}")
        for at in times[:most]:
            for one in parts:
                when = at + timedelta(seconds=one.after)
                firing = Firing(when, one.pool, one.job, name, one.seconds, one.slots, one.labels, one.limit)
                firings += [firing] * one.number
    found = load(firings, crews, begin, (until - begin) // HOUR)
    unknown = sorted(used - usual.keys())
    return LoadView(begin, until, found.pools, found.moves, unknown, dense, found.unserved, found.limited)


def _rules(conn: sa.Connection, stored: Mapping[str, jobs.Stored]) -> Iterator[tuple[str, str, d.Schedule]]:
    """Yield the job, the name and the rule of each schedule that starts runs."""
    query = sa.select(schedule.c.job, schedule.c.name).where(schedule.c.paused == sa.true())
    paused = {(row.job, row.name) for row in conn.execute(query)}
    for one in stored.values():
        definition = one.definition
        for name, rule in zip(definition.schedule_names(), definition.schedules, strict=True):
            if one.enabled and rule.enabled and (one.id, name) not in paused:
                yield one.id, name, rule


def _followers(
    rules: Iterable[tuple[str, str, d.Schedule]], due: Mapping[tuple[str, str], Sequence[datetime]]
) -> dict[str, list[str]]:
    """Return by job the jobs that start after a success of it.

    A job that starts after all of several ones counts with the one that is due least often.
    """
    often: Counter[str] = Counter()
    for (job_id, _), times in due.items():
        often[job_id] += len(times)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, _, rule in rules:
        if rule.after is None:
            continue
        upstream = [one.job for one in rule.after.upstream if RunState.SUCCEEDED in one.states]
        if rule.after.all is not None:
            whole = len(upstream) == len(rule.after.all)
            upstream = sorted(upstream, key=lambda job: often[job] or DENSE)[:1] if whole else []
        for job in upstream:
            found[job].append(job_id)
    return found


class Expansion:
    """What the start of a job executes, at once and later."""

    def __init__(
        self,
        stored: Mapping[str, jobs.Stored],
        usual: Mapping[str, float],
        crews: Sequence[Crew],
        followers: Mapping[str, Sequence[str]],
    ) -> None:
        self._stored = stored
        self._usual = usual
        self._crews = crews
        self._followers = followers
        self._left = LARGE
        self.is_cut = False

    def parts(self, job_id: str) -> list[Part]:
        """Return the programs that a start of the job executes, those of the jobs that follow included.

        Sequences in sequences may be millions. If there are more than ``LARGE``, ``is_cut`` is set.
        """
        self._left, self.is_cut = LARGE, False
        return self._parts(job_id, 0.0, 0)

    def _parts(self, job_id: str, after: float, depth: int) -> list[Part]:
        found, ends = self._run(job_id, after, depth)
        for job, end in ends if depth < DEEPEST else ():
            for follower in self._followers.get(job, ()):
                found += self._parts(follower, end, depth + 1)
        return found

    def _run(self, job_id: str, after: float, depth: int) -> tuple[list[Part], list[tuple[str, float]]]:
        """Return the programs of one run, and when the runs in it end: those of a sequence's steps, then its own."""
        one = self._stored.get(job_id)
        if one is None or depth > DEEPEST:
            return [], []
        self._left -= 1
        if self._left < 0:
            self.is_cut = True
            return [], []
        if not isinstance(one.definition, d.Sequence):
            part = self._program(one, one.definition, after)
            return [part], [(job_id, after + part.seconds)]
        found: list[Part] = []
        ends: list[tuple[str, float]] = []
        for step in one.definition.steps:
            begin = after
            for job in step.jobs:
                parts, inner = self._run(job, begin, depth + 1)
                found += parts
                ends += inner
                after = max([after, *(end for _, end in inner)])
        return found, [*ends, (job_id, after)]

    def _program(self, one: jobs.Stored, job: d.Job, after: float) -> Part:
        limit = None
        if job.concurrency is not None:
            limit = Limit(f"key {job.concurrency.key.lower()}", job.concurrency.limit)
        elif job.already_running == "queue":
            limit = Limit(f"job {one.id}", 1)
        seconds = self._usual.get(one.id, UNKNOWN)
        part = Part(after, one.id, job.pool, seconds, job.slots, frozenset(job.labels.items()), limit)
        if not job.each_worker:
            return part
        able = Firing(_ANY, part.pool, one.id, "", seconds, part.slots, part.labels)
        return part._replace(number=sum(crew.workers for crew in self._crews if crew.serves(able)) or 1)


def _usual(conn: sa.Connection, now: datetime) -> dict[str, float]:
    """Return the average seconds of each job's runs in the last days."""
    sums = (sa.func.sum(daily.c.run_ms).label("run_ms"), sa.func.sum(daily.c.ran).label("ran"))
    query = sa.select(daily.c.job, *sums).where(daily.c.day >= (now - timedelta(days=USUAL_DAYS)).date())
    rows = conn.execute(query.group_by(daily.c.job))
    return {row.job: float(row.run_ms) / float(row.ran) / 1000 for row in rows if row.ran}


def _crews(conn: sa.Connection, now: datetime) -> list[Crew]:
    """Return the workers that take new runs, those that are alike together."""
    alike = Counter(
        Crew(frozenset(one.pools), frozenset(one.labels.items()), one.slots)
        for one in workers.workers(conn, alive_only=True)
        if one.takes_runs(now)
    )
    return [crew._replace(workers=number) for crew, number in alike.items()]
