"""`/v1/jobs`: definitions, each with an ETag that changes whenever what is shown changes."""

from typing import Any

from jobfac import definitions as d
from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.listing import without_large
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import jobs as operations
from jobfac.operations.caller import visible_job as visible
from jobfac.store import jobs
from jobfac.store.api_keys import Role
from jobfac.views.serialization import as_json


def _shown(stored: jobs.Stored, status: int = 200) -> Answer:
    headers = {"ETag": operations.etag(stored)}
    if status == 201:
        headers["Location"] = f"/v1/jobs/{stored.id}"
    return Answer(as_json(jobs.view(stored)), status, headers)


def list_jobs(ask: ApiRequest) -> Answer:
    """List jobs and sequences."""
    query: parameters.JobsQuery = ask.query
    known = ask.service.db.query(jobs.load_all, retry_for=RETRY_FOR)
    found = [one for one in known if ask.caller.sees(one.category) and (not query.cursor or one.id > query.cursor)]
    page = found[: query.limit]
    more = page[-1].id if len(found) > query.limit else None
    return Answer({"items": [without_large(as_json(jobs.view(one))) for one in page], "next_cursor": more})


def get_job(ask: ApiRequest) -> Answer:
    """Show a job."""
    return _shown(ask.service.db.query(visible, ask.caller, ask.path["job"], retry_for=RETRY_FOR))


def put_job(ask: ApiRequest) -> Answer:
    """Define or change a job.

    The body is what a definition file has under the job's id; without `enabled` that stays as it is.
    """
    headers: parameters.PutHeaders = ask.headers
    written = operations.put(
        ask.service.db,
        ask.by,
        ask.path["job"],
        ask.body,
        if_match=headers.if_match,
        if_absent=headers.if_none_match is not None,
    )
    return _shown(written.stored, 201 if written.created else 200)


def delete_job(ask: ApiRequest) -> Answer:
    """Delete a job.

    Its history stays; what waits or runs goes on.
    """
    operations.delete(ask.service.db, ask.by, ask.path["job"], if_match=ask.headers.if_match)
    return Answer(None, 204)


def enable_job(ask: ApiRequest) -> Answer:
    """Allow starts of a job."""
    return _shown(operations.enable(ask.service.db, ask.by, ask.path["job"]))


def disable_job(ask: ApiRequest) -> Answer:
    """Forbid starts of a job."""
    return _shown(operations.disable(ask.service.db, ask.by, ask.path["job"]))


def list_defaults(ask: ApiRequest) -> Answer:
    """Show the defaults of categories."""
    found = ask.service.db.query(jobs.load_defaults, retry_for=RETRY_FOR)
    return Answer({"defaults": {name: d.canonical(one) for name, one in found.items() if ask.caller.sees(name)}})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        query=parameters.JobsQuery,
        answers={200: models.Jobs},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job}",
        handler=get_job,
        answers={200: models.Job},
        errors=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/jobs/{job}",
        handler=put_job,
        role=Role.ADMIN,
        headers=parameters.PutHeaders,
        body=dict[str, Any],
        answers={200: models.Job, 201: models.Job},
        errors=(412,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/jobs/{job}",
        handler=delete_job,
        role=Role.ADMIN,
        headers=parameters.ChangeHeaders,
        answers={204: None},
        errors=(404, 409, 412),
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job}/enable",
        handler=enable_job,
        role=Role.OPERATOR,
        answers={200: models.Job},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job}/disable",
        handler=disable_job,
        role=Role.OPERATOR,
        answers={200: models.Job},
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/defaults",
        handler=list_defaults,
        answers={200: models.CategoryDefaults},
    ),
)
