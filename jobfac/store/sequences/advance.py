"""Advance each sequence in the transaction in which one of its jobs ended, under the locks of ``locking``."""

import time
from collections.abc import Iterable, Sequence
from itertools import chain

import sqlalchemy as sa

from jobfac.database.sequence_memory import guarded, leave_out, memory_of
from jobfac.definitions import DefinitionError, Step
from jobfac.definitions import Sequence as Definition
from jobfac.definitions.parameters.matching import Pending
from jobfac.states import HELD, Decision, RunState
from jobfac.store import jobs, parameters, runs, schedules, workers
from jobfac.store.runs import Finished, Outcome
from jobfac.store.runs.finish import POISON_ATTEMPTS
from jobfac.store.sequences import history, visits
from jobfac.store.sequences.decide import (
    FAN_OUT,
    Enter,
    Finish,
    Leave,
    decide,
    has_room,
    is_given_up,
    outcome,
    step_of,
    to_start,
    too_many_visits,
)
from jobfac.store.sequences.locking import lock, lock_free_rows, rules_to_advance
from jobfac.store.sequences.requests import SequenceRun, read_sequence
from jobfac.store.sequences.stepping import ask, end_waiting, enter, limit, start_more, stop_others
from jobfac.store.sequences.values import inputs
from jobfac.store.sequences.visits import StoredVisit
from jobfac.views.serialization import read_json

MOVES = 50
"""The maximum number of moves of one sequence in one transaction. It goes on in the next one (``go_on``)."""

TOGETHER = 0.5
"""CPU time in seconds after which a transaction for several sequences advances no further one: on SQLite all other
writers wait for it."""


def advance_after(conn: sa.Connection, finished: Iterable[Finished], by: str) -> list[Finished]:
    """Advance the sequences of runs that ended in this transaction. Returns the sequences that ended."""
    return advance_all(conn, _sequences_of(finished), by)


def _sequences_of(inside: Iterable[Finished | workers.HeldRule]) -> list[int]:
    return [one.sequence_run_id for one in inside if one.sequence_run_id is not None]


def expire(
    conn: sa.Connection,
    by: str,
    only: int | None = None,
    finished: Iterable[Finished] = (),
    poison_attempts: int = POISON_ATTEMPTS,
    token: str | None = None,
) -> workers.Expiry:
    """Do the same as ``workers.expire``, and advance the sequences of the expired runs and of ``finished``.

    Unless ``only`` is given, leaves out runs that need a named lock, or the row of a sequence, that is not free.
    """
    held = workers.held_rules(conn, only)
    advanced = rules_to_advance(conn, _sequences_of(held))
    needed = {one: [one.rule, *advanced.get(one.sequence_run_id or 0, ())] for one in held}
    locked: set[workers.HeldRule] = set()
    if only is not None:
        runs.lock(conn, chain.from_iterable(needed.values()))
        lock(conn, _sequences_of(held))
    elif needed:
        free = runs.lock_free(conn, needed)
        within = {None, *lock_free_rows(conn, set(_sequences_of(free)))}
        locked = needed.keys() - {one for one in free if one.sequence_run_id in within}
    expiry = workers.expire(conn, by, only, poison_attempts, token, locked)
    ended = [*finished, *expiry.finished]
    conclude(conn, _sequences_of(ended), by, ended)
    return expiry


def deregister(
    conn: sa.Connection, worker_id: int, by: str, token: str | None = None, unstarted: Sequence[Outcome] = ()
) -> None:
    """Do the same as ``workers.deregister``, and advance the sequences of the runs that ended. ``unstarted``: outcomes
    of runs that the worker holds but has not started; the caller has taken their named locks."""
    if workers.leave(conn, worker_id, token):
        lock(conn, _sequences_of(workers.held_rules(conn, worker_id)))
        ended = [*runs.finish(conn, worker_id, unstarted, by), *workers.requeue_left(conn, worker_id)]
        conclude(conn, _sequences_of(ended), by, ended)


def conclude(conn: sa.Connection, run_ids: Iterable[int], by: str, finished: Iterable[Finished] = ()) -> list[Finished]:
    """Do the same as ``advance_all``, as the last act of a transaction: also pause the schedules of failing jobs.

    ``finished``: the runs that have ended in this transaction before. A worker's turn does both by itself, because it
    claims runs in between, and no run is locked after a schedule.
    """
    ended = advance_all(conn, run_ids, by)
    schedules.pause_failing(conn, [*finished, *ended])
    return ended


def advance_all(conn: sa.Connection, run_ids: Iterable[int], by: str) -> list[Finished]:
    """Advance these sequence runs, and every sequence run that contains one that ends. Returns those that ended.

    A sequence that raises an error does not stop the others: ``Database.transact`` repeats the transaction without it.
    The sweep tries it again later.

    Raises:
        Pending: matches have to be made first. It has those of all sequences, so that the transaction is not repeated
            for each of them.
    """
    waiting = set(run_ids)
    lock(conn, waiting)
    ended: list[Finished] = []
    pending: list[Pending] = []
    end: float | None = None
    while waiting:
        if end is not None and time.thread_time() > end:
            for run_id in waiting:
                memory_of(conn).note_unfinished(run_id)
            break
        end = end or time.thread_time() + TOGETHER
        innermost = max(waiting)  # a nested sequence starts after the sequence that contains it
        waiting.remove(innermost)
        if innermost in memory_of(conn).left_out():
            continue
        try:
            with guarded(conn, innermost):
                finished = _advance(conn, innermost, by)
        except Pending as error:
            pending.append(error)
            continue
        if finished is not None:
            ended.append(finished)
            if finished.sequence_run_id is not None:
                waiting.add(finished.sequence_run_id)
    if pending:
        raise Pending(parts=pending)
    return ended


def _advance(conn: sa.Connection, run_id: int, by: str) -> Finished | None:
    """Advance one locked sequence run as far as possible. Does nothing if no decision is due."""
    row = read_sequence(conn, run_id)
    if row is None or row.state not in HELD:
        return None
    if row.state == RunState.STOPPING:
        if visits.is_busy(conn, run_id):
            return None
        return _end(conn, run_id, RunState.STOPPED, f"stopped by {row.stop_by}", by)
    try:
        sequence = jobs.load_version(conn, row.job, row.job_version)
    except DefinitionError as error:
        if visits.number(conn, run_id):  # another process may be able to read it, or this one in a moment
            leave_out(conn, run_id, error)
            return None
        return _end(conn, run_id, RunState.FAILED, f"its definition cannot be read: {error}", by)
    assert isinstance(sequence, Definition)
    own = parameters.complete(conn, parameters.row_of(row), sequence, overrides=row.overrides)
    try:
        context = parameters.context_of(own, sequence, parameters.values_of(own, sequence))
    except DefinitionError as error:
        return _end(conn, run_id, RunState.FAILED, str(error), by)
    return _move(conn, SequenceRun(row._replace(origin=own.origin), sequence, by, context))


def _end(conn: sa.Connection, run_id: int, state: RunState, reason: str | None, by: str) -> Finished:
    """End a sequence run. A step that still waits for a person or a time waits no more."""
    visits.abandon(conn, run_id)
    return runs.end(conn, run_id, state, reason, by)


def _tend(conn: sa.Connection, parent: SequenceRun, place: StoredVisit | None) -> StoredVisit | None:
    """Do what the current visit needs: start or stop runs of ``for_each``, and end a waiting whose time is over."""
    if place is None or place.visit.to is not None:
        return place
    step = step_of(parent.sequence, place.visit.step)
    if step.waits and place.visit.decision is None and place.is_ripe:
        end_waiting(conn, step, place.id, _defaults(conn, parent.run_id, step))
    elif step.approve is not None and step.approve.parameters and place.visit.decision == Decision.APPROVED:
        if _is_right(conn, parent, step, place):
            return place
    elif step.for_each and is_given_up(step, place.visit.ended) and place.visit.running:
        stop_others(conn, place.id, parent.by)
    elif step.for_each and (number := to_start(step, place.visit)):
        start_more(conn, parent, step, place.id, number)
    else:
        return place
    return visits.last(conn, parent.run_id)


def _defaults(conn: sa.Connection, run_id: int, step: Step) -> str | None:
    """Return what holds if nobody decides about a step in time, which succeeds then."""
    if step.approve is None or step.approve.otherwise == "fail":
        return None
    try:
        return inputs.written(inputs.read(conn, run_id, step.approve, {}))
    except DefinitionError:  # a default without a value: what refers to it says so
        return None


def _is_right(conn: sa.Connection, parent: SequenceRun, step: Step, place: StoredVisit) -> bool:
    """Complete what an approver gave; True: it was complete. Values of T-SQL that do not fit are asked for again."""
    assert step.approve is not None
    try:
        text = inputs.written(inputs.read(conn, parent.run_id, step.approve, read_json(place.given or "{}")))
    except DefinitionError as error:
        visits.reopen(conn, place.id)
        ask(conn, parent, step, "; ".join(problem.message for problem in error.problems))
        return False
    if text != place.given:
        visits.give(conn, place.id, text)
    return text == place.given


def _finish(conn: sa.Connection, parent: SequenceRun, finish: Finish) -> Finished | None:
    visited = history.all_that_count if parent.first else history.visited  # one that continues none reads no other
    rows, seen = visited(conn, parent.run_id)
    state, reason = outcome(finish, seen, history.first_cause(conn, rows, seen))
    return _end(conn, parent.run_id, state, reason, parent.by)


def _move(conn: sa.Connection, parent: SequenceRun) -> Finished | None:
    latest = visits.last(conn, parent.run_id)
    more = 0
    for _ in range(MOVES):
        latest = _tend(conn, parent, latest)
        goal = latest.visit.to.step if latest is not None and latest.visit.to is not None else None
        entered = 0 if goal is None else visits.count(conn, parent.run_id, goal)
        match decide(parent.sequence, latest.visit if latest else None, entered, parent.first):
            case None:
                if latest is None or not has_room(step_of(parent.sequence, latest.visit.step), latest.visit):
                    return None
                more += to_start(step_of(parent.sequence, latest.visit.step), latest.visit)
                if more > FAN_OUT:  # a transaction must not need the results of too many matches
                    break
            case Enter() if visits.number(conn, parent.run_id) >= (most := limit(conn)):
                if visits.is_busy(conn, parent.run_id):
                    return None
                return _end(conn, parent.run_id, RunState.FAILED, too_many_visits(most), parent.by)
            case Enter(step):
                enter(conn, parent, step, entered + 1)
                latest = visits.last(conn, parent.run_id)
            case Leave() as left:
                assert latest is not None
                visits.leave(conn, latest.id, left)
                latest = latest._replace(visit=latest.visit._replace(result=left.result, to=left.to))
            case finish:
                if visits.is_busy(conn, parent.run_id):
                    return None
                return _finish(conn, parent, finish)
    memory_of(conn).note_unfinished(parent.run_id)
    return None
