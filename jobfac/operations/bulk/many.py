"""Retry, stop and acknowledge many runs: those that a filter finds, each in a transaction of its own."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from jobfac.database.engine import Database
from jobfac.errors import Forbidden, Locked, NotFound, Refused
from jobfac.operations import notes, starting, stopping
from jobfac.operations.caller import Caller
from jobfac.states import ACTIVE, FAILURES, FINAL, TO_ACKNOWLEDGE, RunState, Stop
from jobfac.store.history import retries
from jobfac.store.history.search import Filter, Found, of_ids, search
from jobfac.views.results.many import ManyView, Result
from jobfac.views.runs import RunView

RETRIED = frozenset({*FAILURES, RunState.MIXED}) - {RunState.DENIED}
"""The states that a filter without states means, for a retry."""


ENDING = "it is being stopped"
"""The reason of a run that has been asked to stop and has not ended."""

IS_LOCKED = "an open transaction of the database holds a lock that this needs; try again"
"""The reason of a run that was left as it is, because a lock was not free in time."""

NOT_TRIED = "it was not tried, because open transactions of the database have locked too many others; try again"
"""The reason of a run behind ``MOST_WAITS`` others whose locks were not free in time."""

MOST_WAITS = 5
"""How many locks that are not free in time a call waits for. Then it tries no more: that could take hours."""

AT_A_STRETCH = 0.5
"""Seconds of work after which other writers get their turn."""


def choose(db: Database, by: Caller, wanted: Filter, limit: int, states: frozenset[RunState]) -> Found:
    """Return the runs that match a filter, newest first. Changes nothing, so it may be repeated.

    Args:
        states: those of which the operation may be; a filter without states means all of them.

    Raises:
        Refused: the filter says nothing but states, or a state that the operation cannot be of.
    """
    if not any(wanted._replace(states=(), unacknowledged=False, below=None, categories=None)):
        raise Refused("Select runs: give a job, a category, a worker, a time, a sequence, a key or a text.")
    if wrong := sorted(set(wanted.states) - states):
        raise Refused(f"This cannot be done to a run that is {wrong[0]}; it can to one that is {_either(states)}.")
    wanted = wanted._replace(states=wanted.states or sorted(RETRIED & states or states), categories=by.categories)
    return db.query(search, wanted, limit, retry_for=by.retry_for)


def choose_all(db: Database, by: Caller, wanted: Filter, limit: int, states: frozenset[RunState]) -> list[RunView]:
    """Return up to ``limit`` runs as ``choose`` does, page by page. Changes nothing, so it may be repeated."""
    runs: list[RunView] = []
    below = wanted.below
    while len(runs) < limit:
        found = choose(db, by, wanted._replace(below=below), limit - len(runs), states)
        runs += found.runs
        if (below := found.below) is None:
            break
    return runs


def _either(states: frozenset[RunState]) -> str:
    *some, last = sorted(states)
    return f"{', '.join(some)} or {last}"


def find(db: Database, by: Caller, run_ids: Sequence[int]) -> list[RunView]:
    """Return those of these runs that the caller may see. Changes nothing, so it may be repeated."""
    return db.query(of_ids, run_ids, by.categories, retry_for=by.retry_for)


def retry(
    db: Database, by: Caller, chosen: Sequence[RunView], *, dry_run: bool = False, wanted: Filter | None = None
) -> list[ManyView]:
    """Retry runs, oldest first, each at most once. Returns one line for each run.

    May be repeated: a run that was retried before, by this operation or by hand, is skipped. So is one that repeats the
    same as a retry that has not ended. The runs of a sequence's jobs are skipped, because a retry of the sequence
    starts them, unless the filter or all of the runs are of one sequence. Of these, what the sequence itself has
    repeated is skipped.

    Args:
        wanted: the filter that has chosen the runs, which may be one page of many; None: they were named.
    """
    if not chosen:
        return []
    newest = db.query(retries.newest, retry_for=by.retry_for)
    former = db.query(retries.of_runs, min(run.id for run in chosen), retry_for=by.retry_for)
    inside = {run.sequence_run_id for run in chosen} if wanted is None else {wanted.sequence_run_id}
    ids, jobs = {run.id for run in chosen}, {run.job for run in chosen}
    firsts, active = db.query(retries.chains, ids, jobs, retry_for=by.retry_for)
    taken = {first: f"run {one.id} repeats the same and is {one.state}" for first, one in active.items()}
    looped = {} if inside == {None} else db.query(retries.in_loops, ids, retry_for=by.retry_for)
    lines, waits = [], _Waits()
    for run in _with_pauses(db, sorted(chosen, key=lambda run: run.id)):
        # Many retries take minutes, and somebody may retry one of the runs meanwhile.
        if late := db.query(retries.since, run.job, run.id, newest, retry_for=by.retry_for):
            former = {**former, run.id: late}
        reason = _why_not(run, former, inside) or taken.get(firsts[run.id])
        if reason is None and run.id in looped:
            reason = f"its sequence repeated it as run {looped[run.id]}"
        has_others = run.retry_of is not None or run.sequence_run_id is not None
        if reason is None and dry_run and has_others:  # otherwise the retry itself looks
            same = db.query(retries.same, run.id, retry_for=by.retry_for)
            other = db.query(retries.succeeded, run.job, run.id, same, retry_for=by.retry_for)
            reason = None if other is None else f"it was retried as run {other}"
        if reason is not None:
            lines.append(_line(run, Result.SKIPPED, reason))
            continue
        done = partial(_line, run, Result.CHOSEN) if dry_run else partial(_retried, db, by, run, former, newest)
        lines.append(waits.line(run, done))
        if lines[-1].result in (Result.CHOSEN, Result.DONE):
            taken[firsts[run.id]] = f"run {lines[-1].new_run or run.id} repeats the same"
    return lines


def _why_not(run: RunView, former: Mapping[int, retries.Retry], inside: Collection[int | None]) -> str | None:
    if run.state not in FINAL:
        return f"it is {run.state}"
    if run.id in former and former[run.id].counts:
        return f"it was retried as run {former[run.id].id}"
    if run.sequence_run_id is not None and inside != {run.sequence_run_id}:
        return f"it belongs to the sequence run {run.sequence_run_id}; retry that"
    return None


def _retried(db: Database, by: Caller, run: RunView, former: Mapping[int, retries.Retry], newest: int) -> ManyView:
    # The key makes a second call find the run of the first one. After a retry that never began it is another key.
    key = f"many {former[run.id].id}" if run.id in former else "many"
    try:
        new = starting.retry(db, by, run.id, key=key, once_after=newest)
    except starting.AlreadyRetried as error:
        return _line(run, Result.SKIPPED, f"it was retried as run {error.new_run}")
    except (Forbidden, NotFound, Refused) as error:
        return _line(run, Result.REFUSED, error.fact)
    if new.state == RunState.DENIED:
        return _line(run, Result.REFUSED, new.reason, new.id)
    return _line(run, Result.DONE, new_run=new.id)


def stop(
    db: Database,
    by: Caller,
    chosen: Sequence[RunView],
    *,
    now: bool = False,
    dry_run: bool = False,
    wanted: Filter | None = None,
) -> list[ManyView]:
    """Stop runs, each at most once. Returns one line for each run.

    They are stopped in ``stop_order``. May be repeated: a run that has ended, or that is being stopped as it is to be,
    is skipped.

    Args:
        wanted: the filter that has chosen the runs, which may be one page of many; None: they were named. If the
            sequence of a run matches it, too, and is not among the runs, it is stopped in place of the run. Otherwise
            it would go on, as after a failure, until its own page comes.
    """
    lines, waits = [], _Waits()
    within = {} if wanted is None else _sequences_elsewhere(db, by, chosen, wanted)
    chosen = [*chosen, *find(db, by, sorted(set(within.values())))] if within else chosen
    for run in _with_pauses(db, sorted(chosen, key=lambda run: _line(run, Result.CHOSEN).stop_order)):
        if run.state not in ACTIVE:
            lines.append(_line(run, Result.SKIPPED, f"it had ended: {run.state}"))
        elif run.id in within:
            lines.append(_line(run, Result.SKIPPED, f"it is left to the sequence run {within[run.id]}"))
        elif dry_run:
            lines.append(_line(run, Result.CHOSEN))
        else:
            lines.append(waits.line(run, partial(_stopped, db, by, run, now)))
    return lines


def _sequences_elsewhere(db: Database, by: Caller, chosen: Sequence[RunView], wanted: Filter) -> dict[int, int]:
    """Return by run the sequence run around it that matches the filter and is not among the chosen runs."""
    ids = {run.id for run in chosen}
    around = {run.id: run.sequence_run_id for run in chosen}
    while missing := {one for one in around.values() if one is not None} - around.keys():
        around |= dict.fromkeys(missing) | {run.id: run.sequence_run_id for run in find(db, by, sorted(missing))}
    others = sorted(around.keys() - ids)
    if not others:
        return {}
    matching = {run.id for run in choose(db, by, wanted._replace(among=others, below=None), len(others), ACTIVE).runs}
    within: dict[int, int] = {}
    for run in chosen:
        one = run.sequence_run_id
        while one is not None:
            if one in matching:
                within[run.id] = one
            one = around.get(one)
    return within


def _stopped(db: Database, by: Caller, run: RunView, now: bool) -> ManyView:
    try:
        stopped = stopping.stop(db, by, run.id, now=now)
    except NotFound as error:
        return _line(run, Result.REFUSED, error.fact)
    if stopped.before in FINAL:
        return _line(run, Result.SKIPPED, f"it had ended: {stopped.before}")
    if stopped.before == RunState.STOPPING and run.stop in (Stop.NOW, Stop.NOW if now else Stop.POLITE):
        return _line(run, Result.SKIPPED, ENDING)
    return _line(run, Result.DONE, None if stopped.after in FINAL else ENDING)


def acknowledge(db: Database, by: Caller, chosen: Sequence[RunView], *, dry_run: bool = False) -> list[ManyView]:
    """Acknowledge failures, newest first. Returns one line for each run.

    May be repeated: a failure that was acknowledged before is skipped, and its first acknowledgement stays.
    """
    lines, waits = [], _Waits()
    for run in _with_pauses(db, sorted(chosen, key=lambda run: -run.id)):
        if run.state not in TO_ACKNOWLEDGE:
            lines.append(_line(run, Result.SKIPPED, f"it is {run.state}"))
        elif run.acknowledged_at is not None:
            lines.append(_line(run, Result.SKIPPED, f"it was acknowledged: {run.acknowledged_by}"))
        elif dry_run:
            lines.append(_line(run, Result.CHOSEN))
        else:
            lines.append(waits.line(run, partial(_acknowledged, db, by, run)))
    return lines


def _acknowledged(db: Database, by: Caller, run: RunView) -> ManyView:
    try:
        notes.acknowledge(db, by, [run.id])
    except (NotFound, Refused) as error:
        return _line(run, Result.REFUSED, str(error))
    return _line(run, Result.DONE)


class _Waits:
    """Leaves out what open transactions have locked, so that they keep no other runs from being stopped."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()  # whose named locks were not free in time
        self._number = 0

    def line(self, run: RunView, work: Callable[[], ManyView]) -> ManyView:
        """Return the line of a run, which ``work`` stops, retries or acknowledges."""
        if run.job in self._jobs:
            return _line(run, Result.REFUSED, IS_LOCKED)
        if self._number >= MOST_WAITS:
            return _line(run, Result.REFUSED, NOT_TRIED)
        try:
            return work()
        except Locked as error:
            self._number += 1
            if error.is_named:
                self._jobs.add(run.job)
            return _line(run, Result.REFUSED, IS_LOCKED)


def _with_pauses(db: Database, chosen: Iterable[RunView]) -> Iterator[RunView]:
    """Yield the runs. Pauses now and then, since on SQLite a series of transactions lets no other process write."""
    began = time.monotonic()
    for run in chosen:
        if time.monotonic() - began > AT_A_STRETCH:
            time.sleep(db.dialect.pause_between_writes)
            began = time.monotonic()
        yield run


def _line(run: RunView, result: Result, reason: str | None = None, new_run: int | None = None) -> ManyView:
    return ManyView(run.id, run.job, run.state, result, new_run, reason, run.kind, run.sequence_run_id)
