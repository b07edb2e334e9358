"""Begin sequences, and advance each in the transaction in which one of its jobs ended.

**Locks.** A sequence is advanced under a lock on its run's row, so two jobs that end at the same moment advance it only
once: the second transaction waits and then sees the changes of the first. Before any row is locked, ``lock_rules``
takes the named locks of all runs that advancing may start or end. Rows of sequences are locked from the outermost
sequence inwards, and before the rows of their jobs. A transaction for one sequence waits for its locks. One
for many sequences, such as a sweep, leaves out those whose locks another transaction holds (``locked_sequences``).
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, DIRTY, LOCKED_BY_KEY, lists
from jobfac.database.sequence_memory import guarded, memory_of
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError, Step
from jobfac.definitions import Sequence as Definition
from jobfac.states import HELD, Decision, RunState
from jobfac.store import jobs, parameters, runs, schedules, workers
from jobfac.store.runs import Finished, Outcome, Rule
from jobfac.store.runs.finish import POISON_ATTEMPTS
from jobfac.store.sequences import history, visits
from jobfac.store.sequences.decide import (
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
from jobfac.store.sequences.requests import SequenceRun, read_sequence
from jobfac.store.sequences.stepping import ask, end_waiting, enter, limit, start_more, stop_others
from jobfac.store.sequences.values import inputs
from jobfac.store.sequences.visits import StoredVisit
from jobfac.views.serialization import read_json

MOVES = 50
"""The maximum number of moves of one sequence in one transaction. It goes on in the next one (``go_on``)."""

ROUNDS = 2
"""How often one transaction starts further runs of ``for_each``: it must not need the results of too many matches."""


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
    advanced = _rules_to_advance(conn, _sequences_of(held))
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


def lock_rules(conn: sa.Connection, rules: Iterable[Rule], run_ids: Iterable[int], more: Collection[str] = ()) -> None:
    """Take ``more``, and the named locks of these rules and of what advancing these sequence runs may start or end.

    Must be called before the transaction locks a row.
    """
    runs.lock(conn, [*rules, *chain.from_iterable(_rules_to_advance(conn, run_ids).values())], more)


def locked_sequences(
    conn: sa.Connection, run_ids: Collection[int], rules: Callable[[Collection[int]], list[Rule]] = lambda run_ids: []
) -> set[int]:
    """Do the same as ``lock_rules`` and ``lock`` for many sequence runs, but wait a moment at most.

    Returns those that need a named lock or a row that another transaction has locked. ``rules``: returns the other
    rules whose locks some of them need.
    """
    if not run_ids:
        return set()
    needed = _rules_to_advance(conn, run_ids)
    free = set(run_ids)
    if not runs.lock_free(conn, {0: [*rules(run_ids), *chain.from_iterable(needed.values())]}):
        # One of them is not free: see who needs it.
        free = runs.lock_free(conn, {one: [*rules([one]), *needed[one]] for one in run_ids})
    return set(run_ids) - lock_free_rows(conn, free)


def lock_free_ends(conn: sa.Connection, outcomes: Iterable[Outcome], within: Mapping[int, int]) -> set[int]:
    """Take the named locks that the ends of these runs need and that are free. Returns the runs that need no other one.

    ``within``: by run, the sequence run that it belongs to.
    """
    advanced = _rules_to_advance(conn, within.values())
    needed = {
        one.run_id: [*runs.rules_of(conn, [one]), *advanced.get(within.get(one.run_id, 0), ())] for one in outcomes
    }
    return runs.lock_free(conn, needed) if needed else set()


def lock_free_rows(conn: sa.Connection, run_ids: set[int]) -> set[int]:
    """Lock the free ones of the rows of these runs and of those around them. Returns the runs with all rows locked."""
    around = _chain(conn, run_ids)
    if not around:
        return set()
    rows = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(lists.by_id(run.c.id, around))
    missing = around - set(conn.execute(rows.order_by(run.c.id)).scalars())
    if not missing:
        return run_ids
    there = sa.select(run.c.id).with_hint(run, DIRTY, "mssql").where(lists.by_id(run.c.id, missing))
    locked = set(conn.execute(there).scalars())
    return {one for one in run_ids if not locked & _chain(conn, [one])}


def _rules_to_advance(conn: sa.Connection, run_ids: Iterable[int]) -> dict[int, list[Rule]]:
    """Return, by sequence run, the rules of all runs that advancing it may start or end."""
    names = ("id", "sequence_run_id", "job", "already_running", "concurrency_key", "job_version")
    query = sa.select(*(run.c[name] for name in names))
    wanted = found = set(run_ids)
    rows: dict[int | None, sa.Row[Any]] = {}
    while found:
        level = {row.id: row for row in conn.execute(query.where(lists.by_id(run.c.id, found)))}
        rows |= level
        found = {row.sequence_run_id for row in level.values() if row.sequence_run_id is not None} - rows.keys()
    inside = {
        version: _jobs_inside(conn, *version) for version in {(row.job, row.job_version) for row in rows.values()}
    }
    rules = {rule.job.lower(): rule for rule in runs.rules_of_jobs(conn, set().union(*inside.values()))}

    def of(run_id: int | None) -> Iterator[Rule]:
        while (row := rows.get(run_id)) is not None:
            yield Rule(row.job, row.already_running, row.concurrency_key)
            started = (job.lower() for job in inside[row.job, row.job_version])
            yield from (rules[job] for job in started if job in rules)
            run_id = row.sequence_run_id

    return {run_id: list(of(run_id)) for run_id in wanted}


def _jobs_inside(conn: sa.Connection, job: str, version: int) -> set[str]:
    """Return the jobs that a sequence may start."""
    with contextlib.suppress(DefinitionError):  # an unreadable sequence starts nothing
        definition = jobs.load_version(conn, job, version)
        return {child for step in getattr(definition, "steps", ()) for child in step.jobs}
    return set()


def _chain(conn: sa.Connection, run_ids: Iterable[int]) -> set[int]:
    """Return these sequence runs and the sequence runs that contain them."""
    around: set[int] = set()
    found = set(run_ids)
    while found:
        around |= found
        parents = sa.select(run.c.sequence_run_id).where(run.c.sequence_run_id.is_not(None))
        found = set(conn.execute(parents.where(lists.by_id(run.c.id, found))).scalars()) - around
    return around


def lock(conn: sa.Connection, run_ids: Iterable[int]) -> None:
    """Lock these sequence runs and those that contain them. Must be called before the rows of their jobs change."""
    if around := _chain(conn, run_ids):
        rows = sa.select(run.c.id).with_hint(run, LOCKED_BY_KEY, "mssql").where(lists.by_id(run.c.id, around))
        conn.execute(rows.order_by(run.c.id)).all()


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
    """
    waiting = set(run_ids)
    lock(conn, waiting)
    ended: list[Finished] = []
    while waiting:
        innermost = max(waiting)  # a nested sequence starts after the sequence that contains it
        waiting.remove(innermost)
        if innermost in memory_of(conn).left_out():
            continue
        with guarded(conn, innermost):
            finished = _advance(conn, innermost, by)
        if finished is not None:
            ended.append(finished)
            if finished.sequence_run_id is not None:
                waiting.add(finished.sequence_run_id)
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
    rounds = 0
    for _ in range(MOVES):
        latest = _tend(conn, parent, latest)
        goal = latest.visit.to.step if latest is not None and latest.visit.to is not None else None
        entered = 0 if goal is None else visits.count(conn, parent.run_id, goal)
        match decide(parent.sequence, latest.visit if latest else None, entered, parent.first):
            case None:
                if latest is None or not has_room(step_of(parent.sequence, latest.visit.step), latest.visit):
                    return None
                rounds += 1
                if rounds == ROUNDS:
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
