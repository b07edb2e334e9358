"""Decide which due times of a schedule run now. Pure functions: the clock and the schedule's row are arguments."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from jobfac.definitions import DefinitionError, Schedule
from jobfac.recurrence import blackout_end, jitter, missed, next_due
from jobfac.recurrence.due import ON_TIME
from jobfac.store.runs import StartRequest

RUNS = 500
"""The maximum number of runs of one schedule in one transaction. The next transaction starts the others."""

TICK = timedelta(milliseconds=1)
"""The time resolution of the database."""

RETRY_AFTER = timedelta(minutes=1)
"""The delay until a schedule that is held, or that could not be used, is tried again."""

LOOKS_WITHIN = timedelta(seconds=10)
"""The time within which a scheduler has usually looked at a schedule that is due."""

UNUSABLE = (DefinitionError, ValueError, LookupError, ArithmeticError, OSError, ImportError)
"""Errors of a schedule, or of its job's definition, that cannot be used here, perhaps for a moment: a file of time
zones or holidays is just replaced."""

AHEAD = 600_000
"""By how many milliseconds a due time is ahead if the clock must have been set back. Those of files lie close together
and may be some milliseconds ahead."""


class ScheduleRow(NamedTuple):
    """A row of a due schedule. ``definition`` is the text of ``write``; ``now`` is the database's time."""

    id: int
    job: str
    name: str
    definition: str
    next_due_at: datetime
    last_due_at: datetime | None
    resumed_at: datetime | None
    now: datetime


class ScheduleKey(Protocol):
    """What identifies a schedule."""

    @property
    def id(self) -> int:
        """The id of its row."""

    @property
    def job(self) -> str:
        """The job's id."""

    @property
    def name(self) -> str:
        """Its name within the job."""


class Decision(NamedTuple):
    """A decision about a due schedule.

    ``times``: due times that run now. ``missed``: due times from the first instant to before the second one do not run.
    ``held_at``: a hold covered the job at this time, so the due times up to it are missed, as in a pause.
    """

    times: list[datetime]
    next_due_at: datetime | None
    fire_at: datetime | None
    missed: tuple[datetime, datetime] | None = None
    held_at: datetime | None = None


def decide(schedule: Schedule, row: ScheduleRow) -> Decision:
    """Decide which due times run now, and when the schedule is due next. ``schedule``: the row's definition."""
    due, now = row.next_due_at, row.now
    if held_until := blackout_end(schedule.blackout, schedule.zone, now):
        return Decision([], due, held_until)
    after = due - TICK if row.last_due_at is None else max(due - TICK, row.last_due_at)
    times = missed(schedule, after, now, _grace(schedule, row.resumed_at, now))
    first = times[0] if times else now
    # Keep the order: a due time with a short jitter must not start before the previous one.
    ready = list(takewhile(lambda time: fire_time(schedule, row.id, time) <= now, times))[:RUNS]
    following = times[len(ready)] if len(ready) < len(times) else next_due(schedule, max(now, after))
    return Decision(
        times=ready,
        next_due_at=following,
        fire_at=None if following is None else fire_time(schedule, row.id, following),
        missed=(due, first) if first - due >= TICK and due > after else None,
    )


def come_again(schedule: Schedule, row: ScheduleRow, was_set_back: bool) -> Decision | None:
    """Return the next due time of a schedule if it comes before the stored one, or in its place; None: it stays.

    If the clock was set back, the schedule moved on to a time that is far away now. Due times before it that have a run
    get no other one. Otherwise newer data on time zones or holidays name an earlier time, or no longer the stored one.
    One that is closer to the last due time than to the stored one stands for that last one, which had its run.
    """
    if not schedule.enabled or not schedule.is_calendar:
        return None
    due, stored = next_due(schedule, row.now), row.next_due_at
    is_gone = not was_set_back and stored is not None and stored > row.now and not _is_due(schedule, stored)
    had_run = False
    if due is not None and not was_set_back and stored and row.last_due_at:
        had_run = due - row.last_due_at < stored - due
    if is_gone:
        due = next_due(schedule, due) if had_run and due is not None else due
        return Decision([], due, None if due is None else fire_time(schedule, row.id, due))
    if had_run or due is None or (stored is not None and stored <= due):
        return None
    return Decision([], due, fire_time(schedule, row.id, due))


def _is_due(schedule: Schedule, stored: datetime) -> bool:
    due = next_due(schedule, stored - TICK)
    return due is not None and due - stored < TICK


def fire_again(schedule: Schedule, row: ScheduleRow, fire_at: datetime | None) -> datetime | None:
    """Return when a schedule fires whose next due time stays as it is.

    That is later than its due time says only because of a hold or a blackout. If it is further away than either
    explains, it was put off while the clock was ahead.
    """
    if fire_at is None or row.next_due_at is None or not schedule.is_calendar:
        return fire_at
    due = fire_time(schedule, row.id, row.next_due_at)
    held_until = blackout_end(schedule.blackout, schedule.zone, row.now) or row.now
    return due if fire_at > max(due, held_until, row.now + RETRY_AFTER) else fire_at


def postpone(row: ScheduleRow, until: datetime | None) -> Decision:
    """Postpone a due schedule whose job is held until ``until`` (None: until a release).

    After the hold its due times are missed, and the schedule's ``missed`` decides which of them run.
    """
    later = row.now + RETRY_AFTER
    return Decision([], row.next_due_at, later if until is None else min(later, until), held_at=row.now)


def _grace(schedule: Schedule, resumed_at: datetime | None, now: datetime) -> timedelta:
    """Return how late a due time may be and still be on time. A due time during a pause is always missed."""
    grace = ON_TIME + timedelta(seconds=schedule.jitter)
    return grace if resumed_at is None else min(grace, max(now - resumed_at, timedelta()))


def fire_time(schedule: Schedule, schedule_id: int, due: datetime) -> datetime:
    """Return when a due time fires: the due time plus its jitter, or without it if it would lead into a blackout.

    That holds shortly before a blackout, too: a scheduler that looks a moment later would find it has begun.
    """
    if not schedule.jitter:
        return due
    later = due + timedelta(seconds=jitter(schedule_id, due, schedule.jitter))
    is_held = any(blackout_end(schedule.blackout, schedule.zone, at) for at in (later, later + LOOKS_WITHIN))
    return due if is_held else later


def request(
    schedule: Schedule, row: ScheduleKey, due: datetime, origin: Mapping[str, Any] | None = None
) -> StartRequest:
    """Return the start request of a due time.

    ``origin``: what caused the run, if not the clock, with its time.
    """
    if origin is None and schedule.timezone != "UTC":
        origin = {"due": due.astimezone(schedule.zone).isoformat()}
    overrides: dict[str, Any] = {}
    arguments = schedule.arguments
    if isinstance(arguments, dict):  # a sequence's
        overrides["arguments"], arguments = arguments, None
    if schedule.payloads:
        overrides["payloads"] = schedule.payloads
    return StartRequest(
        job=row.job,
        by=f"schedule {row.name}",
        arguments=arguments,
        payload=schedule.payload,
        overrides=overrides or None,
        parameters=schedule.parameters or None,
        origin=origin,
        is_template=True,
        manual=False,
        schedule_id=row.id,
        due_at=due,
    )


def write(schedule: Schedule) -> str:
    """Return the rule in its canonical stored form, without its name, which has its own column."""
    return json.dumps(schedule.model_dump(mode="json", exclude_defaults=True, exclude={"name"}), ensure_ascii=False)


@lru_cache(maxsize=4096)
def read(text: str) -> Schedule:
    """Parse a rule that ``write`` produced."""
    return Schedule.model_validate(json.loads(text))
