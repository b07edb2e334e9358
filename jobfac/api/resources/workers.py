"""`/v1/workers`."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.routing import Answer, Ask, Call
from jobfac.errors import NotFound
from jobfac.store import audit, workers
from jobfac.store.api_keys import Role


def list_workers(ask: Ask) -> Answer:
    """The fleet, newest first."""
    rows = ask.service.db.query(workers.workers, not ask.query.all, retry_for=PATIENCE)
    return Answer({"items": [workers.present(row) for row in rows]})


def drain(ask: Ask) -> Answer:
    """Ask a worker to leave when its runs are done."""
    worker_id = ask.path["worker"]

    def work(conn: sa.Connection) -> None:
        if not workers.drain(conn, worker_id):
            raise NotFound(f"There is no live worker {worker_id}; `jobfac workers list` shows the fleet.")
        audit.note(conn, ask.caller.name, "drain", f"worker {worker_id}")

    ask.service.db.transact(work, retry_for=PATIENCE)
    return Answer(None, 204)


CALLS = (
    Call(
        method="GET",
        path="/v1/workers",
        handler=list_workers,
        summary="List workers, newest first",
        query=parameters.WorkersQuery,
        answers={200: models.Workers},
    ),
    Call(
        method="POST",
        path="/v1/workers/{worker:id}/drain",
        handler=drain,
        summary="Ask a worker to leave when its runs are done",
        role=Role.OPERATOR,
        everywhere=True,
        answers={204: None},
        errors=(404,),
    ),
)
