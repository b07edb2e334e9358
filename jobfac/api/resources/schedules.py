"""`/v1/schedules`: list, preview, pause and resume schedules."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.definition_schema import without_large
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import schedules as operations
from jobfac.operations.caller import visible_job
from jobfac.store import schedules
from jobfac.store.api_keys import Role
from jobfac.views.schedules import CandidateView
from jobfac.views.serialization import all_as_json, as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/schedules", responses={200: models.Schedules})
def list_schedules(request: ApiRequest, query: parameters.SchedulesQuery) -> ApiResponse:
    """List schedules."""
    categories = request.caller.categories
    views = request.read(schedules.list_schedules, query.job, categories)
    return ApiResponse({"items": [without_large(schedule) for schedule in all_as_json(views)]})


@ENDPOINTS.add("GET", "/v1/schedules/preview", responses={200: models.Candidates}, errors=(404,))
def preview(request: ApiRequest, query: parameters.PreviewQuery) -> ApiResponse:
    """Show when a job will be due."""

    def read(conn: sa.Connection) -> list[CandidateView]:
        visible_job(conn, request.caller, query.job)
        return schedules.preview(conn, query.job, query.count, query.start, query.explain)

    return ApiResponse({"items": all_as_json(request.read(read))})


@ENDPOINTS.add("GET", "/v1/schedules/load", unrestricted=True, responses={200: models.Load})
async def get_load(request: ApiRequest, query: parameters.LoadQuery) -> ApiResponse:
    """Show how full the coming days are.

    The runs of each hour by pool, with usual durations, against the slots of the live workers; and which times to move.
    """
    return ApiResponse(as_json(await request.service.read_slowly(request.caller, schedules.read_load, query.days)))


@ENDPOINTS.add(
    "POST", "/v1/schedules/{schedule:id}/pause", role=Role.OPERATOR, responses={200: models.Schedule}, errors=(404,)
)
def pause(request: ApiRequest, schedule: int) -> ApiResponse:
    """Pause a schedule: it starts no runs until it is resumed."""
    operations.pause(request.db, request.by, schedule)
    return _schedule(request, schedule)


@ENDPOINTS.add(
    "POST", "/v1/schedules/{schedule:id}/resume", role=Role.OPERATOR, responses={200: models.Schedule}, errors=(404,)
)
def resume(request: ApiRequest, schedule: int) -> ApiResponse:
    """Resume a schedule.

    Due times during the pause count as missed; `missed` of the schedule decides whether they still start runs.
    """
    operations.resume(request.db, request.by, schedule)
    return _schedule(request, schedule)


def _schedule(request: ApiRequest, schedule: int) -> ApiResponse:
    return ApiResponse(as_json(request.read(schedules.get, schedule)))
