"""Totals of ended runs and of executions by day. Pure functions over what the statistics read."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from jobfac.states import FINAL
from jobfac.store.history import recovery

LATE = 60_000
"""A run is late if it begins more than this many milliseconds after its time."""


LONGEST = timedelta(days=3650)
"""A span that seems to be longer began before the clock was set, perhaps in 1970, and has tens of thousands of days."""


class EndedRun(NamedTuple):
    """The columns of an ended run that the statistics need."""

    id: int
    job: str
    state: str
    attempt: int
    failures: int
    created_at: datetime
    ready_at: datetime | None
    due_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    cpu_seconds: float | None
    peak_memory: int | None
    origin: str | None


class Execution(NamedTuple):
    """An ended execution: its worker, its time, and how many slots it took."""

    worker: str
    started_at: datetime
    ended_at: datetime
    slots: int | None


WORDS = tuple(state.value for state in sorted(FINAL))
"""The final states as words."""


@dataclass
class DailyTotals:
    """Totals of some runs. Times are in milliseconds, from the first start to the end; None: no run has the value."""

    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORDS, 0))
    attempts: int = 0
    retries: int = 0
    ran: int = 0  # runs with at least one execution
    run_ms: int = 0
    shortest_ms: int | None = None
    longest_ms: int | None = None
    longest_run: int | None = None
    waited: int = 0  # runs that came from the queue
    wait_ms: int = 0
    late: int = 0
    latest_ms: int | None = None
    latest_run: int | None = None
    cpu_ms: int = 0
    peak_memory: int | None = None  # bytes

    def add(self, other: "DailyTotals") -> None:
        """Add the totals of ``other``."""
        for state, number in other.states.items():
            self.states[state] += number
        self.attempts += other.attempts  # written out, because a report adds hundreds of thousands
        self.retries += other.retries
        self.ran += other.ran
        self.run_ms += other.run_ms
        self.waited += other.waited
        self.wait_ms += other.wait_ms
        self.late += other.late
        self.cpu_ms += other.cpu_ms
        if other.shortest_ms is not None and (self.shortest_ms is None or other.shortest_ms < self.shortest_ms):
            self.shortest_ms = other.shortest_ms
        if other.longest_ms is not None and (self.longest_ms is None or other.longest_ms > self.longest_ms):
            self.longest_ms, self.longest_run = other.longest_ms, other.longest_run
        if other.latest_ms is not None and (self.latest_ms is None or other.latest_ms > self.latest_ms):
            self.latest_ms, self.latest_run = other.latest_ms, other.latest_run
        if other.peak_memory is not None:
            self.peak_memory = max(self.peak_memory or 0, other.peak_memory)


SUMS = ("attempts", "retries", "ran", "run_ms", "waited", "wait_ms", "late", "cpu_ms")


def of_run(row: EndedRun) -> DailyTotals:
    """Return the totals of one ended run."""
    found = DailyTotals(attempts=row.attempt, retries=row.failures)
    found.states[row.state] = 1
    if row.started_at is None:
        return found
    found.ran, found.run_ms = 1, _ms(row.ended_at - row.started_at)
    found.shortest_ms = found.longest_ms = found.run_ms
    found.longest_run = found.latest_run = row.id
    if row.queued_at is not None and row.started_at >= row.queued_at:
        found.waited, found.wait_ms = 1, _ms(row.started_at - row.queued_at)
    found.latest_ms = _ms(row.started_at - (_time_to_begin(row) or row.started_at))
    found.late = int(found.latest_ms > LATE)
    found.cpu_ms, found.peak_memory = round(1000 * (row.cpu_seconds or 0)), row.peak_memory
    return found


def _time_to_begin(row: EndedRun) -> datetime | None:
    """Return when the run should have begun. A retry overwrites ``ready_at``, so then only a due time is known.

    Runs of a backfill begin one after another, for times that have long passed.
    """
    if row.origin is not None and recovery.BACKFILL in json.loads(row.origin):
        return None
    return row.due_at or ((row.ready_at or row.created_at) if row.attempt <= 1 else None)


def _ms(span: timedelta) -> int:
    return 0 if span > LONGEST else max(0, span // timedelta(milliseconds=1))


def totals(rows: Iterable[EndedRun]) -> dict[tuple[date, str], DailyTotals]:
    """Return the totals of ended runs, by day and job."""
    found: dict[tuple[date, str], DailyTotals] = {}
    for row in rows:
        found.setdefault((row.ended_at.date(), row.job), DailyTotals()).add(of_run(row))
    return found


@dataclass
class Work:
    """The work of a worker on one day.

    ``busy_ms``: milliseconds of its executions, times the slots that each took.
    ``slot_ms``: milliseconds of its presence, times its slots.
    """

    attempts: int = 0
    busy_ms: int = 0
    slot_ms: int = 0

    def add(self, other: "Work") -> None:
        """Add the values of ``other``."""
        self.attempts += other.attempts
        self.busy_ms += other.busy_ms
        self.slot_ms += other.slot_ms


def work(rows: Iterable[Execution]) -> dict[tuple[date, str], Work]:
    """Return the work of ended executions, by day and worker."""
    found: dict[tuple[date, str], Work] = {}
    for row in rows:
        for day, milliseconds in shares(row.started_at, row.ended_at):
            found.setdefault((day, row.worker), Work()).busy_ms += (row.slots or 1) * milliseconds
        found[row.ended_at.date(), row.worker].attempts += 1
    return found


class Presence(NamedTuple):
    """The time during which a worker was present, and its number of slots."""

    name: str
    slots: int
    started_at: datetime
    ended_at: datetime


def presence(rows: Iterable[Presence]) -> dict[tuple[date, str], Work]:
    """Return the slot time of workers, by day and worker."""
    found: dict[tuple[date, str], Work] = {}
    for row in rows:
        for day, milliseconds in shares(row.started_at, row.ended_at):
            found.setdefault((day, row.name), Work()).slot_ms += row.slots * milliseconds
    return found


def shares(begin: datetime, end: datetime) -> Iterator[tuple[date, int]]:
    """Yield the milliseconds of a time span for each UTC day. Always includes the day on which the span ends.

    A span that ends before it begins, or lasts for more than ``LONGEST``, has no milliseconds: the clock was set
    meanwhile.
    """
    begin, end = (end if end < begin or end - begin > LONGEST else begin).astimezone(UTC), end.astimezone(UTC)
    while begin.date() < end.date():
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield begin.date(), _ms(midnight - begin)
        begin = midnight
    yield end.date(), _ms(end - begin)
