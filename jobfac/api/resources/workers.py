"""`/v1/workers`."""

from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.routing import Answer, Ask, Call
from jobfac.operations import workers as operations
from jobfac.store import workers
from jobfac.store.api_keys import Role
from jobfac.views.serialization import all_as_json


def list_workers(ask: Ask) -> Answer:
    """List workers, newest first."""
    found = ask.service.db.query(workers.workers, not ask.query.all, retry_for=PATIENCE)
    return Answer({"items": all_as_json(found)})


def drain(ask: Ask) -> Answer:
    """Ask a worker to leave when its runs are done."""
    operations.drain(ask.service.db, ask.by, ask.path["worker"])
    return Answer(None, 204)


CALLS = (
    Call(
        method="GET",
        path="/v1/workers",
        handler=list_workers,
        query=parameters.WorkersQuery,
        answers={200: models.Workers},
    ),
    Call(
        method="POST",
        path="/v1/workers/{worker:id}/drain",
        handler=drain,
        role=Role.OPERATOR,
        everywhere=True,
        answers={204: None},
        errors=(404,),
    ),
)
