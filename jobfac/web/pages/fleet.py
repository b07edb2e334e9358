"""`/fleet`: workers, what each runs, and the queue by pool."""

from collections import defaultdict

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.operations import holds
from jobfac.operations import workers as operations
from jobfac.store import jobs, overview
from jobfac.views.holds import HoldView
from jobfac.views.overview import Overview, RunLine
from jobfac.web import commands
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Visit

SEQUENCES = jobs.SEQUENCE_QUEUE


def fleet(visit: Visit) -> Response:
    """Show the live workers."""

    def read(conn: sa.Connection) -> tuple[Overview, list[HoldView]]:
        return overview.read(conn, visit.caller.categories), holds.list_holds(conn, visit.by)

    numbers, (seen, held) = visit.together(read)
    runs: defaultdict[str, list[RunLine]] = defaultdict(list)
    for run in seen.running:
        if run.worker is not None:
            runs[run.worker].append(run)
    served = {pool for worker in seen.workers for pool in worker.pools} | {SEQUENCES}
    return visit.render(
        "fleet.html", active="fleet", counts=numbers, workers=sorted(seen.workers, key=lambda one: one.name),
        holds=held, runs=runs, queued=seen.queued, served=served, sequences=SEQUENCES, now=seen.now,
    )  # fmt: skip


def drain(visit: Visit) -> Response:
    """Ask a worker to claim no more runs and to exit when its runs have ended."""
    worker_id = visit.path("worker")
    operations.drain(visit.service.db, visit.by, worker_id)
    text = f"Worker {worker_id} claims no more runs and exits when its runs have ended."
    return visit.back(Notice(text, commands.line("workers", "drain", worker_id)), "/fleet")


PAGES: tuple[Page, ...] = (
    get("/fleet", fleet),
    act("/fleet/{worker:id}/drain", drain, everywhere=True),
)
