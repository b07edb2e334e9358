"""Admit blocked runs, once what they waited for is free."""

from collections.abc import Iterable

import sqlalchemy as sa

from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store.holds.conditions import IS_JOB_HELD
from jobfac.store.runs.admission.locking import waits_for
from jobfac.store.runs.admission.moving import move_free
from jobfac.store.runs.admission.rules import BATCH, CANDIDATE, IS_ACTIVE, IS_BLOCKED, Candidate, Rule

_BLOCKED_RUNS = sa.select(*CANDIDATE, run.c.priority).with_hint(run, PASS, "mssql").where(IS_BLOCKED, ~IS_JOB_HELD)
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
    return move_free(conn, _best(conn, waits_for(rules)), RunState.BLOCKED, by)


def release_jobs(conn: sa.Connection, condition: sa.ColumnElement[bool], by: str) -> int:
    """Admit blocked runs that match ``condition``, on their job. Returns the number of moved runs."""
    return move_free(conn, _best(conn, sa.and_(IS_ACTIVE, condition)), RunState.BLOCKED, by)
