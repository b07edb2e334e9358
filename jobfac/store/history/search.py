"""Search runs by any property that a person may remember.

A search without a suitable index reads a limited number of runs, newest first, and returns how far it got.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import DIRTY, lists, rows
from jobfac.database.tables import job as job_table
from jobfac.database.tables import run
from jobfac.database.types import BigId, contains, sql_literals
from jobfac.states import ACTIVE, FAILURES, RunState
from jobfac.store.notes import UNACKNOWLEDGED
from jobfac.store.parameters import is_value
from jobfac.store.runs.reading import listed, with_holds, without_large
from jobfac.views.runs import RunView
from jobfac.views.serialization import columns

SCAN = 20_000
"""The maximum number of runs that one statement of a search reads."""

MADE = ("page", "retry", "each")
"""The first words of keys that jobfac makes. Their digits are random, so a text may be found in them by chance."""

SLACK = timedelta(minutes=1)
"""By how much the order of ids and that of ``created_at`` may differ: a clock that is set back, or a long statement."""

EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""No run is older or later. Beyond these, no time can be computed from a time."""


class Filter(NamedTuple):
    """Which runs to find; None and empty match all.

    Attributes:
        category: of the run's job, as the job is now.
        since: only runs that were created at this time or later.
        until: only runs that were created before this time.
        key: the key with which the run was started.
        text: a part of the job, the reason, a message or the key, ignoring case.
        parameters: names and values, as texts.
        unacknowledged: only failures that nobody has acknowledged.
        categories: the categories that the caller may see.
        below: only runs with lower ids, to continue after a page.
        among: only these runs.
    """

    job: str | None = None
    states: Sequence[RunState] = ()
    category: str | None = None
    worker: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    key: str | None = None
    sequence_run_id: int | None = None
    categories: Sequence[str] | None = None
    parameters: Sequence[tuple[str, str]] = ()
    unacknowledged: bool = False
    below: int | None = None
    among: Sequence[int] | None = None


ANY_RUN = Filter()
"""Matches all runs."""


class Found(NamedTuple):
    """Some runs, newest first. ``below``: where to continue, None: there are no more. ``partial``: the search stopped
    after ``SCAN`` runs, so older ones may match."""

    runs: list[RunView]
    below: int | None
    partial: bool


SHOWN = [listed(name) for name in columns(RunView)]


def find_all(conn: sa.Connection, wanted: Filter = ANY_RUN, limit: int = 50) -> list[RunView]:
    """Return up to ``limit`` runs that match, newest first, however many runs must be read."""
    runs: list[RunView] = []
    found = Found([], None, True)
    while len(runs) < limit and (found.partial or found.below is not None):
        found = search(conn, wanted._replace(below=found.below or wanted.below), min(limit - len(runs), SCAN))
        runs += found.runs
    return runs


def search(
    conn: sa.Connection, wanted: Filter, limit: int, read: Callable[[sa.RowMapping], RunView] = without_large
) -> Found:
    """Return up to ``limit`` runs that match. Large values are None, and ``truncated`` names them.

    ``read``: makes the view of a row.
    """
    inner = _scanned(conn, wanted)
    seen = inner.subquery("seen")
    matching = (
        sa.select(seen.c.id)
        .where(*_conditions(conn.dialect.name, seen, wanted))
        .order_by(seen.c.id.desc())
        .limit(limit + 1)
    )
    query = sa.select(*SHOWN).where(run.c.id.in_(matching)).order_by(run.c.id.desc())
    runs = with_holds(conn, [read(row) for row in conn.execute(query).mappings()])
    if len(runs) > limit:
        return Found(runs[:limit], runs[limit - 1].id, False)
    ids = inner.with_only_columns(run.c.id).subquery("ids")
    number, last = conn.execute(sa.select(sa.func.count(), sa.func.min(ids.c.id)).select_from(ids)).one()
    return Found(runs, last, True) if number == SCAN else Found(runs, None, False)


def of_ids(conn: sa.Connection, run_ids: Sequence[int], categories: Sequence[str] | None = None) -> list[RunView]:
    """Return the runs with these ids that a caller with these categories may see, newest first."""
    given = rows.rows_table(conn.dialect.name, id=BigId)
    query = sa.select(*SHOWN).join(given, given.c.id == run.c.id).order_by(run.c.id.desc())
    query = query.where(*lists.of_categories(run.c.job, categories))
    found = conn.execute(query, rows.rows_parameter({"id": run_id} for run_id in run_ids))
    return [without_large(row) for row in found.mappings()]


def _scanned(conn: sa.Connection, wanted: Filter) -> sa.Select[Any]:
    """Return the query of the runs to read: what an index finds, newest first."""
    needed = (run.c.id, run.c.job, run.c.state, run.c.worker, run.c.created_at, run.c.start_key)
    texts = (run.c.reason, run.c.message, run.c.exit_message) if wanted.text else ()
    query = sa.select(*needed, *texts).order_by(run.c.id.desc()).limit(SCAN)
    if wanted.job is not None:
        query = query.where(run.c.job == wanted.job)
    if wanted.key is not None:
        query = query.where(sa.text("start_key IS NOT NULL"), run.c.start_key == wanted.key)
    if wanted.sequence_run_id is not None:
        query = query.where(sa.text("sequence_run_id IS NOT NULL"), run.c.sequence_run_id == wanted.sequence_run_id)
    for group in (ACTIVE, FAILURES):
        if wanted.states and group.issuperset(wanted.states):  # the condition of a filtered index, word for word
            query = query.where(sa.text(f"state IN ({sql_literals(group)})"))
    if wanted.unacknowledged:
        query = query.where(sa.text(UNACKNOWLEDGED))
    if wanted.among is not None:
        query = query.where(lists.by_id(run.c.id, wanted.among))
    if wanted.below is not None:
        query = query.where(run.c.id < wanted.below)
    if wanted.since is not None:
        query = query.where(run.c.id >= first_since(conn, max(wanted.since, EARLIEST) - SLACK))
    if wanted.until is not None:
        query = query.where(run.c.id < first_since(conn, min(wanted.until, LATEST) + SLACK))
    return query


def _conditions(engine: str, subquery: sa.Subquery, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    seen = subquery.c
    found: list[sa.ColumnElement[bool]] = []
    if wanted.states:
        found.append(seen.state.in_([sa.literal_column(f"'{RunState(state)}'") for state in wanted.states]))
    if wanted.since is not None:
        found.append(seen.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(seen.created_at < wanted.until)
    if wanted.worker is not None:
        found.append(seen.worker == wanted.worker)
    if wanted.category is not None:
        found.append(seen.job.in_(sa.select(job_table.c.id).where(job_table.c.category == wanted.category)))
    found += lists.of_categories(seen.job, wanted.categories)
    found += [is_value(engine, name, value, "seen.id") for name, value in wanted.parameters]
    if wanted.text:
        texts = (seen.job, seen.reason, seen.message, seen.exit_message)
        given = (seen.start_key.not_like(sa.literal_column(f"'{word} %'")) for word in MADE)
        of_key = sa.and_(contains(engine, seen.start_key, wanted.text), *given)
        found.append(sa.or_(*(contains(engine, column, wanted.text) for column in texts), of_key))
    return found


_AT = (
    sa.select(run.c.id, run.c.created_at)
    .with_hint(run, DIRTY, "mssql")  # neither column ever changes
    .where(run.c.id >= sa.bindparam("p_id"))
    .order_by(run.c.id)
    .limit(1)
)


def first_since(conn: sa.Connection, moment: datetime) -> int:
    """Return the lowest id of the runs that were created at ``moment`` or later; one more than the highest if none was.

    Ids grow with the time of creation, so a few seeks by the primary key find it, and no index of the time is needed.
    """
    low, high = 0, (conn.execute(sa.select(sa.func.max(run.c.id))).scalar() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(_AT, {"p_id": middle}).first()
        if row is None or row.created_at >= moment:
            high = middle
        else:
            low = row.id + 1
    return high
