"""What the retries of a sequence did again: runs at the same place, the same step of each sequence around them."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import lists
from jobfac.database.tables import run, visit
from jobfac.states import RunState, StepResult
from jobfac.store.history import recovery

VALUES = ("parameters", "arguments", "payload", "sensitive", "for_worker")
"""The columns with what a run was given."""

_EMPTY: sa.ColumnElement[str] = sa.literal_column("''")


def same_values(engine: str, one: sa.FromClause, other: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that two runs were given the same."""
    pairs = [(sa.func.coalesce(one.c[name], _EMPTY), sa.func.coalesce(other.c[name], _EMPTY)) for name in VALUES]
    if engine == "mssql":  # most of its databases ignore case
        return [its == sa.collate(others, "Latin1_General_BIN2") for its, others in pairs]
    return [its == others for its, others in pairs]


def same(conn: sa.Connection, line: Sequence[int]) -> list[set[int]]:
    """Return, for each run of a lineage, the runs that did what it did, and that one.

    They are of the same job, and were started by the same step of the sequences around it, by later or earlier runs of
    these: the first one, and its retries. Of the values of ``for_each``, and of several visits of the step, only the
    same ones are the same place.

    Args:
        line: what ``retries.lineage`` returns.
    """
    levels = [{line[-1]}]
    for inner in reversed(line[:-1]):
        around = conn.execute(_AROUND.where(_mine.c.id == inner)).first()  # it may have been purged
        others = with_retries(conn, around.job, levels[0]) - {around.id} if around is not None else set()
        levels.insert(0, {inner, *(_inside(conn, others, inner) if others else ())})
    return levels


def passed(conn: sa.Connection, sequences: Collection[int], former: int, new: int, step: str) -> int | None:
    """Return the last of these runs of a sequence, after ``former``, in which this step, or a job in it, has succeeded.

    What it has taken over does not count. ``new``: another run, with the same values.
    """
    child = run.alias("child")
    has_done = sa.exists().where(child.c.visit_id == visit.c.id, child.c.state == RunState.SUCCEEDED).correlate(visit)
    query = (
        sa.select(sa.func.max(run.c.id))
        .select_from(run)
        .join(visit, visit.c.run_id == run.c.id)
        .join(_mine, _mine.c.id == new)
        .where(lists.by_id(run.c.id, sequences), run.c.id > former)
        .where(visit.c.step == step, *same_values(conn.dialect.name, run, _mine))
        .where((visit.c.result == StepResult.SUCCESS) | has_done)
    )
    return conn.execute(query).scalar()


_mine, _its, _around = run.alias("mine"), visit.alias("its"), run.alias("around")
_AROUND = sa.select(_around.c.id, _around.c.job).join(_mine, _mine.c.sequence_run_id == _around.c.id)


def with_retries(conn: sa.Connection, job: str, firsts: Collection[int]) -> set[int]:
    """Return these runs of a job, and their retries."""
    query = sa.select(run.c.id).where(run.c.job == job, run.c.id > min(firsts))
    found = conn.execute(query.where(recovery.repeats(conn.dialect.name, firsts))).scalars()
    return {*firsts, *found}


def _inside(conn: sa.Connection, sequences: Collection[int], inner: int) -> Collection[int]:
    """Return the runs that these sequences have started where another one has started the run ``inner``."""
    engine = conn.dialect.name
    is_alone = (
        run.c.item.is_(None),
        _mine.c.item.is_(None),
        _is_last(visit),
        _is_last(_its),
        recovery.given(engine, "run") == recovery.given(engine, "mine"),
        sa.func.coalesce(run.c.for_worker, _EMPTY) == sa.func.coalesce(_mine.c.for_worker, _EMPTY),
    )
    query = (
        sa.select(run.c.id)
        .select_from(run)
        .join(visit, visit.c.id == run.c.visit_id)
        .join(_mine, recovery.unindexed(engine, "run.job") == _mine.c.job)
        .join(_its, (_its.c.id == _mine.c.visit_id) & (_its.c.step == visit.c.step))
        .where(_mine.c.id == inner, lists.by_id(visit.c.run_id, sequences))
        .where(sa.or_(sa.and_(*same_values(engine, run, _mine)), sa.and_(*is_alone)))
    )
    return conn.execute(query).scalars().all()


def _is_last(one: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a run of a sequence has visited the step of this visit no more."""
    later = visit.alias("later")
    again = (later.c.run_id == one.c.run_id, later.c.step == one.c.step, later.c.id > one.c.id)
    return ~sa.exists().where(*again).correlate(one)
