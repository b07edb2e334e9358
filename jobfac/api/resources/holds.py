"""`/v1/holds`."""

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import holds as operations
from jobfac.store.api_keys import Role
from jobfac.store.holds.placing import Scope
from jobfac.views.serialization import all_as_json, as_json


def list_holds(ask: ApiRequest) -> Answer:
    """List holds."""
    found = ask.service.db.query(operations.list_holds, ask.by, ask.query.all, retry_for=RETRY_FOR)
    return Answer({"items": all_as_json(found)})


def hold(ask: ApiRequest) -> Answer:
    """Let nothing new start in a pool, in a category, of a job, or at all.

    What runs goes on, and what waits keeps its place.
    """
    body: parameters.HoldBody = ask.body
    scope = Scope(body.pool, body.category, body.job)
    placed = operations.hold(ask.service.db, ask.by, scope, body.reason, body.until)
    return Answer(as_json(placed), 201)


def release(ask: ApiRequest) -> Answer:
    """End a hold."""
    return Answer(as_json(operations.release(ask.service.db, ask.by, ask.path["hold"])))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/holds",
        handler=list_holds,
        query=parameters.HoldsQuery,
        answers={200: models.Holds},
    ),
    Endpoint(
        method="POST",
        path="/v1/holds",
        handler=hold,
        role=Role.OPERATOR,
        body=parameters.HoldBody,
        answers={201: models.Hold},
        errors=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/holds/{hold:id}",
        handler=release,
        role=Role.OPERATOR,
        answers={200: models.Hold},
        errors=(404,),
    ),
)
