"""The locks of a transaction that advances sequences: named locks first, then rows from the outermost run inwards.

What a program does for one sequence waits for its locks. What it does for all of them, such as a sweep, leaves a
sequence to a later turn if an open transaction holds one of its locks.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, DIRTY, LOCKED_BY_KEY, lists
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.store import jobs, runs
from jobfac.store.runs import Rule


def lock_rules(conn: sa.Connection, rules: Iterable[Rule], run_ids: Iterable[int], more: Collection[str] = ()) -> None:
    """Take ``more`` and the named locks of these rules and of all runs that advancing these sequence runs may start or
    end.

    Must be called before the transaction locks a row.
    """
    runs.lock(conn, [*rules, *rules_to_advance(conn, run_ids)], more)


def locked_sequences(
    conn: sa.Connection, run_ids: Collection[int], rules: Callable[[Collection[int]], list[Rule]] = lambda run_ids: []
) -> set[int]:
    """Do the same as ``lock_rules`` and ``lock`` for many sequence runs, without waiting.

    Returns those that need a named lock or a row that another transaction has locked. ``rules``: returns the other
    rules whose locks some of them need.
    """
    free = lock_free(conn, run_ids, lambda some: [*rules(some), *rules_to_advance(conn, some)]) if run_ids else set()
    return set(run_ids) - _with_free_rows(conn, free)


def _with_free_rows(conn: sa.Connection, run_ids: set[int]) -> set[int]:
    """Lock the rows of these sequence runs and of those that contain them. Returns those all of whose rows are free."""
    chain = _chain(conn, run_ids)
    if not chain:
        return set()
    rows = sa.select(run.c.id).with_hint(run, CLAIMING, "mssql").where(lists.by_id(run.c.id, chain))
    missing = chain - set(conn.execute(rows.order_by(run.c.id)).scalars())
    if not missing:
        return run_ids
    there = sa.select(run.c.id).with_hint(run, DIRTY, "mssql").where(lists.by_id(run.c.id, missing))
    locked = set(conn.execute(there).scalars())
    return {one for one in run_ids if not locked & _chain(conn, [one])}


def lock_free(conn: sa.Connection, keys: Collection[int], rules: Callable[[Collection[int]], list[Rule]]) -> set[int]:
    """Take the named locks that are free. Returns the keys all of whose locks are held.

    ``rules``: returns the rules of some of the keys.
    """
    if runs.lock_free(conn, {0: rules(keys)}):
        return set(keys)
    return runs.lock_free(conn, {key: rules([key]) for key in keys})  # one of them is not free: see who needs it


def rules_to_advance(conn: sa.Connection, run_ids: Iterable[int]) -> list[Rule]:
    """Return the rules of all runs that advancing these sequence runs may start or end."""
    found: list[Rule] = []
    names: set[str] = set()
    chain = _chain(conn, run_ids)
    columns = (run.c.job, run.c.already_running, run.c.concurrency_key, run.c.job_version)
    for row in conn.execute(sa.select(*columns).distinct().where(lists.by_id(run.c.id, chain))).all() if chain else ():
        found.append(Rule(*row[:3]))
        with contextlib.suppress(DefinitionError):  # an unreadable sequence starts nothing
            definition = jobs.load_version(conn, row.job, row.job_version)
            names |= {child for step in getattr(definition, "steps", ()) for child in step.jobs}
    return [*found, *runs.rules_of_jobs(conn, names)]


def _chain(conn: sa.Connection, run_ids: Iterable[int]) -> set[int]:
    """Return these sequence runs and the sequence runs that contain them."""
    chain: set[int] = set()
    found = set(run_ids)
    while found:
        chain |= found
        parents = sa.select(run.c.sequence_run_id).where(
            lists.by_id(run.c.id, found), run.c.sequence_run_id.is_not(None)
        )
        found = set(conn.execute(parents).scalars()) - chain
    return chain


def lock(conn: sa.Connection, run_ids: Iterable[int]) -> None:
    """Lock these sequence runs and those that contain them. Must be called before the rows of their jobs change."""
    if chain := _chain(conn, run_ids):
        rows = sa.select(run.c.id).with_hint(run, LOCKED_BY_KEY, "mssql").where(lists.by_id(run.c.id, chain))
        conn.execute(rows.order_by(run.c.id)).all()
