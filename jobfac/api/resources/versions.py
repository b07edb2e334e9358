"""`/v1/jobs/{job}/versions` and `/rollback`, and what has changed since a run."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import jobs as jobs_operations
from jobfac.operations import versions as operations
from jobfac.operations.caller import visible_run
from jobfac.store import jobs
from jobfac.store.api_keys import Role
from jobfac.views.jobs import ChangeView
from jobfac.views.serialization import all_as_json, as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/jobs/{job}/versions", responses={200: models.Versions}, errors=(404,))
def list_versions(request: ApiRequest, job: str, query: parameters.PageQuery) -> ApiResponse:
    """List the versions of a job, newest first."""
    found = request.read(operations.page, request.by, job, query.limit + 1, query.after)
    page = found[: query.limit]
    next_cursor = str(page[-1].version) if len(found) > query.limit else None
    return ApiResponse({"items": all_as_json(page), "next_cursor": next_cursor})


@ENDPOINTS.add("GET", "/v1/jobs/{job}/versions/{version:id}", responses={200: models.JobVersion}, errors=(404,))
def get_version(request: ApiRequest, job: str, version: int) -> ApiResponse:
    """Show a version of a job."""
    return ApiResponse(as_json(request.read(operations.one, request.by, job, version)))


@ENDPOINTS.add("POST", "/v1/jobs/{job}/rollback", role=Role.ADMIN, responses={200: models.Job}, errors=(404, 409))
def rollback(request: ApiRequest, job: str, body: parameters.RollbackBody) -> ApiResponse:
    """Make an earlier version of a job the current one again.

    It becomes a new version. Whether the job is enabled, and which of its schedules are paused, stays as it is. If one
    is paused, so are those that the job did not have.
    """
    stored = operations.rollback(request.db, request.by, job, body.version)
    return ApiResponse(as_json(jobs.view(stored)), headers={"ETag": jobs_operations.etag(stored)})


@ENDPOINTS.add("GET", "/v1/runs/{run:id}/changes", responses={200: models.Changes}, errors=(404,))
def changes(request: ApiRequest, run: int) -> ApiResponse:
    """Show what is different between the version that a run used and the job's current version."""

    def read(conn: sa.Connection) -> list[ChangeView]:
        found = visible_run(conn, request.caller, run)
        return operations.changes_since(conn, found.job, found.job_version)

    return ApiResponse({"items": all_as_json(request.read(read))})
