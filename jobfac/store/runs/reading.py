"""Read runs and their attempts. A list leaves large values out, so a page is cheap even if the values are large."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import unless_longer
from jobfac.database.tables import attempt, run, visit
from jobfac.database.types import flag
from jobfac.errors import no_run
from jobfac.store import parameters
from jobfac.store.holds import reading as holds
from jobfac.store.holds.conditions import ANY
from jobfac.store.runs.request import FIRST
from jobfac.views.origins import origin_in_words
from jobfac.views.runs import AttemptView, RunView
from jobfac.views.serialization import Unread, columns, from_row

LIMIT = 4096
"""The maximum length of a value in a list, in characters."""

LARGE = ("arguments", "payload", "outputs", "parameters")
"""The columns of a run that may exceed ``LIMIT``."""

JSON = ("arguments", "outputs", "parameters")
"""Those of them that contain JSON."""


def listed(name: str) -> sa.ColumnElement[Any]:
    """Return a column of a run for a list. For a large value the database returns only the beginning."""
    column = run.c[name]
    if name not in LARGE:
        return column
    limit: sa.ColumnElement[Any] = sa.literal_column(str(LIMIT))
    return unless_longer(column, limit).label(name)


def without_large(row: Mapping[Any, Any]) -> RunView:
    """Return the view of a run, with None in place of each large value. ``truncated`` names these columns."""
    truncated = [name for name in LARGE if row[name] is not None and len(row[name]) > LIMIT]
    return from_row(RunView, {**row, **dict.fromkeys(truncated)})._replace(truncated=truncated)


def unread(row: sa.RowMapping) -> RunView:
    """Do the same as ``without_large``, but leave the JSON of the other values for ``as_json`` to read."""
    return without_large({**row, **{name: Unread(row[name]) for name in JSON if row[name] is not None}})


_STEP = sa.select(visit.c.step).where(visit.c.id == run.c.visit_id).scalar_subquery()

RUN_COLUMNS = [*(run.c[name] for name in columns(RunView)), run.c.origin.label("cause"), _STEP.label("step")]
"""The columns that a statement selects to read one run; see ``one_run``."""

_ATTEMPT_COLUMNS = [attempt.c[name] for name in columns(AttemptView)]


def get(conn: sa.Connection, run_id: int) -> RunView:
    """Return a run.

    Raises:
        NotFound: there is no run with this id.
    """
    query = sa.select(*RUN_COLUMNS, flag(ANY).label("holds")).where(run.c.id == run_id)
    row = conn.execute(query).mappings().first()
    if row is None:
        raise no_run(run_id)
    view = one_run(row)
    return with_holds(conn, [view])[0] if row["holds"] else view


def job_of(conn: sa.Connection, run_id: int) -> str | None:
    """Return the job of a run; None: there is no run with this id."""
    job: str | None = conn.execute(sa.select(run.c.job).where(run.c.id == run_id)).scalar()
    return job


def first_step(conn: sa.Connection, run_id: int) -> str | None:
    """Return the step with which a run of a sequence begins; None: the first one."""
    text = conn.execute(sa.select(run.c.overrides).where(run.c.id == run_id)).scalar()
    step: str | None = json.loads(text).get(FIRST) if text else None
    return step


def given_inside(conn: sa.Connection, run_id: int) -> dict[str, Any]:
    """Return what the start of a sequence gave to the jobs inside: ``arguments`` and ``payloads`` by job, if any."""
    text = conn.execute(sa.select(run.c.overrides).where(run.c.id == run_id)).scalar()
    found = json.loads(text) if text else {}
    return {name: found[name] for name in ("arguments", "payloads") if found.get(name)}


def stood_for(conn: sa.Connection, run_id: int) -> datetime | None:
    """Return the time for which a run stands, as its placeholders see it; None: that of its start by hand."""
    row = conn.execute(sa.select(run.c.origin, run.c.due_at, run.c.created_at).where(run.c.id == run_id)).one()
    due = parameters.due_of(*row)
    is_of_schedule = row.due_at is not None or "scheduled" in json.loads(row.origin or "{}")
    return due if is_of_schedule or abs(due - row.created_at) > timedelta(minutes=1) else None


def one_run(row: sa.RowMapping) -> RunView:
    """Return the view of a row with ``RUN_COLUMNS``, which says who or what started the run."""
    view = from_row(RunView, row)
    cause = json.loads(row["cause"]) if row["cause"] else {}
    return view._replace(origin=origin_in_words(view, cause, row["step"]))


def with_holds(conn: sa.Connection, views: list[RunView]) -> list[RunView]:
    """Add the hold that each run waits for."""
    over = holds.over_runs(conn, views)
    return (
        [view._replace(held=over[view.id].sentence) if view.id in over else view for view in views] if over else views
    )


def attempts(conn: sa.Connection, run_id: int) -> list[AttemptView]:
    """Return all attempts of a run, oldest first."""
    query = sa.select(*_ATTEMPT_COLUMNS).where(attempt.c.run_id == run_id).order_by(attempt.c.number)
    return [from_row(AttemptView, row) for row in conn.execute(query).mappings()]
