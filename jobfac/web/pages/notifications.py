"""`/notifications`: the notifications, which were not delivered, and why."""

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.channels import shown
from jobfac.operations import notifications as operations
from jobfac.states import Delivery
from jobfac.store import outbox
from jobfac.views.notifications import NotificationView
from jobfac.web import commands
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Visit

LIMIT = 50
"""The number of notifications on one page."""


def notifications(visit: Visit) -> Response:
    """List notifications."""
    query = visit.query
    word, below = query.get("state", ""), query.get("below", "")
    state = Delivery(word) if word in list(Delivery) else None

    def read(conn: sa.Connection) -> list[NotificationView]:
        return outbox.find(
            conn, shown, state, LIMIT + 1, categories=visit.caller.categories,
            below=int(below) if below.isdecimal() and len(below) < 19 else None,
        )  # fmt: skip

    numbers, found = visit.together(read)
    return visit.render(
        "notifications.html", active="notifications", counts=numbers, query=query, found=found[:LIMIT],
        below=found[LIMIT - 1].id if len(found) > LIMIT else None, states=list(Delivery),
    )  # fmt: skip


def requeue(visit: Visit) -> Response:
    """Deliver a dead notification again, or all of them."""
    chosen = visit.field("id")
    ids = [int(chosen)] if chosen.isdecimal() and len(chosen) < 19 else None
    done = operations.requeue(visit.service.db, visit.by, ids)
    number = "1 notification waits" if len(done) == 1 else f"{len(done)} notifications wait"
    words = commands.line("notify", "requeue", *map(str, ids or ()), *([] if ids else ["--all-dead"]))
    return visit.back(Notice(f"{number} for delivery again.", words), "/notifications")


PAGES: tuple[Page, ...] = (
    get("/notifications", notifications),
    act("/notifications/requeue", requeue, everywhere=True),
)
