"""The part of the queued runs that a worker may claim, as the database has them. ``fair_share`` decides."""

from collections.abc import Mapping

import sqlalchemy as sa

from jobfac.store.workers import fleet_load
from jobfac.store.workers.claiming import Suspects, best_queues
from jobfac.worker.loop.fair_share import Share, share_of


def share_in(conn: sa.Connection, worker_id: int, queues: Mapping[str, int], without: Suspects | None = None) -> Share:
    """Return the part of the queued runs that the worker may claim. Reads their order only if it matters.

    ``without``: leave out those that it suspects. The worker passes them over, so no slot may be kept for them.
    """
    fleet = fleet_load.fleet(conn, queues)
    queued = fleet_load.queued(
        conn, queues, sum(load.slots for load in fleet) + 1, None if without is None else without.losses
    )
    share = share_of(worker_id, fleet, queued, queues)
    if not share.is_contested:
        return share
    # A power of two, so that SQL Server sees few different texts.
    limit = 1 << sum(load.free for load in fleet).bit_length()
    order = best_queues(conn, {queue: limit for queue, number in queued.items() if number}, without)
    return share_of(worker_id, fleet, queued, queues, order)
