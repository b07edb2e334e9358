"""The due times of a schedule: the times of its rule, limited by its start and end, and delayed by its blackouts."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from jobfac.definitions.schedule import Schedule
from jobfac.recurrence.blackout import FOREVER, blackout_end, blackout_start
from jobfac.recurrence.rule import rule_of

TICK = timedelta(microseconds=1)
ON_TIME = timedelta(seconds=60)
"""How late a due time may be detected before it counts as missed."""


def next_due(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first due time (UTC) later than `after` (aware), or None if there is none.

    All times in one blackout become a single due time at its end. Jitter is not included.
    """
    rule, windows = rule_of(schedule), schedule.blackout
    if windows and (held_since := blackout_start(windows, rule.zone, after)):
        after = held_since - TICK
    starts, ends = schedule.first_instant, schedule.last_instant
    if starts:
        after = max(after, starts - TICK)
    due = rule.next_time(after.astimezone(UTC))
    if due is None or (ends and due > ends):
        return None
    if windows:
        due = blackout_end(windows, rule.zone, due) or due
    return None if due == FOREVER or (ends and due > ends) else due


def due_times(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the due times (UTC) later than `after`, up to and including `until`."""
    due = next_due(schedule, after)
    while due is not None and due <= until:
        yield due
        due = next_due(schedule, due)


def last_due(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """Return the last due time (UTC) later than `after`, up to and including `until`; None: there is none."""
    return next(iter(_latest(schedule, after, until, 1)), None)


def missed(schedule: Schedule, last: datetime, now: datetime, on_time: timedelta = ON_TIME) -> list[datetime]:
    """Return the due times later than `last`, up to and including `now`, that must run now, in order.

    Due times of the last `on_time` are not missed and always run. The policy `missed` selects among the earlier ones:
    none, the latest one (only if no due time is on time), or the latest `maximum` ones within the window.
    """
    policy = schedule.missed
    punctual = list(due_times(schedule, max(last, now - on_time), now))
    if policy.policy == "skip" or (policy.policy == "once" and punctual):
        return punctual
    earliest = max(last, now - timedelta(seconds=policy.window)) if policy.window is not None else last
    count = 1 if policy.policy == "once" else policy.maximum
    return _latest(schedule, earliest, now - on_time, count) + punctual


def jitter(schedule_id: int, due: datetime, limit: float) -> float:
    """Return the delay of this due time in seconds, from 0 to `limit`. Every scheduler computes the same delay."""
    key = f"{schedule_id} {due.astimezone(UTC).isoformat()}".encode()
    return limit * int.from_bytes(hashlib.blake2b(key, digest_size=6).digest()) / 2**48


def _latest(schedule: Schedule, after: datetime, until: datetime, count: int) -> list[datetime]:
    """Return the latest `count` due times later than `after`, up to and including `until`."""
    # Search backwards in growing steps, so that a long outage costs little even if the schedule is dense.
    span = timedelta(hours=1)
    found: list[datetime] = []
    while len(found) < count and until > after:
        start = max(after, until - span)
        found = list(due_times(schedule, start, until))[-count:] + found
        until, span = start, span * 4
    return found[-count:]
