"""Admission: the already-running policy and the concurrency limits decide which runs may enter the queue.

Decisions are derived from the existing runs, never from a flag, so a crash leaves nothing to clean up. All decisions
about one job or one concurrency key are made under its named lock, so two concurrent starts see each other.

The columns of a run's rule (``Rule``) never change. So a transaction reads them without a lock, takes all named locks
that it may need with ``lock``, and only then locks rows (see ``database.locks``).
"""

import functools
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import CLAIMING, PASS, lists, rows, utcnow
from jobfac.database.tables import run
from jobfac.database.types import BigId, sql_literals
from jobfac.states import ACTIVE, OCCUPYING, RunState
from jobfac.store.holds.conditions import IS_JOB_HELD
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record

K = TypeVar("K", bound=Hashable)

_ACTIVE = sa.text(f"state IN ({sql_literals(ACTIVE)})")
UNDER_WAY = sa.or_(run.c.state != RunState.SCHEDULED, run.c.attempt > 0)
"""Condition on an active run: it is under way. A delayed start is not under way; a run between two attempts is."""

_OCCUPYING = sa.text(f"state IN ({sql_literals(OCCUPYING)})")
_BLOCKED = sa.text(f"state = '{RunState.BLOCKED}'")
BATCH = 500
"""The maximum number of rows that one transaction changes. SQL Server escalates to a table lock at 5,000 locks."""


def decide(policy: str, *, has_others_of_job: bool, others_of_key: int, limit: int | None, retrying: bool) -> RunState:
    """Decide the state of a run that is ready for the queue: ``queued``, ``blocked`` or ``denied``.

    Args:
        policy: the job's ``already_running``.
        has_others_of_job: other runs of the job are queued, running or stopping.
        others_of_key: other runs with the same concurrency key that are queued, running or stopping.
        limit: the maximum number of such runs with the key; None without a key.
        retrying: the run has executed before, so it was already admitted and cannot be denied.
    """
    if policy == "deny" and has_others_of_job and not retrying:
        return RunState.DENIED
    if policy != "start" and has_others_of_job:
        return RunState.BLOCKED
    if limit is not None and others_of_key >= limit:
        return RunState.BLOCKED
    return RunState.QUEUED


class Rule(NamedTuple):
    """The properties that decide about a run's admission. They never change for a run."""

    job: str
    already_running: str
    concurrency_key: str | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Rule":
        """Return the rule of a run that is not inserted yet, from the values of its columns."""
        return cls(values["job"], values["already_running"], values["concurrency_key"])

    @property
    def has_limits(self) -> bool:
        """Whether the run's admission depends on other runs. Most runs have no limits and skip all checks."""
        return self.already_running != "start" or self.concurrency_key is not None

    @property
    def names(self) -> set[str]:
        """The named locks that a decision about the run needs; empty: the run depends on no other run.

        Two keys that differ in case or in trailing blanks have the same lock. Most databases treat the keys as equal,
        but never treat the names of locks as equal.
        """
        names = set()
        if self.already_running != "start":
            names.add(f"jobfac:job:{self.job}")
        if self.concurrency_key is not None:
            names.add(f"jobfac:key:{self.concurrency_key.lower().rstrip(' ')}")
        return names


RULE = (run.c.job, run.c.already_running, run.c.concurrency_key)
"""The columns of a ``Rule``."""


class Candidate(NamedTuple):
    """A run that is ready for the queue, with the columns that decide its admission. ``id`` 0: not inserted yet."""

    id: int
    notify: str | None
    job: str
    attempt: int
    already_running: str
    concurrency_key: str | None
    concurrency_limit: int | None

    @property
    def rule(self) -> Rule:
        """The run's rule."""
        return Rule(self.job, self.already_running, self.concurrency_key)


CANDIDATE = tuple(run.c[name] for name in Candidate._fields)
"""The columns of a ``Candidate``."""


def names_of(rules: Iterable[Rule]) -> set[str]:
    """Return the named locks of these rules."""
    return set().union(*(rule.names for rule in rules))


def lock(conn: sa.Connection, rules: Iterable[Rule], more: Collection[str] = ()) -> None:
    """Take the named locks of these rules, of the runs that wait for the same rules, and ``more``.

    Must be called before the transaction locks a row. A run that ends or is stopped admits blocked runs, and these may
    share a second rule with other runs.
    """
    limited = {rule for rule in rules if rule.has_limits}
    names = names_of(limited) | set(more)
    if names <= set(locks.held(conn)):
        return
    if conn.dialect.name == "sqlite":  # its transaction excludes every other one, and all that wait may be very many
        locks.take(conn, names)
        return
    limited |= set(_replaced(conn, limited))
    if limited:
        waiting = conn.execute(sa.select(*RULE).distinct().with_hint(run, PASS, "mssql").where(_waits_for(limited)))
        limited |= {Rule(*row) for row in waiting}
    locks.take(conn, names | names_of(limited))


def lock_free(conn: sa.Connection, rules: Mapping[K, Iterable[Rule]]) -> set[K]:
    """Take those of the named locks of these rules that are free soon. Returns the keys all of whose locks are held.

    Must be called before the transaction locks a row. It is for what serves everybody, such as a scheduler: waiting for
    a lock that an open transaction holds, as one that called ``start_job``, it would do nothing for the others.
    """
    needed = {key: {rule for rule in its if rule.has_limits} for key, its in rules.items()}
    replaced = _replaced(conn, set().union(*needed.values()))
    names = {
        key: names_of([*its, *(one for one in replaced if one.job.lower() in {rule.job.lower() for rule in its})])
        for key, its in needed.items()
    }
    held = set(locks.take_soon(conn, set().union(*names.values())))
    return {key for key, its in names.items() if its <= held}


def _replaced(conn: sa.Connection, rules: Collection[Rule]) -> list[Rule]:
    """Return the rules of the active runs that starts with these rules stop. They may have started with other rules."""
    jobs = {rule.job for rule in rules if rule.already_running == "replace"}
    if not jobs:
        return []
    active = sa.select(*RULE).distinct().where(_ACTIVE, lists.among(run.c.job, jobs))
    return [Rule(*row) for row in conn.execute(active.with_hint(run, PASS, "mssql"))]


def lock_late(conn: sa.Connection, rules: Iterable[Rule]) -> None:
    """Make sure that the named locks of these rules are held, in a transaction that may already have locked rows.

    Raises:
        sqlalchemy.exc.DBAPIError: another transaction holds an unexpected lock; repeat the transaction.
    """
    locks.take_now(conn, names_of(rules))


def rules_of(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Rule]:
    """Return the rules of the runs that match ``condition``, read without locks."""
    return [Rule(*row) for row in conn.execute(sa.select(*RULE).distinct().where(condition))]


def admit(conn: sa.Connection, candidate: Candidate) -> RunState:
    """Decide about one run. The caller must hold its named locks."""
    if not candidate.rule.has_limits:
        return RunState.QUEUED
    return decide(
        candidate.already_running,
        has_others_of_job=candidate.already_running != "start" and _has_others_of_job(conn, candidate),
        others_of_key=_others_of_key(conn, candidate) if candidate.concurrency_key else 0,
        limit=candidate.concurrency_limit,
        retrying=candidate.attempt > 0,
    )


def on_entry(state: RunState) -> dict[str, Any]:
    """Return the other columns that change when a run enters the state that ``admit`` decided."""
    if state == RunState.QUEUED:
        return {"queued_at": utcnow()}
    if state == RunState.DENIED:
        return {"ended_at": utcnow(), "reason": "another run of the job is still active"}
    return {}


def _has_others_of_job(conn: sa.Connection, candidate: Candidate) -> bool:
    others = sa.exists().where(_ACTIVE, run.c.job == candidate.job, run.c.id != candidate.id)
    if candidate.already_running == "deny":
        return bool(conn.execute(sa.select(sa.case((others.where(UNDER_WAY), 1), else_=0))).scalar_one())
    # State by state: SQLite would read all runs of the job that wait, since the index has them, too.
    each = (others.where(sa.text(f"state = '{state}'")) for state in OCCUPYING)
    return bool(conn.execute(sa.select(sa.case((sa.or_(*each), 1), else_=0))).scalar_one())


def _others_of_key(conn: sa.Connection, candidate: Candidate) -> int:
    query = sa.select(sa.func.count()).where(
        run.c.concurrency_key == candidate.concurrency_key, _OCCUPYING, run.c.id != candidate.id
    )
    return conn.execute(query).scalar_one()


_BLOCKED_RUNS = sa.select(*CANDIDATE, run.c.priority).with_hint(run, PASS, "mssql").where(_BLOCKED, ~IS_JOB_HELD)
"""Blocked runs that no hold covers. Read without locks: SQL Server sorts all blocked runs to find the first ones, so it
would lock all of them."""

SOME = 20
"""How many runs of each rule are read if one rule has so many blocked runs that others would not be seen."""

_GROUP = run.c.job + "/" + sa.func.coalesce(run.c.concurrency_key, "")
"""The job and the key of a run; an id has no slash."""


def _best(conn: sa.Connection, condition: sa.ColumnElement[bool] | None, alone: bool = False) -> list[Candidate]:
    """Return up to ``BATCH`` blocked runs that match, the best first, and the best of each rule not among them.

    A long backlog of one rule must not hide the runs that wait for another one. ``alone``: there is no other rule.
    """
    best_first = (run.c.priority.desc(), run.c.id)
    query = _BLOCKED_RUNS if condition is None else _BLOCKED_RUNS.where(condition)
    found = conn.execute(query.order_by(*best_first).limit(BATCH)).all()
    if len(found) < BATCH or alone:
        return [Candidate(*one[:-1]) for one in found]
    seen = lists.as_list({f"{one.job}/{one.concurrency_key or ''}" for one in found})
    given = sa.select(lists.names().c.value)
    hidden = query.with_only_columns(_GROUP).distinct().where(_GROUP.not_in(given)).limit(BATCH)
    if groups := conn.execute(hidden, {"names": seen}).scalars().all():
        place = sa.func.row_number().over(partition_by=_GROUP, order_by=best_first)
        each = query.where(_GROUP.in_(given)).add_columns(place.label("place")).subquery("each_rule")
        some = sa.select(*(each.c[name] for name in (*Candidate._fields, "priority"))).where(each.c.place <= SOME)
        others = some.order_by(each.c.place, each.c.priority.desc(), each.c.id).limit(BATCH)
        more = conn.execute(others, {"names": lists.as_list(groups)}).all()
        found = sorted([*found, *more], key=lambda one: (-one.priority, one.id))
    return [Candidate(*one[:-1]) for one in found]


_waiting = run.alias("waiting")


def _waits_for(rules: Collection[Rule]) -> sa.ColumnElement[bool]:
    """Condition on a blocked run: it may wait for one of these rules."""
    # Two searches and not one with OR, so that each uses its index. The first one repeats the states. Otherwise SQLite
    # does not search it with an index that excludes the history.
    waiting = sa.select(_waiting.c.id).with_hint(_waiting, PASS, "mssql").where(_BLOCKED)
    of_jobs = waiting.where(_ACTIVE, lists.among(_waiting.c.job, {rule.job for rule in rules}))
    keys = {rule.concurrency_key for rule in rules if rule.concurrency_key is not None}
    of_keys = waiting.where(sa.text("concurrency_key IS NOT NULL"), lists.among(_waiting.c.concurrency_key, keys))
    return run.c.id.in_(of_jobs.union_all(of_keys) if keys else of_jobs)


def release_blocked(conn: sa.Connection, freed: Iterable[Rule] | None, by: str) -> int:
    """Admit blocked runs that wait for the rules ``freed`` (None: all blocked runs). Returns how many were moved.

    Does not wait for locks. A run whose named lock another transaction holds is left to that transaction, or to the
    next sweep.
    """
    if freed is None:
        return move_free(conn, _best(conn, None), RunState.BLOCKED, by)
    rules = {rule for rule in freed if rule.has_limits}
    if not rules:
        return 0
    if len(rules) == 1 and (rule := next(iter(rules))).concurrency_key is None:
        # In the order of the index, so that it reads no more than it returns.
        return move_free(conn, _best(conn, run.c.job == rule.job, alone=True), RunState.BLOCKED, by)
    return move_free(conn, _best(conn, _waits_for(rules)), RunState.BLOCKED, by)


def release_jobs(conn: sa.Connection, condition: sa.ColumnElement[bool], by: str) -> int:
    """Admit blocked runs that match ``condition``, on their job. Returns the number of moved runs."""
    return move_free(conn, _best(conn, sa.and_(_ACTIVE, condition)), RunState.BLOCKED, by)


def move_free(conn: sa.Connection, candidates: Sequence[Candidate], before: RunState, by: str) -> int:
    """Call ``move`` for the runs whose named locks are free or already held by this transaction."""
    held = set(locks.take_free(conn, names_of(candidate.rule for candidate in candidates)))
    return move(conn, [candidate for candidate in candidates if candidate.rule.names <= held], before, by)


def move(conn: sa.Connection, candidates: Iterable[Candidate], before: RunState, by: str) -> int:
    """Move runs from the state ``before`` to the state that admission decides. Returns the number of moved runs.

    Skips runs that are no longer in ``before``. The caller must hold the named locks of their rules.
    """
    candidates = list(candidates)
    plain = [candidate for candidate in candidates if not candidate.rule.has_limits]
    queued = change_state(conn, [candidate.id for candidate in plain], before, RunState.QUEUED)
    moved = [_moved(candidate, RunState.QUEUED, by) for candidate in plain if candidate.id in queued]
    closed: set[Candidate] = set()
    # One by one: each decision must see the one before it.
    for candidate in candidates:
        if not candidate.rule.has_limits:
            continue
        alike = candidate._replace(id=0, notify=None)
        if alike in closed:
            continue
        after = admit(conn, candidate)
        if after == before:
            closed.add(alike)  # other runs for which the same decision would be made must wait too
            continue
        change = run.update().where(run.c.id == candidate.id, run.c.state == before)
        if conn.execute(change.values({"state": after, **on_entry(after)})).rowcount:
            moved.append(_moved(candidate, after, by))
    record(conn, moved)
    return len(moved)


def _moved(candidate: Candidate, after: RunState, by: str) -> Event:
    return Event(candidate.id, candidate.attempt, after, by, notify=candidate.notify)


def change_state(conn: sa.Connection, run_ids: Collection[int], before: RunState, after: RunState) -> set[int]:
    """Move up to ``BATCH`` runs that depend on no other run from one waiting state to another, in one statement.

    Returns the ids of the moved runs. Passes over runs that are no longer in ``before`` or that another transaction has
    locked.
    """
    if not run_ids:
        return set()
    engine, given = conn.dialect.name, [{"id": run_id} for run_id in sorted(run_ids)]
    locked = {row.id for row in conn.execute(_locked(engine, before), rows.rows_parameter(given))}
    if locked:
        conn.execute(_changed(engine, after), rows.rows_parameter({"id": run_id} for run_id in sorted(locked)))
    return locked


@functools.cache
def _locked(engine: str, before: RunState) -> sa.Select[tuple[int]]:
    given = rows.rows_table(engine, id=BigId)
    query = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql")
    these = (run.c.id == given.c.id, sa.text(f"run.state = '{before}'"))
    return query.where(*these).order_by(run.c.id).limit(BATCH)


@functools.cache
def _changed(engine: str, after: RunState) -> sa.Update:
    given = rows.rows_table(engine, id=BigId)
    change = run.update().where(run.c.id == given.c.id).values({"state": after, **on_entry(after)})
    return rows.by_primary_key(change, run)
