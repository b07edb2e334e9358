"""The named locks under which everything about one job or one concurrency key is decided."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TypeVar

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.dialects import PASS, lists
from jobfac.database.tables import run
from jobfac.store.runs.admission.rules import GIVES_WAY, IS_ACTIVE, IS_BLOCKED, RULE, Rule, names_of

K = TypeVar("K", bound=Hashable)

_waiting = run.alias("waiting")


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
        waiting = conn.execute(sa.select(*RULE).distinct().with_hint(run, PASS, "mssql").where(waits_for(limited)))
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
    active = sa.select(*RULE).distinct().where(IS_ACTIVE, lists.among(run.c.job, jobs), GIVES_WAY)
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


def waits_for(rules: Collection[Rule]) -> sa.ColumnElement[bool]:
    """Condition on a blocked run: it may wait for one of these rules."""
    # Two searches and not one with OR, so that each uses its index. The first one repeats the states. Otherwise SQLite
    # does not search it with an index that excludes the history.
    waiting = sa.select(_waiting.c.id).with_hint(_waiting, PASS, "mssql").where(IS_BLOCKED)
    of_jobs = waiting.where(IS_ACTIVE, lists.among(_waiting.c.job, {rule.job for rule in rules}))
    keys = {rule.concurrency_key for rule in rules if rule.concurrency_key is not None}
    of_keys = waiting.where(sa.text("concurrency_key IS NOT NULL"), lists.among(_waiting.c.concurrency_key, keys))
    return run.c.id.in_(of_jobs.union_all(of_keys) if keys else of_jobs)
