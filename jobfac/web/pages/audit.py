"""`/audit`: who did what."""

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.store.history import audit_log
from jobfac.web.indentation import indented
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

LIMIT = 100
"""The number of entries on one page."""


def audit(visit: Visit) -> Response:
    """List the audit."""
    query = visit.query

    def read(conn: sa.Connection) -> audit_log.Found:
        return audit_log.find(
            conn, LIMIT, text=query.get("q"), action=query.get("action"),
            below=visit.number("below"),
        )  # fmt: skip

    numbers, found = visit.together(read)
    return visit.render(
        "audit.html", active="audit", counts=numbers, query=query, found=found, scan=audit_log.SCAN, indented=indented
    )


PAGES: tuple[Page, ...] = (get("/audit", audit, everywhere=True),)
