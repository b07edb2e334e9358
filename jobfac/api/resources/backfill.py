"""`/v1/jobs/{job}/backfill`: runs for due times that have passed."""

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations.bulk import backfill as operations
from jobfac.store.api_keys import Role
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()


class BackfillBody(parameters.Body):
    """Due times from ``from`` on and before ``to``. ``at_most``: how many of the runs may run at a time. ``schedule``:
    only this one of the job's schedules; left out: all. ``priority``: null: 100 below that of the job."""

    model_config = ConfigDict(populate_by_name=True)

    since: Annotated[parameters.Moment, Field(alias="from")]
    until: Annotated[parameters.Moment, Field(alias="to")]
    at_most: Annotated[int, Field(ge=1, le=1000), parameters.Whole] = 1
    schedule: parameters.Word | SkipJsonSchema[None] = None
    priority: Annotated[int, Field(ge=-1000, le=1000), parameters.Whole] | None = None
    dry_run: bool = False

    _all_are_meant = parameters.given("schedule", "leave it out for all schedules of the job")


@ENDPOINTS.add(
    "POST", "/v1/jobs/{job}/backfill", role=Role.OPERATOR, responses={200: models.Backfill}, errors=(404, 409)
)
def backfill(request: ApiRequest, job: str, body: BackfillBody) -> ApiResponse:
    """Start runs for due times that have passed.

    Each due time of the job's schedules gets one run, unless it has one already, so the request may be repeated. One
    request is for at most 1,000 due times; `next_from` continues it.
    """
    wanted = operations.BackfillRequest(job, body.since, body.until, body.schedule, body.at_most, body.priority)
    return ApiResponse(as_json(operations.backfill(request.db, request.by, wanted, dry_run=body.dry_run)))
