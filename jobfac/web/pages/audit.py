"""`/audit`: who did what."""

import json

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.store.history import audit_log
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

LIMIT = 100
"""The number of entries on one page."""


def audit(visit: Visit) -> Response:
    """List the audit."""
    query = visit.query
    below = query.get("below", "")

    def read(conn: sa.Connection) -> audit_log.Found:
        return audit_log.find(
            conn, LIMIT, text=query.get("q"), action=query.get("action"),
            below=int(below) if below.isdecimal() and len(below) < 19 else None,
        )  # fmt: skip

    numbers, found = visit.together(read)
    return visit.render("audit.html", active="audit", counts=numbers, query=query, found=found, laid_out=laid_out)


def laid_out(text: str | None) -> str:
    """Return the state before or after as text. JSON is indented."""
    if not text or not text.startswith("{"):
        return text or ""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


PAGES: tuple[Page, ...] = (get("/audit", audit, everywhere=True),)
