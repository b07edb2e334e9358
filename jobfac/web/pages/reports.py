"""`/reports`: the reports by period, and the same as CSV."""

import csv
import io
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from markupsafe import Markup
from starlette.responses import Response

from jobfac.errors import NotFound
from jobfac.reports import REPORTS, Facts, Report, facts, period
from jobfac.reports.form import NUMBERS, shown
from jobfac.reports.page import runs_by_day, tiles
from jobfac.reports.rows import Kind
from jobfac.store.history import directory
from jobfac.views.serialization import all_as_json
from jobfac.web.kept import Kept
from jobfac.web.page import Page, get
from jobfac.web.visit import HEADERS, Visit

PERIODS = (1, 7, 30, 90)
"""The selectable numbers of days."""

ROWS = 50
"""The maximum number of rows of a table on the page. The CSV has all rows."""

AGE = 120.0
"""Seconds for which reports are cached. The page shows their time."""


class Shaped(NamedTuple):
    """Reports as the page shows them. ``reports``: each with its first rows as cells of text, class and link."""

    made: datetime
    tiles: Markup
    chart: Markup
    reports: list[tuple[Report[Any], list[list[tuple[str, str, str]]], int]]


class Chosen(NamedTuple):
    """The period and the category that the URL asks for."""

    since: date
    until: date
    days: int
    category: str | None


_KEPT: Kept[Shaped] = Kept(AGE)


def _chosen(visit: Visit) -> Chosen:
    days = visit.query["days"]
    number = int(days) if days.isdecimal() and int(days) in PERIODS else PERIODS[1]
    until = visit.read(period).until
    return Chosen(until - timedelta(days=number - 1), until, number, visit.query.get("category"))


def _facts(visit: Visit, chosen: Chosen) -> Facts:
    return visit.read(lambda conn: facts(conn, period(conn, chosen.since, chosen.until), None, chosen.category))


def _shaped(found: Facts) -> Shaped:
    made = [REPORTS[name](found) for name in REPORTS if name != "trend"]
    cells = [(replace(one, rows=[]), _cells(one), max(0, len(one.rows) - ROWS)) for one in made]
    return Shaped(found.period.now, Markup(tiles(found)), Markup(runs_by_day(found)), cells)


def reports(visit: Visit) -> Response:
    """Show all reports of a period."""
    chosen = _chosen(visit)
    shaped = _KEPT.get((id(visit.service.db), chosen), lambda: _shaped(_facts(visit, chosen)))
    numbers, categories = visit.together(directory.categories)
    return visit.render(
        "reports.html", active="reports", counts=numbers, query=visit.query, days=chosen.days, periods=PERIODS,
        category=chosen.category, categories=categories, **shaped._asdict(),
    )  # fmt: skip


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
    name = visit.path("name")
    if name not in REPORTS:
        raise NotFound(f"There is no report '{name}'; there are {', '.join(REPORTS)}.")
    made = REPORTS[name](_facts(visit, _chosen(visit)))
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
