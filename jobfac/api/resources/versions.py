"""`/v1/jobs/{job}/versions` and `/rollback`, and what has changed since a run."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import jobs as jobs_operations
from jobfac.operations import versions as operations
from jobfac.operations.caller import visible_run
from jobfac.store import jobs
from jobfac.store.api_keys import Role
from jobfac.views.jobs import ChangeView
from jobfac.views.serialization import all_as_json, as_json


def list_versions(ask: ApiRequest) -> Answer:
    """List the versions of a job, newest first."""
    found = ask.service.db.query(operations.history, ask.by, ask.path["job"], retry_for=RETRY_FOR)
    return Answer({"items": all_as_json(found)})


def rollback(ask: ApiRequest) -> Answer:
    """Make an earlier version of a job the current one again.

    It becomes a new version. Whether the job is enabled, and which of its schedules are paused, stays as it is.
    """
    stored = operations.rollback(ask.service.db, ask.by, ask.path["job"], ask.body.version)
    return Answer(as_json(jobs.view(stored)), headers={"ETag": jobs_operations.etag(stored)})


def changes(ask: ApiRequest) -> Answer:
    """Show what is different between the version that a run used and the job's current version."""

    def read(conn: sa.Connection) -> list[ChangeView]:
        run = visible_run(conn, ask.caller, ask.path["run"])
        return operations.changes_since(conn, run.job, run.job_version)

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/jobs/{job}/versions",
        handler=list_versions,
        answers={200: models.Versions},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job}/rollback",
        handler=rollback,
        role=Role.ADMIN,
        body=parameters.RollbackBody,
        answers={200: models.Job},
        errors=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/changes",
        handler=changes,
        answers={200: models.Changes},
        errors=(404,),
    ),
)
