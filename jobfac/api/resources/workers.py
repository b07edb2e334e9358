"""`/v1/workers`: list workers, drain one and cancel a drain."""

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import workers as operations
from jobfac.store import workers
from jobfac.store.api_keys import Role
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/workers", responses={200: models.Workers})
def list_workers(request: ApiRequest, query: parameters.WorkersQuery) -> ApiResponse:
    """List up to 1,000 workers: the live ones first, then the newest that have left."""
    return ApiResponse({"items": all_as_json(request.read(workers.workers, not query.all))})


@ENDPOINTS.add(
    "POST", "/v1/workers/{worker:id}/drain", role=Role.OPERATOR, unrestricted=True, responses={204: None}, errors=(404,)
)
def drain(request: ApiRequest, worker: int) -> ApiResponse:
    """Ask a worker to claim no more runs and to exit when its runs have ended.

    Those that still run after the worker's `drain_limit` (60 s by default) are stopped and queued again, or end as lost
    if their job has `restartable: false`.
    """
    operations.drain(request.db, request.by, worker)
    return ApiResponse(None, 204)


@ENDPOINTS.add(
    "POST",
    "/v1/workers/{worker:id}/undrain",
    role=Role.OPERATOR,
    unrestricted=True,
    responses={204: None},
    errors=(404, 409),
)
def undrain(request: ApiRequest, worker: int) -> ApiResponse:
    """Let a draining worker claim runs again. 409: a signal drains it, which cannot be taken back."""
    operations.undrain(request.db, request.by, worker)
    return ApiResponse(None, 204)
