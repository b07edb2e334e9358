"""`/v1/schedules`."""

from typing import Any

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.listing import without_large
from jobfac.api.resources.jobs import visible as visible_job
from jobfac.api.routing import Answer, Ask, Call
from jobfac.store import schedules
from jobfac.store.api_keys import Role


def list_schedules(ask: Ask) -> Answer:
    """Schedules by job and name."""
    found = ask.service.db.query(schedules.list_schedules, ask.query.job, ask.caller.categories, retry_for=PATIENCE)
    return Answer({"items": [without_large(one) for one in found]})


def preview(ask: Ask) -> Answer:
    """When a job would be due."""
    query: parameters.PreviewQuery = ask.query

    def read(conn: sa.Connection) -> list[dict[str, Any]]:
        visible_job(conn, ask.caller, query.job)
        return schedules.preview(conn, query.job, query.count, query.start, query.explain)

    return Answer({"items": ask.service.db.query(read, retry_for=PATIENCE)})


def pause(ask: Ask) -> Answer:
    """Let it start nothing."""
    return _switch(ask, schedules.pause)


def resume(ask: Ask) -> Answer:
    """Let it start runs again."""
    return _switch(ask, schedules.resume)


def _switch(ask: Ask, switch: Any) -> Answer:
    def work(conn: sa.Connection) -> dict[str, Any]:
        found = schedules.get(conn, ask.path["schedule"])
        visible_job(conn, ask.caller, found["job"])
        switch(conn, found["job"], found["name"], ask.caller.name)
        return schedules.get(conn, ask.path["schedule"])

    return Answer(ask.service.db.transact(work, retry_for=PATIENCE))


CALLS = (
    Call(
        method="GET",
        path="/v1/schedules",
        handler=list_schedules,
        summary="List schedules",
        query=parameters.SchedulesQuery,
        answers={200: models.Schedules},
    ),
    Call(
        method="GET",
        path="/v1/schedules/preview",
        handler=preview,
        summary="Show when a job would be due",
        query=parameters.PreviewQuery,
        answers={200: models.Candidates},
        errors=(404,),
    ),
    Call(
        method="POST",
        path="/v1/schedules/{schedule:id}/pause",
        handler=pause,
        summary="Let a schedule start nothing",
        role=Role.OPERATOR,
        answers={200: models.Schedule},
        errors=(404,),
    ),
    Call(
        method="POST",
        path="/v1/schedules/{schedule:id}/resume",
        handler=resume,
        summary="Let a schedule start runs again",
        description="What was due meanwhile counts as missed; the schedule's `missed` says what comes of it.",
        role=Role.OPERATOR,
        answers={200: models.Schedule},
        errors=(404,),
    ),
)
