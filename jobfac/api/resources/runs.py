"""`/v1/runs`, and starting: runs are shown as everywhere else, by ``RunView``."""

import time
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.problems import Problem
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import starting, stopping
from jobfac.operations.caller import visible_run as visible
from jobfac.states import FINAL, JobKind, RunState
from jobfac.store import parameters as store_parameters
from jobfac.store import runs, sequences
from jobfac.store.api_keys import Caller, Role
from jobfac.store.runs import StartRequest
from jobfac.views.runs import AttemptView, EventView, RunView
from jobfac.views.sequences import StepVisitView
from jobfac.views.serialization import all_as_json, as_json


def start(ask: ApiRequest) -> Answer:
    """Start a job.

    409: the job's definition refuses it (`run_id` is the denied run, if one was recorded).
    """
    body: parameters.StartBody = ask.body
    overrides: dict[str, Any] = {}
    if isinstance(body.arguments, dict):
        overrides["arguments"] = body.arguments
    if body.payloads is not None:
        overrides["payloads"] = body.payloads
    if body.notify is not None:
        overrides["notify"] = [entry.model_dump(mode="json", exclude_defaults=True) for entry in body.notify]
    request = StartRequest(
        job=ask.path["job"],
        by=ask.by.name,
        arguments=body.arguments if isinstance(body.arguments, list) else None,
        payload=body.payload,
        priority=body.priority,
        delay=body.delay,
        at=body.at,
        key=ask.headers.key,
        overrides=overrides or None,
        parameters=body.parameters,
    )
    return _started(starting.start(ask.service.db, ask.by, request))


def _started(row: RunView) -> Answer:
    place = {"Location": f"/v1/runs/{row.id}"}
    if row.state == RunState.DENIED:
        detail = f"Run {row.id} of job '{row.job}' was denied: {row.reason}."
        raise Problem(409, detail, place, run_id=row.id)
    return Answer(as_json(row), 201, place)


def list_runs(ask: ApiRequest) -> Answer:
    """List runs, newest first."""
    query: parameters.RunFilter = ask.query
    found = ask.service.db.query(
        runs.find,
        job=query.job,
        states=query.state,
        since=query.since,
        sequence_run_id=query.sequence_run_id,
        categories=ask.caller.categories,
        parameters=dict(pair.partition("=")[::2] for pair in query.parameter),
        below=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        retry_for=RETRY_FOR,
    )
    page = found[: query.limit]
    return Answer({"items": all_as_json(page), "next_cursor": str(page[-1].id) if len(found) > query.limit else None})


async def get_run(ask: ApiRequest) -> Answer:
    """Show a run, or wait for its end."""
    service, run_id = ask.service, ask.path["run"]
    end = time.monotonic() + ask.query.wait

    async def read() -> RunView:
        return await run_in_threadpool(service.db.query, _shown, ask.caller, run_id, retry_for=RETRY_FOR)

    row = await read()
    if ask.query.wait and row.state not in FINAL:
        with service.live.admitted(ask.caller.name), service.live.watch(run_id, output=False) as watch:
            while row.state not in FINAL and not service.live.closed and time.monotonic() < end:
                await watch.wait(end - time.monotonic())
                row = await read()
    return Answer(as_json(row))


def _shown(conn: sa.Connection, caller: Caller, run_id: int) -> RunView:
    """The run; an operator also sees the values of sensitive parameters."""
    row = visible(conn, caller, run_id)
    if row.parameters is None or not caller.role.allows(Role.OPERATOR):
        return row
    return row._replace(parameters={**row.parameters, **store_parameters.sensitive_of(conn, run_id)})


def stop(ask: ApiRequest) -> Answer:
    """Stop a run.

    What waits ends at once; what runs is asked to stop, politely unless `now` is true.
    """
    stopped = stopping.stop(ask.service.db, ask.by, ask.path["run"], now=ask.body.now)
    return Answer({"before": str(stopped.before), "after": str(stopped.after)})


def retry(ask: ApiRequest) -> Answer:
    """Run it again, as a new run."""
    row = starting.retry(
        ask.service.db,
        ask.by,
        ask.path["run"],
        from_failed=ask.body.from_failed,
        key=ask.headers.key,
        changes=ask.body.parameters,
    )
    return _started(row)


def attempts(ask: ApiRequest) -> Answer:
    """Show a run's executions."""

    def read(conn: sa.Connection) -> list[AttemptView]:
        visible(conn, ask.caller, ask.path["run"])
        return runs.attempts(conn, ask.path["run"])

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


def events(ask: ApiRequest) -> Answer:
    """Show what happened to a run."""

    def read(conn: sa.Connection) -> list[EventView]:
        visible(conn, ask.caller, ask.path["run"])
        return runs.events_of(conn, ask.path["run"])

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


def path(ask: ApiRequest) -> Answer:
    """Show the way a sequence took."""

    def read(conn: sa.Connection) -> list[StepVisitView]:
        row = visible(conn, ask.caller, ask.path["run"])
        return sequences.step_history(conn, row.id, ask.caller.categories) if row.kind == JobKind.SEQUENCE else []

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/jobs/{job}/runs",
        handler=start,
        role=Role.OPERATOR,
        headers=parameters.KeyHeaders,
        body=parameters.StartBody,
        body_required=False,
        answers={201: models.Run},
        errors=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/runs",
        handler=list_runs,
        query=parameters.RunFilter,
        answers={200: models.Runs},
    ),
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}",
        handler=get_run,
        query=parameters.Wait,
        answers={200: models.Run},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/runs/{run:id}/stop",
        handler=stop,
        role=Role.OPERATOR,
        body=parameters.StopBody,
        body_required=False,
        answers={200: models.Stopped},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/runs/{run:id}/retry",
        handler=retry,
        role=Role.OPERATOR,
        headers=parameters.KeyHeaders,
        body=parameters.RetryBody,
        body_required=False,
        answers={201: models.Run},
        errors=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/attempts",
        handler=attempts,
        answers={200: models.Attempts},
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/events",
        handler=events,
        answers={200: models.RunEvents},
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/path",
        handler=path,
        answers={200: models.Path},
        errors=(404,),
    ),
)
