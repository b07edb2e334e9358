"""What both clients take and return, besides the views."""

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jobfac.reports import Report


class Text(NamedTuple):
    """A piece of output. ``skipped``: the bytes that were removed just before it."""

    stream: str
    data: bytes
    skipped: int


class ReportRequest(NamedTuple):
    """What a report is about. ``since`` and ``until``: days in UTC, both included; None: the last 30 days."""

    since: date | None
    until: date | None
    job: str | None
    category: str | None


class MadeReport(NamedTuple):
    """A report. ``only``: what it is restricted to, in words."""

    report: "Report[Any]"
    only: str
