"""What becomes of a schedule whose time has come. Pure: the clock and the schedule's row come in as arguments."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

from jobfac.definitions import Schedule
from jobfac.recurrence import blackout_end, jitter, missed, next_due
from jobfac.recurrence.due import ON_TIME
from jobfac.store.runs import StartRequest

RUNS = 500
"""Runs of one schedule in one transaction at most; the others come in the next."""

TICK = timedelta(milliseconds=1)
"""The database's resolution."""


class Decision(NamedTuple):
    """``times`` are to be run now. ``missed``: due times from the first instant to before the second one are not."""

    times: list[datetime]
    next_due_at: datetime | None
    fire_at: datetime | None
    missed: tuple[datetime, datetime] | None = None


def decide(schedule: Schedule, row: Mapping[Any, Any], now: datetime) -> Decision:
    """What is to be run at ``now``, and when to look again.

    Args:
        row: the schedule's ``id``, ``next_due_at``, ``last_due_at`` and ``resumed_at``.
    """
    due = row["next_due_at"]
    if held_until := blackout_end(schedule.blackout, schedule.zone, now):
        return Decision([], due, held_until)
    after = due - TICK if row["last_due_at"] is None else max(due - TICK, row["last_due_at"])
    times = missed(schedule, after, now, _grace(schedule, row["resumed_at"], now))
    first = times[0] if times else now
    # In order: a time whose jitter is short does not overtake the one before it.
    ready = list(takewhile(lambda time: fire_time(schedule, row["id"], time) <= now, times))[:RUNS]
    following = times[len(ready)] if len(ready) < len(times) else next_due(schedule, max(now, after))
    return Decision(
        times=ready,
        next_due_at=following,
        fire_at=None if following is None else fire_time(schedule, row["id"], following),
        missed=(due, first) if first - due >= TICK and due > after else None,
    )


def _grace(schedule: Schedule, resumed_at: datetime | None, now: datetime) -> timedelta:
    """How far back a due time is on time. What passed in a pause is missed, however short the pause was."""
    grace = ON_TIME + timedelta(seconds=schedule.jitter)
    return grace if resumed_at is None else min(grace, max(now - resumed_at, timedelta()))


def fire_time(schedule: Schedule, schedule_id: int, due: datetime) -> datetime:
    """When a due time is run: later by its jitter, unless that would move it into a blackout."""
    if not schedule.jitter:
        return due
    later = due + timedelta(seconds=jitter(schedule_id, due, schedule.jitter))
    return due if blackout_end(schedule.blackout, schedule.zone, later) else later


def request(schedule: Schedule, row: Mapping[Any, Any], due: datetime) -> StartRequest:
    """The start that a due time asks for. ``row``: the schedule's ``id``, ``job`` and ``name``."""
    overrides: dict[str, Any] = {}
    arguments = schedule.arguments
    if isinstance(arguments, dict):  # a sequence's
        overrides["arguments"], arguments = arguments, None
    if schedule.payloads:
        overrides["payloads"] = schedule.payloads
    return StartRequest(
        job=row["job"],
        by=f"schedule {row['name']}",
        arguments=arguments,
        payload=schedule.payload,
        overrides=overrides or None,
        manual=False,
        schedule_id=row["id"],
        due_at=due,
    )


def write(schedule: Schedule) -> str:
    """The rule as it is stored, in a canonical form; its name is a column of its own."""
    return json.dumps(schedule.model_dump(mode="json", exclude_defaults=True, exclude={"name"}), ensure_ascii=False)


@lru_cache(maxsize=4096)
def read(text: str) -> Schedule:
    """The rule that ``write`` wrote."""
    return Schedule.model_validate(json.loads(text))
