"""The history of one job: its versions, and the outcomes of its runs by day."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import reduce
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import PASS, rows, unless_longer
from jobfac.database.tables import UNCOUNTED, daily, job, job_version, run
from jobfac.database.types import flag, sql_literals
from jobfac.states import FAILED, FINAL, RunState
from jobfac.store.history.totals import EndedRun, totals
from jobfac.store.runs.reading import LIMIT
from jobfac.store.statistics import COLUMNS
from jobfac.views.jobs import ListedVersionView
from jobfac.views.serialization import columns, from_row

UNCOUNTED_RUNS = 5000
"""The maximum number of the job's runs that are read because the daily statistics do not include them yet."""


class VersionRow(NamedTuple):
    """A version of a definition: its canonical JSON text."""

    version: int
    created_at: datetime
    created_by: str
    definition: str


def versions(conn: sa.Connection, job_id: str, limit: int) -> list[VersionRow]:
    """Return the newest versions of a job, newest first."""
    shown = (job_version.c[name] for name in columns(VersionRow))
    query = sa.select(*shown).where(job_version.c.job == job_id).order_by(job_version.c.version.desc()).limit(limit)
    return [from_row(VersionRow, row) for row in conn.execute(query).mappings()]


def listed(conn: sa.Connection, job_id: str, limit: int, below: int | None = None) -> list[ListedVersionView]:
    """Return the newest versions of a job, newest first, without large definitions. ``below``: only older ones."""
    text = unless_longer(job_version.c.definition, sa.literal_column(str(LIMIT))).label("definition")
    current = flag(job.c.version == job_version.c.version).label("current")
    others = (job_version.c[name] for name in ("job", "version", "created_at", "created_by"))
    query = sa.select(*others, text, current).join(job, job.c.id == job_version.c.job)
    query = query.where(job_version.c.job == job_id).order_by(job_version.c.version.desc()).limit(limit)
    if below is not None:
        query = query.where(job_version.c.version < below)
    return [_listed(row) for row in conn.execute(query).mappings()]


def _listed(row: sa.RowMapping) -> ListedVersionView:
    is_large = len(row["definition"]) > LIMIT
    definition = None if is_large else d.stored_body(row["definition"])
    known = {"current": bool(row["current"]), "definition": definition, "truncated": ["definition"] if is_large else []}
    return from_row(ListedVersionView, {**row, **known})


class Ended(NamedTuple):
    """How many runs ended in each of these ways. ``other``: stopped or denied."""

    succeeded: int = 0
    failed: int = 0
    mixed: int = 0
    other: int = 0

    @classmethod
    def of(cls, states: Mapping[str, int]) -> "Ended":
        """Count the final states of ``states``, numbers of runs by state. Other keys are ignored."""
        failed, mixed = sum(states[state.value] for state in FAILED), states[RunState.MIXED.value]
        whole = sum(states[state.value] for state in FINAL)
        good = states[RunState.SUCCEEDED.value]
        return cls(good, failed, mixed, whole - good - failed - mixed)

    @property
    def judged(self) -> int:
        """Number of runs that count for the success rate, as in reports and views."""
        return self.succeeded + self.failed + self.mixed

    def plus(self, other: "Ended") -> "Ended":
        """Return the sum."""
        return Ended(*(one + more for one, more in zip(self, other, strict=True)))

    @classmethod
    def total(cls, parts: Iterable["Ended"]) -> "Ended":
        """Return the sum of all."""
        return reduce(cls.plus, parts, cls())


def by_day(conn: sa.Connection, job_id: str, days: Sequence[date]) -> dict[date, Ended]:
    """Return how many of the job's runs ended on each of these days (UTC), and how."""
    found = {day: Ended() for day in days}
    given = rows.rows_table(conn.dialect.name, day=daily.c.day.type)
    query = sa.select(daily).join(given, given.c.day == daily.c.day).where(daily.c.job == job_id)
    for row in conn.execute(query, _days(days)).mappings():
        found[row["day"]] = found[row["day"]].plus(Ended.of({str(name): value for name, value in row.items()}))
    for (day, _), its in totals(EndedRun(*row) for row in conn.execute(_uncounted(job_id))).items():
        if day in found:
            found[day] = found[day].plus(Ended.of(its.states))
    return found


def _days(days: Sequence[date]) -> dict[str, str]:
    return {"rows": json.dumps([{"day": day.isoformat()} for day in days])}


def _uncounted(job_id: str) -> sa.Select[Any]:
    final = sa.text(f"run.state IN ({sql_literals(FINAL)})")
    query = sa.select(*COLUMNS).with_hint(run, PASS, "mssql").where(sa.text(UNCOUNTED), run.c.job == job_id, final)
    return query.order_by(run.c.ended_at).limit(UNCOUNTED_RUNS)
