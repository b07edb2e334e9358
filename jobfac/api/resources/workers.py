"""`/v1/workers`."""

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import workers as operations
from jobfac.store import workers
from jobfac.store.api_keys import Role
from jobfac.views.serialization import all_as_json


def list_workers(ask: ApiRequest) -> Answer:
    """List workers, newest first."""
    found = ask.service.db.query(workers.workers, not ask.query.all, retry_for=RETRY_FOR)
    return Answer({"items": all_as_json(found)})


def drain(ask: ApiRequest) -> Answer:
    """ApiRequest a worker to leave when its runs are done."""
    operations.drain(ask.service.db, ask.by, ask.path["worker"])
    return Answer(None, 204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/workers",
        handler=list_workers,
        query=parameters.WorkersQuery,
        answers={200: models.Workers},
    ),
    Endpoint(
        method="POST",
        path="/v1/workers/{worker:id}/drain",
        handler=drain,
        role=Role.OPERATOR,
        everywhere=True,
        answers={204: None},
        errors=(404,),
    ),
)
