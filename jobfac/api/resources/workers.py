"""`/v1/workers`: list workers, drain one and cancel a drain."""

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoint
from jobfac.operations import workers as operations
from jobfac.store import workers
from jobfac.store.api_keys import Role
from jobfac.views.serialization import all_as_json


def list_workers(request: ApiRequest, query: parameters.WorkersQuery) -> ApiResponse:
    """List workers, newest first."""
    return ApiResponse({"items": all_as_json(request.db.query(workers.workers, not query.all, retry_for=RETRY_FOR))})


def drain(request: ApiRequest, worker: int) -> ApiResponse:
    """Ask a worker to claim no more runs and to exit when its runs have ended."""
    operations.drain(request.db, request.by, worker)
    return ApiResponse(None, 204)


def undrain(request: ApiRequest, worker: int) -> ApiResponse:
    """Let a draining worker claim runs again."""
    operations.undrain(request.db, request.by, worker)
    return ApiResponse(None, 204)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/workers",
        handler=list_workers,
        responses={200: models.Workers},
    ),
    Endpoint(
        method="POST",
        path="/v1/workers/{worker:id}/drain",
        handler=drain,
        role=Role.OPERATOR,
        unrestricted=True,
        responses={204: None},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/workers/{worker:id}/undrain",
        handler=undrain,
        role=Role.OPERATOR,
        unrestricted=True,
        responses={204: None},
        errors=(404,),
    ),
)
