"""`/v1/jobs`: definitions of jobs and sequences, each with an ETag."""

from jobfac.api import models, parameters
from jobfac.api.definition_schema import Definition, without_large
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import jobs as operations
from jobfac.operations.caller import visible_job
from jobfac.store import jobs
from jobfac.store.api_keys import Role
from jobfac.store.jobs import category_defaults
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()


def _job(stored: jobs.Stored, status: int = 200) -> ApiResponse:
    headers = {"ETag": operations.etag(stored)}
    if status == 201:
        headers["Location"] = f"/v1/jobs/{stored.id}"
    return ApiResponse(as_json(jobs.view(stored)), status, headers)


@ENDPOINTS.add("GET", "/v1/jobs", responses={200: models.Jobs})
def list_jobs(request: ApiRequest, query: parameters.JobsQuery) -> ApiResponse:
    """List jobs and sequences."""
    found = sorted(request.read(jobs.load_all), key=lambda job: job.id)  # as the cursor compares, not as a collation
    visible = [job for job in found if request.caller.sees(job.category)]
    rest = [job for job in visible if not query.cursor or job.id > query.cursor]
    page = rest[: query.limit]
    next_cursor = page[-1].id if len(rest) > query.limit else None
    return ApiResponse({"items": [without_large(as_json(jobs.view(job))) for job in page], "next_cursor": next_cursor})


@ENDPOINTS.add("GET", "/v1/jobs/{job}", responses={200: models.Job}, errors=(404,))
def get_job(request: ApiRequest, job: str) -> ApiResponse:
    """Show a job."""
    return _job(request.read(visible_job, request.caller, job))


@ENDPOINTS.add("PUT", "/v1/jobs/{job}", role=Role.ADMIN, responses={200: models.Job, 201: models.Job}, errors=(412,))
def put_job(request: ApiRequest, job: str, headers: parameters.PutHeaders, body: Definition) -> ApiResponse:
    """Create or change a job.

    The body is the content of a definition file under the job's id. Without `enabled`, the job keeps its value.
    """
    written = operations.put(
        request.db,
        request.by,
        job,
        body,
        if_match=headers.if_match,
        if_absent=headers.if_none_match is not None,
    )
    return _job(written.stored, 201 if written.created else 200)


@ENDPOINTS.add("DELETE", "/v1/jobs/{job}", role=Role.ADMIN, responses={204: None}, errors=(404, 409, 412))
def delete_job(request: ApiRequest, job: str, headers: parameters.ChangeHeaders) -> ApiResponse:
    """Delete a job.

    Its history stays, and its waiting and running runs continue.
    """
    operations.delete(request.db, request.by, job, if_match=headers.if_match)
    return ApiResponse(None, 204)


@ENDPOINTS.add("POST", "/v1/jobs/{job}/enable", role=Role.OPERATOR, responses={200: models.Job}, errors=(404,))
def enable_job(request: ApiRequest, job: str) -> ApiResponse:
    """Allow starts of a job."""
    return _job(operations.enable(request.db, request.by, job))


@ENDPOINTS.add("POST", "/v1/jobs/{job}/disable", role=Role.OPERATOR, responses={200: models.Job}, errors=(404,))
def disable_job(request: ApiRequest, job: str) -> ApiResponse:
    """Refuse starts of a job."""
    return _job(operations.disable(request.db, request.by, job))


@ENDPOINTS.add("GET", "/v1/defaults", responses={200: models.CategoryDefaults})
def list_defaults(request: ApiRequest) -> ApiResponse:
    """Show the defaults of categories. Those that this version of jobfac cannot read are shown as they are stored."""
    stored = request.read(category_defaults.load)
    visible = {category: entry for category, entry in stored.items() if request.caller.sees(category)}
    return ApiResponse({"defaults": visible})
