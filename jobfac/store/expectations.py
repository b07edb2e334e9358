"""Expectations: a row for each job that says what success is expected of it. ``watching`` checks these rows."""

import json
from functools import lru_cache

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.tables import expectation
from jobfac.definitions.execution.watching import Expect
from jobfac.recurrence import expected
from jobfac.views.jobs import OverdueView
from jobfac.views.serialization import columns, from_row

_SAID = {"due_at": expectation.c.overdue_due_at.label("due_at")}
OVERDUE_COLUMNS = [_SAID[name] if name in _SAID else expectation.c[name] for name in columns(OverdueView)]
"""The columns that a statement selects to read an ``OverdueView``."""


def sync(conn: sa.Connection, job_id: str, expect: Expect | None) -> None:
    """Make the row of a job match its definition. An unchanged expectation keeps its row."""
    text = None if expect is None else _write(expect)
    mine = expectation.c.job == job_id
    stored = conn.execute(sa.select(expectation).where(mine)).first()
    if text == (stored and stored.definition):
        return
    if expect is None:
        conn.execute(expectation.delete().where(mine))
        return
    now = current_time(conn)
    if stored is None:
        begun = expected.begin(expect, now)
        values = {"job": job_id, "definition": text, "since": begun.since, "due_at": begun.due_at}
        conn.execute(expectation.insert().values(values))
        return
    before = expected.Expectation(stored.since, stored.due_at, stored.overdue_at, stored.overdue_due_at)
    changed = expected.change(expect, before, now)
    values = {"definition": text, "since": changed.since, "due_at": changed.due_at}
    conn.execute(expectation.update().where(mine).values(values))


def _write(expect: Expect) -> str:
    return json.dumps(expect.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, sort_keys=True)


@lru_cache(maxsize=2000)
def read(text: str) -> Expect:
    """Parse the stored form of an expectation."""
    return Expect.model_validate(json.loads(text))


def overdue(conn: sa.Connection) -> list[OverdueView]:
    """Return the jobs that are overdue, the longest first."""
    query = sa.select(*OVERDUE_COLUMNS).where(expectation.c.overdue_at.is_not(None)).order_by(expectation.c.overdue_at)
    return [from_row(OverdueView, row) for row in conn.execute(query).mappings()]
