"""`/reports`: the reports by period, and the same as CSV."""

import csv
import io
import threading
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from markupsafe import Markup
from starlette.responses import Response

from jobfac.reports import REPORTS, Facts, Report, facts, period
from jobfac.reports.form import NUMBERS, shown
from jobfac.reports.page import runs_by_day, tiles
from jobfac.reports.rows import Kind
from jobfac.store.history import directory
from jobfac.views.serialization import all_as_json
from jobfac.web.page import Page, get
from jobfac.web.visit import HEADERS, Visit

PERIODS = (1, 7, 30, 90)
"""Days that can be chosen."""

ROWS = 50
"""Rows of a table on the page; the CSV has all."""

AGE = 60.0
"""Seconds for which facts are used again: the statistics behind them are counted once a minute."""

KEPT = 8
"""Sets of facts that are kept."""


class Kept:
    """Facts that were read lately. One thread at a time reads new ones. Used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[Any, ...], tuple[float, Facts]] = {}

    def facts(self, visit: Visit, since: date | None, until: date | None, category: str | None) -> Facts:
        """Return the facts of a period."""
        key = (id(visit.service.db), since, until, category)
        with self._lock:
            known = self._found.get(key)
            if known is None or known[0] < time.monotonic():
                read = visit.read(lambda conn: facts(conn, period(conn, since, until), None, category))
                self._found[key] = known = time.monotonic() + AGE, read
                while len(self._found) > KEPT:
                    del self._found[next(iter(self._found))]
        return known[1]


_KEPT = Kept()


def _facts(visit: Visit) -> tuple[Facts, int, str | None]:
    days = visit.query.get("days", "7")
    number = int(days) if days.isdecimal() and int(days) in PERIODS else 7
    category = visit.query.get("category")
    until = visit.service.db.query(lambda conn: period(conn)).until
    return _KEPT.facts(visit, until - timedelta(days=number - 1), until, category), number, category


def reports(visit: Visit) -> Response:
    """Show all reports of a period."""
    found, days, category = _facts(visit)

    def read(conn: sa.Connection) -> Sequence[str]:
        return directory.categories(conn)

    numbers, categories = visit.together(read)
    made = [REPORTS[name](found) for name in REPORTS if name != "trend"]
    return visit.render(
        "reports.html",
        active="reports",
        counts=numbers,
        query=visit.query,
        days=days,
        category=category,
        periods=PERIODS,
        categories=categories,
        tiles=Markup(tiles(found)),
        chart=Markup(runs_by_day(found)),
        reports=[(one, _cells(one)) for one in made],
        made=found.period.now,
        rows=ROWS,
    )


def _cells(report: Report[Any]) -> list[list[tuple[str, str, str]]]:
    """Return the rows as cells: text, class and link."""
    return [
        [_cell(key, getattr(row, key), column.kind) for key, column in report.columns.items()]
        for row in report.rows[:ROWS]
    ]


def _cell(key: str, value: Any, kind: Kind) -> tuple[str, str, str]:
    link = ""
    if kind is Kind.RUN and value is not None:
        link = f"/runs/{value}"
    elif key == "job":
        link = f"/jobs/{value}"
    name = "n" if kind in NUMBERS else "why" if key == "reason" else "job" if key == "job" else ""
    return shown(value, kind), name, link


def as_csv(visit: Visit) -> Response:
    """Return one report as CSV."""
    found, _, _ = _facts(visit)
    name = visit.path("name")
    made = REPORTS.get(name, REPORTS["summary"])(found)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(made.columns), lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(all_as_json(made.rows))
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{made.name}.csv"'}
    return Response(text.getvalue(), headers=headers, media_type="text/csv; charset=utf-8")


PAGES: tuple[Page, ...] = (
    get("/reports", reports, everywhere=True),
    get("/reports/{name}.csv", as_csv, everywhere=True),
)
