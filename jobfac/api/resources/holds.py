"""`/v1/holds`."""

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import holds as operations
from jobfac.store.api_keys import Role
from jobfac.store.holds.placing import Scope
from jobfac.views.serialization import all_as_json, as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/holds", responses={200: models.Holds})
def list_holds(request: ApiRequest, query: parameters.HoldsQuery) -> ApiResponse:
    """List the active holds, oldest first; with `all` also those that have ended, newest first.

    With a key that is limited to categories, a page may have fewer items than `limit`, or none, and `next_cursor`
    continues it.
    """
    found = request.read(operations.list_holds, request.by, query.all, query.limit, query.after)
    cursor = None if found.cursor is None else str(found.cursor)
    return ApiResponse({"items": all_as_json(found.holds), "next_cursor": cursor})


@ENDPOINTS.add("POST", "/v1/holds", role=Role.OPERATOR, responses={201: models.Hold}, errors=(404, 409))
def hold(request: ApiRequest, body: parameters.HoldBody) -> ApiResponse:
    """Let nothing new start in a pool, in a category, of a job, or at all.

    What runs goes on, and what waits keeps its place.
    """
    scope = Scope(body.pool, body.category, body.job)
    placed = operations.hold(request.db, request.by, scope, body.reason, body.until)
    return ApiResponse(as_json(placed), 201)


@ENDPOINTS.add("DELETE", "/v1/holds/{hold:id}", role=Role.OPERATOR, responses={200: models.Hold}, errors=(404,))
def release(request: ApiRequest, hold: int) -> ApiResponse:
    """End a hold."""
    return ApiResponse(as_json(operations.release(request.db, request.by, hold)))
