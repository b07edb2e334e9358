"""Reports as JSON, and back."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from jobfac.reports import rows as kinds
from jobfac.reports.facts import Period
from jobfac.reports.rows import Report
from jobfac.views.serialization import all_as_json, as_json, from_json, is_view

ROWS: dict[str, type[tuple[Any, ...]]] = {name: kind for name, kind in vars(kinds).items() if is_view(kind)}
"""The types of rows by their names."""


def document(made: Report[Any], only: str) -> dict[str, Any]:
    """Return a report as a JSON object. ``only``: what it is restricted to, in words."""
    return {
        "report": made.name,
        "since": made.period.since.isoformat(),
        "until": made.period.until.isoformat(),
        "made_at": made.period.now.isoformat(timespec="milliseconds"),
        "title": made.title,
        "note": made.note,
        "only": only,
        "row": made.row.__name__,
        "rows": all_as_json(made.rows),
        "total": None if made.total is None else as_json(made.total),
    }


def from_document(found: Mapping[str, Any]) -> tuple[Report[Any], str]:
    """Return the report of a JSON object, and what it is restricted to."""
    since, until = date.fromisoformat(found["since"]), date.fromisoformat(found["until"])
    period = Period(since, until, datetime.fromisoformat(found["made_at"]))
    row = ROWS[found["row"]]
    rows = [from_json(row, one) for one in found["rows"]]
    total = None if found["total"] is None else from_json(row, found["total"])
    return Report(found["report"], found["title"], found["note"], period, row, rows, total), found["only"]
