"""`/v1/schedules`."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.listing import without_large
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import schedules as operations
from jobfac.operations.caller import visible_job
from jobfac.store import schedules
from jobfac.store.api_keys import Role
from jobfac.views.schedules import CandidateView
from jobfac.views.serialization import all_as_json, as_json


def list_schedules(ask: ApiRequest) -> Answer:
    """List schedules."""
    found = ask.service.db.query(schedules.list_schedules, ask.query.job, ask.caller.categories, retry_for=RETRY_FOR)
    return Answer({"items": [without_large(one) for one in all_as_json(found)]})


def preview(ask: ApiRequest) -> Answer:
    """Show when a job would be due."""
    query: parameters.PreviewQuery = ask.query

    def read(conn: sa.Connection) -> list[CandidateView]:
        visible_job(conn, ask.caller, query.job)
        return schedules.preview(conn, query.job, query.count, query.start, query.explain)

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


def pause(ask: ApiRequest) -> Answer:
    """Let a schedule start nothing."""
    operations.pause(ask.service.db, ask.by, ask.path["schedule"])
    return _schedule(ask)


def resume(ask: ApiRequest) -> Answer:
    """Let a schedule start runs again.

    What was due meanwhile counts as missed; the schedule's `missed` says what comes of it.
    """
    operations.resume(ask.service.db, ask.by, ask.path["schedule"])
    return _schedule(ask)


def _schedule(ask: ApiRequest) -> Answer:
    return Answer(as_json(ask.service.db.query(schedules.get, ask.path["schedule"], retry_for=RETRY_FOR)))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/schedules",
        handler=list_schedules,
        query=parameters.SchedulesQuery,
        answers={200: models.Schedules},
    ),
    Endpoint(
        method="GET",
        path="/v1/schedules/preview",
        handler=preview,
        query=parameters.PreviewQuery,
        answers={200: models.Candidates},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/schedules/{schedule:id}/pause",
        handler=pause,
        role=Role.OPERATOR,
        answers={200: models.Schedule},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/schedules/{schedule:id}/resume",
        handler=resume,
        role=Role.OPERATOR,
        answers={200: models.Schedule},
        errors=(404,),
    ),
)
