"""`/v1/reports`: statistics of runs."""

import re
from datetime import date
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import HTMLResponse

from jobfac import reports
from jobfac.api import models, parameters
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.reports.document import document

ENDPOINTS = Endpoints()


def _read_day(value: Any) -> Any:
    """Return the day of a text such as 2027-01-31, and nothing else that might be taken for one."""
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("must be a day such as 2027-01-31")
    return value


Day = Annotated[date, BeforeValidator(_read_day)]


class ReportQuery(parameters.Parameters):
    since: Day | None = Field(None, description="The first day (UTC); default: 30 days, including the last.")
    until: Day | None = Field(None, description="The last day; default: today.")
    job: parameters.Word | None = Field(None, description="Only this job.")
    category: parameters.Word | None = Field(None, description="Only jobs of this category.")
    spans: int | None = Field(
        None, ge=1, le=100, description="For `trend`: one row for each job, with this many spans."
    )


@ENDPOINTS.add(
    "GET", "/v1/reports/{report}", unrestricted=True, responses={200: models.ReportDocument}, errors=(404, 409)
)
def get_report(request: ApiRequest, report: str, query: ReportQuery) -> ApiResponse:
    """Read a report: summary, failures, slowest, late, trend or utilisation."""
    if report not in reports.REPORTS:
        raise Problem(404, f"There is no report '{report}'; there are {', '.join(reports.REPORTS)}.")
    data = _facts(request, query)
    made = (
        reports.job_history(data, query.spans) if query.spans and report == "trend" else reports.REPORTS[report](data)
    )
    return ApiResponse(document(made, data.filter_text))


@ENDPOINTS.add(
    "GET",
    "/v1/reports.html",
    unrestricted=True,
    media_types={"text/html": "A page that loads nothing and runs no script."},
    errors=(404, 409),
)
def get_report_page(request: ApiRequest, query: ReportQuery) -> HTMLResponse:
    """Read all reports as one HTML page."""
    return HTMLResponse(reports.page(_facts(request, query)))


def _facts(request: ApiRequest, query: ReportQuery) -> reports.Facts:
    if query.since is not None and query.until is not None and query.since > query.until:
        raise Problem(409, f"since ({query.since}) must not be later than until ({query.until}).")
    since = None if query.since is None else max(query.since, reports.EARLIEST)
    until = None if query.until is None else max(query.until, reports.EARLIEST)

    def read(conn: sa.Connection) -> reports.Facts:
        return reports.facts(conn, reports.period(conn, since, until), query.job, query.category)

    return request.read(read)
