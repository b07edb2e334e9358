"""The locks under which sequences are advanced.

A sequence is advanced under a lock on its run's row, so two jobs that end at the same moment advance it only
once: the second transaction waits and then sees the changes of the first. Before any row is locked, ``lock_rules``
takes the named locks of all runs that advancing may start or end. Rows of sequences are locked from the outermost
sequence inwards, and before the rows of their jobs. A transaction for one sequence waits for its locks. One
for many sequences, such as a sweep, leaves out those whose locks another transaction holds (``locked_sequences``).
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, DIRTY, LOCKED_BY_KEY, lists
from jobfac.database.tables import run
from jobfac.definitions import DefinitionError
from jobfac.store import jobs, runs
from jobfac.store.runs import Outcome, Rule


def lock_rules(conn: sa.Connection, rules: Iterable[Rule], run_ids: Iterable[int], more: Collection[str] = ()) -> None:
    """Take ``more``, and the named locks of these rules and of what advancing these sequence runs may start or end.

    Must be called before the transaction locks a row.
    """
    runs.lock(conn, [*rules, *chain.from_iterable(rules_to_advance(conn, run_ids).values())], more)


def locked_sequences(
    conn: sa.Connection, run_ids: Collection[int], rules: Callable[[Collection[int]], list[Rule]] = lambda run_ids: []
) -> set[int]:
    """Do the same as ``lock_rules`` and ``lock`` for many sequence runs, but wait a moment at most.

    Returns those that need a named lock or a row that another transaction has locked. ``rules``: returns the other
    rules whose locks some of them need.
    """
    if not run_ids:
        return set()
    needed = rules_to_advance(conn, run_ids)
    free = set(run_ids)
    if not runs.lock_free(conn, {0: [*rules(run_ids), *chain.from_iterable(needed.values())]}):
        # One of them is not free: see who needs it.
        free = runs.lock_free(conn, {one: [*rules([one]), *needed[one]] for one in run_ids})
    return set(run_ids) - lock_free_rows(conn, free)


def lock_free_ends(conn: sa.Connection, outcomes: Iterable[Outcome], within: Mapping[int, int]) -> set[int]:
    """Take the named locks that the ends of these runs need and that are free. Returns the runs that need no other one.

    ``within``: by run, the sequence run that it belongs to.
    """
    advanced = rules_to_advance(conn, within.values())
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


def rules_to_advance(conn: sa.Connection, run_ids: Iterable[int]) -> dict[int, list[Rule]]:
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
