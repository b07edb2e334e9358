"""What a worker watches for: the files of schedules, and those for which steps of sequences wait."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.store import schedules, sequences
from jobfac.store.schedules import ArrivedFile, WatchedSchedule
from jobfac.store.schedules.arriving import FILES
from jobfac.store.sequences import WaitingVisit


class Taken(NamedTuple):
    """What became of files: the runs of those that need no more attention, how many are new, why others are refused."""

    handled: Mapping[str, int]
    number: int
    refusals: Sequence[str] = ()


class ScheduleTarget(NamedTuple):
    """The files of a schedule: each starts a run. ``pattern``, ``stable`` (seconds): as in its definition."""

    pattern: str
    stable: float
    schedule: WatchedSchedule

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"schedule {self.schedule.name} of {self.schedule.job}"

    def take(self, conn: sa.Connection, files: Sequence[ArrivedFile], by: str, at: datetime | None = None) -> Taken:
        """Store that these files, at most ``FILES``, have arrived; ``at``: see ``looked_at`` of ``start_arrived``."""
        done = schedules.start_arrived(conn, self.schedule, files, at)
        return Taken(done.handled, len(done.runs), [refusal.why for refusal in done.refusals])


class StepTarget(NamedTuple):
    """The file for which a step waits. ``pattern``, ``stable`` (seconds): as in its definition, filled in."""

    pattern: str
    stable: float
    visit: WaitingVisit

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"step {self.visit.step} of run {self.visit.run_id}"

    def take(self, conn: sa.Connection, files: Sequence[ArrivedFile], by: str, at: datetime | None = None) -> Taken:
        """Store that one of these files is there, so the sequence goes on."""
        first = min(file.path for file in files)
        is_new = sequences.found(conn, self.visit, f"{first} is there", by)
        if is_new is None:
            return Taken({}, 0)
        return Taken(dict.fromkeys((file.key for file in files), self.visit.run_id), int(is_new))


Target = ScheduleTarget | StepTarget


class Wanted(NamedTuple):
    """What the workers of some pools watch for. ``now``: the database's time."""

    targets: list[Target]
    now: datetime


def read_targets(conn: sa.Connection, pools: Collection[str]) -> Wanted:
    """Return what the workers of these pools watch for."""
    found: list[Target] = []
    for watch in schedules.watched(conn, pools):
        rule = watch.rule
        if rule is not None and rule.file is not None:
            found.append(ScheduleTarget(rule.file, rule.stable, watch))
    for visit in sequences.looked_for(conn, pools):
        wanted = visit.wanted
        found.append(StepTarget(wanted["file"], wanted["stable"], visit))
    return Wanted(found, current_time(conn))


__all__ = ["FILES", "ScheduleTarget", "Target", "Wanted", "read_targets"]
