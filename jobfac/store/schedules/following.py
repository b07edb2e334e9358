"""Start the jobs that run after others: each recorded end becomes one run, or all of several ends become one."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run, schedule, upstream, upstream_end
from jobfac.definitions import DefinitionError, Schedule
from jobfac.store import audit, jobs, outbox, runs
from jobfac.store import upstream as ends_of
from jobfac.store.holds import reading
from jobfac.store.runs import StartRequest
from jobfac.store.schedules.decision import TICK, UNUSABLE, ScheduleRow, read, request
from jobfac.store.schedules.inserting import (
    FREE_ROWS,
    Inserted,
    Miss,
    Refusal,
    last_due,
    locked_jobs,
    missed_event,
    record_refused,
)
from jobfac.store.upstream import End

SCHEDULES = 50
"""The maximum number of schedules in one transaction."""

ENDS = 500
"""The maximum number of ends of one schedule in one transaction. The next transaction handles the others."""

STARTS = 750
"""The maximum number of runs that one transaction starts."""

OUTPUTS = 64 * 1024
"""The maximum length of the outputs of an upstream run that its followers may refer to, in characters."""


class Decision(NamedTuple):
    """A decision about recorded ends.

    ``starts``: for each run to start, the ends that cause it, the last one last. ``used``: the ends that are done.
    ``missed``: ends that start nothing, because they are too old or the schedule was paused. ``catches_up``: several
    runs start, some of them for missed ends. ``drops_later``: later ends are missed and start nothing, either.
    """

    starts: list[list[End]]
    used: list[End]
    missed: list[End]
    catches_up: bool = False
    drops_later: bool = False


class Later(NamedTuple):
    """The number of ends that come after the ones that were read, and that the next transactions handle.

    ``ends``: the number of all of them with ``all``, else of the missed ones. ``caught_up``: how many of the missed
    ones may start runs.
    """

    ends: int
    caught_up: int


NONE = Later(0, 0)


def decide(
    rule: Schedule, ends: Sequence[End], now: datetime, resumed_at: datetime | None, later: Later = NONE
) -> Decision:
    """Decide what these ends (oldest first) start. A pure function. Several calls for many ends decide as one would.

    Without ``all`` each end starts a run. With ``all`` one run starts as soon as each job has ended since the last
    start; further ends of a job until then count as one.
    """
    assert rule.after is not None
    if rule.after.all is not None:
        latest = {end.job: end for end in ends}
        superseded = [end for end in ends if latest[end.job] != end]
        if later.ends and superseded:
            return Decision([], superseded, [])
        was_paused = resumed_at is not None and ends[-1].ended_at < resumed_at
        return _decide_all(rule, ends, is_dropped=was_paused and not _catches_up(rule, ends[-1], now))
    before = _missed_before(rule, now, resumed_at)
    missed = [end for end in ends if before is not None and end.ended_at < before]
    most = most_again(rule)
    number = min(len([end for end in missed if _catches_up(rule, end, now)]), max(0, most - later.caught_up))
    dropped = missed[: len(missed) - number]
    starts = [[end] for end in ends[len(dropped) :]]
    catches_up = rule.missed.policy == "all" and number > 0 and len(starts) + later.ends > 1
    return Decision(starts, list(ends), dropped, catches_up, later.ends > min(later.caught_up, most))


def _missed_before(rule: Schedule, now: datetime, resumed_at: datetime | None) -> datetime | None:
    """Return the time before which ends are missed: in a pause, or too old; None: there is none."""
    oldest = None if rule.within is None else now - timedelta(seconds=rule.within)
    return max((time for time in (resumed_at, oldest) if time is not None), default=None)


def most_again(rule: Schedule) -> int:
    """Return how many runs ``missed`` may start at once."""
    return {"skip": 0, "once": 1}.get(rule.missed.policy, rule.missed.maximum)


def _catches_up(rule: Schedule, end: End, now: datetime) -> bool:
    """Whether ``missed`` lets a missed end start a run."""
    window = rule.missed.window
    return rule.missed.policy != "skip" and (window is None or now - end.ended_at <= timedelta(seconds=window))


def _decide_all(rule: Schedule, ends: Sequence[End], *, is_dropped: bool) -> Decision:
    """Do the same for ``all``. ``is_dropped``: the last end, and so the start that it would cause, was missed."""
    assert rule.after is not None
    newest = ends[-1].ended_at
    span = None if rule.within is None else timedelta(seconds=rule.within)
    old = [end for end in ends if span is not None and newest - end.ended_at > span]
    current = [end for end in ends if end not in old]
    latest = {end.job: end for end in current}
    if set(latest) < {one.job for one in rule.after.upstream}:
        superseded = [end for end in current if latest[end.job] != end]
        return Decision([], [*old, *superseded], old)
    if is_dropped:
        return Decision([], list(ends), list(ends))
    causes = sorted(latest.values(), key=lambda end: (end.ended_at, end.run_id))
    return Decision([causes], list(ends), old)


_one, _other = upstream_end.alias("one"), upstream_end.alias("other")
_IS_SUPERSEDED = sa.exists(
    sa.select(_one.c.run_id)
    .join(_other, (_other.c.schedule_id == _one.c.schedule_id) & (_other.c.job == _one.c.job))
    .with_hint(_one, PASS, "mssql")
    .with_hint(_other, PASS, "mssql")
    .where(_one.c.schedule_id == schedule.c.id, _other.c.run_id > _one.c.run_id)
)
"""Condition on a schedule: a job has ended more than once."""

_LACKS_ONE = sa.exists(
    sa.select(upstream.c.job)
    .with_hint(upstream, PASS, "mssql")
    .where(upstream.c.schedule_id == schedule.c.id)
    .where(
        ~sa.exists(
            sa.select(_other.c.run_id)
            .with_hint(_other, PASS, "mssql")
            .where(_other.c.schedule_id == upstream.c.schedule_id, _other.c.job == upstream.c.job)
        )
    )
)
_WAITS_FOR_ONE = sa.text("""definition NOT LIKE '{"after": {"all": %'""")
"""Condition on a schedule: its form is not ``after: {all: ...}``, with which ``decision.write`` begins."""

WAITING = (
    # From the recorded ends to their schedules: there are none, most of the time.
    sa.select(schedule.c.id)
    .with_hint(schedule, PASS, "mssql")
    .where(schedule.c.id.in_(sa.select(upstream_end.c.schedule_id).with_hint(upstream_end, PASS, "mssql")))
    .where(sa.text("paused = 0"), sa.or_(_WAITS_FOR_ONE, _IS_SUPERSEDED, ~_LACKS_ONE))
)
"""Schedules with recorded ends that are to be handled. One with ``all`` that waits for other jobs is not among them:
any number of such schedules must not stand before the others."""

_JOBS = (
    sa.select(schedule.c.id, schedule.c.job, schedule.c.name, schedule.c.definition)
    .with_hint(schedule, PASS, "mssql")
    .order_by(schedule.c.id)
)


def insert_followers(conn: sa.Connection, by: str) -> Inserted:
    """Start what the recorded ends cause, for up to ``SCHEDULES`` schedules. Safe to repeat.

    Hardly waits for a job whose named lock another transaction holds, but leaves it to a later call.
    """
    # Named locks come before row locks, so read without locks first.
    waiting: Sequence[Any] = []
    unusable: dict[int, Refusal] = {}

    def read_jobs(without: Collection[str]) -> list[str]:
        nonlocal waiting
        query = WAITING.where(~lists.among(schedule.c.job, without)) if without else WAITING
        while True:
            others = query.where(schedule.c.id.not_in(sa.select(lists.ids().c.value))) if unusable else query
            given = {"ids": lists.as_list(unusable)} if unusable else {}
            ids = conn.execute(others.order_by(schedule.c.id).limit(SCHEDULES), given).scalars().all()
            found = conn.execute(_JOBS.where(lists.by_id(schedule.c.id, ids))).all() if ids else []
            fresh = _unusable(conn, found)
            unusable.update(fresh)
            waiting = [one for one in found if one.id not in fresh]
            if not fresh or len(ids) < SCHEDULES:
                return [one.job for one in waiting]

    free = locks.first_free(read_jobs, SCHEDULES, partial(locked_jobs, conn))
    done = Inserted(0, [], [*unusable.values()], [], free.locked)
    for one in waiting:
        if one.job in free.locked:
            continue
        # Another scheduler that holds the row is just handling it.
        found = conn.execute(FREE_ROWS.where(schedule.c.id == one.id, sa.text("paused = 0"))).first()
        if found is None:
            continue
        pending = ends_of.pending(conn, found.id, ENDS)
        tried = len(done.runs) + len(done.refusals) - len(unusable)
        if tried and tried + len(pending.ends) > STARTS:
            continue  # a later call handles it; those with few ends need not wait for those with many
        ends_of.done(conn, found.id, pending.stale)
        if pending.ends:
            done = _merged(done, _follow(conn, by, ScheduleRow(*found), pending))
    return done


def _unusable(conn: sa.Connection, found: Sequence[Any]) -> dict[int, Refusal]:
    """Return which of these schedules cannot be used here, by id. A newer jobfac stored them, or a file that they need
    is just replaced: another scheduler handles their ends, or this one later. They must not stand before the others."""
    stored = jobs.load_many(conn, {one.job for one in found}, True) if found else {}
    why: dict[int, Refusal] = {}
    for one in found:
        try:
            if isinstance(unreadable := stored.get(one.job), DefinitionError):
                raise unreadable
            read(one.definition)
        except UNUSABLE as error:
            why[one.id] = Refusal(one.job, one.name, None, f"the schedule cannot be used: {error}")
    return why


def _merged(one: Inserted, other: Inserted) -> Inserted:
    return Inserted(
        one.schedules + other.schedules,
        one.runs + other.runs,
        one.refusals + other.refusals,
        one.misses + other.misses,
        one.locked,
    )


def _later(conn: sa.Connection, rule: Schedule, row: ScheduleRow, pending: ends_of.Pending) -> Later:
    if not pending.more:
        return NONE
    assert rule.after is not None
    last = pending.ends[-1]
    if rule.after.all is not None:
        return Later(ends_of.number_after(conn, last), 0)
    before = _missed_before(rule, row.now, row.resumed_at)
    if before is None or last.ended_at >= before:
        return NONE
    missed = ends_of.number_after(conn, last, before)
    if rule.missed.window is None:
        return Later(missed, missed)
    oldest = row.now - timedelta(seconds=rule.missed.window)
    return Later(missed, ends_of.number_after(conn, last, before, oldest))


def _follow(conn: sa.Connection, by: str, row: ScheduleRow, pending: ends_of.Pending) -> Inserted:
    rule = read(row.definition)
    decision = decide(rule, pending.ends, row.now, row.resumed_at, _later(conn, rule, row, pending))
    if not decision.used:
        return Inserted(0, [], [], [])
    requests, last = _requests(conn, rule, row, decision)
    answers = runs.start_each(conn, requests)
    ends_of.done(conn, row.id, [end.run_id for end in decision.used])
    if last is not None:
        conn.execute(schedule.update().where(schedule.c.id == row.id).values(last_due_at=last))
    misses = [Miss(row.job, row.name, end.ended_at, end.ended_at + TICK) for end in decision.missed[-1:]]
    for miss in misses:
        text = f"{len(decision.missed)} ends of other jobs, the last one at {miss.since.isoformat()}"
        audit.note(conn, by, "missed", f"{miss.job}/{miss.name}", after=text)
    misses = [] if decision.drops_later else misses  # the event comes once, with the last of them
    outbox.record(conn, map(missed_event, misses))
    refusals = [
        Refusal(row.job, row.name, request.due_at, str(answer))
        for request, answer in zip(requests, answers, strict=True)
        if isinstance(answer, Exception)
    ]
    record_refused(conn, refusals, by)
    return Inserted(1, [answer for answer in answers if isinstance(answer, int)], refusals, misses)


def _requests(
    conn: sa.Connection, rule: Schedule, row: ScheduleRow, decision: Decision
) -> tuple[list[StartRequest], datetime | None]:
    """Return the start requests, and the time of the last one. Each has a time of its own, as an index demands."""
    found = _outputs(conn, [causes[-1].run_id for causes in decision.starts])
    queues = decision.catches_up or bool(reading.over_jobs(conn, {row.job}))
    requests: list[StartRequest] = []
    due = last_due(conn, row)
    for causes in decision.starts:
        last = causes[-1]
        due = last.ended_at if due is None else max(last.ended_at, due + TICK)
        origin: dict[str, Any] = {
            "due": due.astimezone(rule.zone).isoformat(),
            "run": {"id": last.run_id, "job": last.job, "state": last.state, "outputs": found.get(last.run_id, {})},
        }
        if len(causes) > 1:
            origin["runs"] = [{"id": end.run_id, "job": end.job, "state": end.state} for end in causes]
        requests.append(replace(request(rule, row, due, origin), queues=queues))
    return requests, due


def _outputs(conn: sa.Connection, run_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the outputs of runs. Very long ones are left out, because every follower would store them."""
    found: dict[int, dict[str, Any]] = {}
    for at in range(0, len(run_ids), ENDS):
        query = sa.select(run.c.id, run.c.outputs).where(lists.by_id(run.c.id, run_ids[at : at + ENDS]))
        for row in conn.execute(query.where(run.c.outputs.is_not(None))):
            if len(row.outputs) <= OUTPUTS:
                found[row.id] = json.loads(row.outputs)
    return found
