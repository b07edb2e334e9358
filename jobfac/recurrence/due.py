"""When a schedule is due: its rule within its start and end, held back by its blackouts."""

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
    """The first time (UTC) later than `after` (aware) at which the schedule is due; None if there is none.

    Times that fall into a blackout are due once, together, at its end. Jitter is not included.
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
    """The due times (UTC) later than `after`, up to and including `until`."""
    due = next_due(schedule, after)
    while due is not None and due <= until:
        yield due
        due = next_due(schedule, due)


def missed(schedule: Schedule, last: datetime, now: datetime, on_time: timedelta = ON_TIME) -> list[datetime]:
    """The due times later than `last`, up to and including `now`, that must run now, in order.

    Those of the last `on_time` are not missed and always run. Of the earlier ones the policy chooses: none, the latest
    (only if nothing is on time, as that run makes up for it), or all within the window, the latest `maximum` of them.
    """
    policy = schedule.missed
    punctual = list(due_times(schedule, max(last, now - on_time), now))
    if policy.policy == "skip" or (policy.policy == "once" and punctual):
        return punctual
    earliest = max(last, now - timedelta(seconds=policy.window)) if policy.window is not None else last
    wanted = 1 if policy.policy == "once" else policy.maximum
    return _latest(schedule, earliest, now - on_time, wanted) + punctual


def jitter(schedule_id: int, due: datetime, limit: float) -> float:
    """The delay of this due time in seconds, from 0 to `limit`: the same on every scheduler."""
    key = f"{schedule_id} {due.astimezone(UTC).isoformat()}".encode()
    return limit * int.from_bytes(hashlib.blake2b(key, digest_size=6).digest()) / 2**48


def _latest(schedule: Schedule, after: datetime, until: datetime, wanted: int) -> list[datetime]:
    """The latest `wanted` due times later than `after`, up to and including `until`."""
    # Search backwards in growing steps, so that a long absence of a dense schedule costs little.
    span = timedelta(hours=1)
    found: list[datetime] = []
    while len(found) < wanted and until > after:
        start = max(after, until - span)
        found = list(due_times(schedule, start, until))[-wanted:] + found
        until, span = start, span * 4
    return found[-wanted:]
