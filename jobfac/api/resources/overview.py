"""`/v1/overview`: the current state of the factory in one response."""

from jobfac.api import models
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.store import overview
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/overview", responses={200: models.Overview})
def get_overview(request: ApiRequest) -> ApiResponse:
    """Show the current state of the factory.

    Live workers, queued runs by pool, running runs, the runs that ended last, and the schedules that are due next. A
    key that is limited to categories sees the runs and schedules of their jobs, and all workers.
    """
    return ApiResponse(as_json(request.read(overview.read, request.caller.categories)))
