"""`/fleet`: workers, what each runs, schedulers, and the queue by pool."""

from collections import defaultdict
from datetime import timedelta

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.operations import workers as operations
from jobfac.store import jobs, overview, schedulers
from jobfac.store.overview import Executed
from jobfac.store.runs import queue_of_worker
from jobfac.views.overview import Overview
from jobfac.views.workers import AFTER_LIMIT, SchedulerView
from jobfac.web import commands
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Visit

SEQUENCES = jobs.SEQUENCE_QUEUE
RUNS = 6
"""How many runs the page names of each worker."""


def fleet(visit: Visit) -> Response:
    """Show the live workers and the schedulers."""

    categories = visit.caller.categories

    def read(conn: sa.Connection) -> tuple[Overview, list[Executed], list[SchedulerView]]:
        return overview.read(conn, categories), overview.by_worker(conn, categories, RUNS), schedulers.schedulers(conn)

    numbers, (seen, executed, found) = visit.together(read)
    runs: defaultdict[int, list[Executed]] = defaultdict(list)
    for run in executed:
        runs[run.worker_id].append(run)
    return visit.render(
        "fleet.html", active="fleet", counts=numbers, workers=sorted(seen.workers, key=lambda one: one.name),
        holds=seen.holds, more_holds=seen.more_holds, runs=runs, queued=seen.queued,
        served=overview.served(seen.workers, seen.now), unclaimed=overview.unclaimed(seen.workers, seen.now),
        pools=sorted({pool for one in seen.workers for pool in one.pools}),
        sequences=SEQUENCES, pinned=queue_of_worker(""), now=seen.now, schedulers=found,
        silent_since=seen.now - timedelta(seconds=schedulers.SILENT), after_limit=AFTER_LIMIT,
    )  # fmt: skip


def undrain(visit: Visit) -> Response:
    """Let a draining worker claim runs again."""
    worker_id = visit.path("worker")
    operations.undrain(visit.service.db, visit.by, worker_id)
    text = f"Worker {worker_id} claims runs again."
    return visit.back(Notice(text, commands.line("workers", "undrain", worker_id)), "/fleet")


def drain(visit: Visit) -> Response:
    """Ask a worker to claim no more runs, and to exit when its runs have ended or its ``drain_limit`` is over."""
    worker_id = visit.path("worker")
    operations.drain(visit.service.db, visit.by, worker_id)
    text = f"Worker {worker_id} claims no more runs and exits when its runs have ended. {AFTER_LIMIT}"
    return visit.back(Notice(text, commands.line("workers", "drain", worker_id)), "/fleet")


PAGES: tuple[Page, ...] = (
    get("/fleet", fleet),
    act("/fleet/{worker:id}/drain", drain, everywhere=True),
    act("/fleet/{worker:id}/undrain", undrain, everywhere=True),
)
