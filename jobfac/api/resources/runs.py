"""`/v1/runs`: start, list, show, stop and retry runs."""

import time
from typing import Any

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints, key_of
from jobfac.errors import denied
from jobfac.operations import starting, stopping
from jobfac.operations.caller import visible_run
from jobfac.states import FINAL, JobKind, RunState
from jobfac.store import parameters as store_parameters
from jobfac.store import runs, sequences
from jobfac.store.api_keys import Caller, Role
from jobfac.store.history import waiting
from jobfac.store.history.search import Filter, Found, search
from jobfac.store.runs import StartRequest
from jobfac.store.runs.reading import unread
from jobfac.store.runs.request import FIRST
from jobfac.views.runs import AttemptView, EventView, RunView
from jobfac.views.sequences import StepVisitView
from jobfac.views.serialization import all_as_json, as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add(
    "POST",
    "/v1/jobs/{job}/runs",
    role=Role.OPERATOR,
    body_required=False,
    responses={201: models.StartedRun},
    errors=(404, 409),
)
def start(request: ApiRequest, job: str, headers: parameters.KeyHeaders, body: parameters.StartBody) -> ApiResponse:
    """Start a job.

    409: the job's definition denies the start (`run_id` is the denied run, if one was recorded). A job with
    `each_worker` makes a run for each worker: the response is the first one, and `runs` has all of them.
    """
    overrides: dict[str, Any] = {}
    if isinstance(body.arguments, dict):
        overrides["arguments"] = body.arguments
    if body.payloads is not None:
        overrides["payloads"] = body.payloads
    if body.from_step is not None:
        overrides[FIRST] = body.from_step
    if body.notify is not None:
        overrides["notify"] = [entry.model_dump(mode="json", exclude_defaults=True) for entry in body.notify]
    start_request = StartRequest(
        job=job,
        by=request.by.name,
        arguments=body.arguments if isinstance(body.arguments, list) else None,
        payload=body.payload,
        priority=body.priority,
        delay=body.delay,
        at=body.at,
        key=headers.key,
        overrides=overrides or None,
        parameters=body.parameters,
    )
    started = starting.start(request.db, request.by, start_request)
    response = _started(started[0], has_key=headers.key is not None)
    if started[0].for_worker is None:
        return response
    return response._replace(content={**as_json(started[0]), "runs": all_as_json(started)})


def _started(run: RunView, *, has_key: bool = False) -> ApiResponse:
    location = {"Location": f"/v1/runs/{run.id}"}
    if run.state == RunState.DENIED:
        raise Problem(409, denied(run.id, run.job, run.reason, has_key=has_key), location, run_id=run.id)
    return ApiResponse(as_json(run), 201, location)


@ENDPOINTS.add("GET", "/v1/runs", responses={200: models.Runs})
def list_runs(request: ApiRequest, query: parameters.RunFilter) -> ApiResponse:
    """List runs, newest first.

    A search that must read very many runs stops early: a page may have fewer items than `limit`, or none, and
    `next_cursor` continues it.
    """
    wanted = query.wanted()._replace(categories=request.caller.categories, below=query.after)
    found = request.read(_found, wanted, query.limit)
    next_cursor = None if found.below is None else str(found.below)
    return ApiResponse({"items": map(as_json, found.runs), "next_cursor": next_cursor})


def _found(conn: sa.Connection, wanted: Filter, limit: int) -> Found:
    found = search(conn, wanted, limit, unread)
    return found._replace(runs=waiting.explained(conn, found.runs, wanted.categories))


@ENDPOINTS.add("GET", "/v1/runs/{run:id}", responses={200: models.Run}, errors=(404,))
async def get_run(request: ApiRequest, run: int, query: parameters.RunQuery) -> ApiResponse:
    """Show a run, or wait for its end."""
    live = request.service.live
    end = time.monotonic() + query.wait

    async def read() -> RunView:
        return await request.service.in_turn(
            key_of(request.caller), request.read, _shown, request.caller, run, query.masked
        )

    row = await read()
    if query.wait and row.state not in FINAL:
        with live.admitted(request.caller.label), live.watch(run, output=False) as watch:
            while row.state not in FINAL and not live.closed and time.monotonic() < end:
                await watch.wait(end - time.monotonic())
                row = await read()
    return ApiResponse(as_json(row))


def _shown(conn: sa.Connection, caller: Caller, run_id: int, masked: bool) -> RunView:
    """Return the run. An operator also sees the values of sensitive parameters, unless they are to be ``masked``."""
    (row,) = waiting.explained(conn, [visible_run(conn, caller, run_id)], caller.categories)
    if row.parameters is None or masked or not caller.role.allows(Role.OPERATOR):
        return row
    return row._replace(parameters={**row.parameters, **store_parameters.sensitive_of(conn, run_id)})


@ENDPOINTS.add(
    "POST",
    "/v1/runs/{run:id}/stop",
    role=Role.OPERATOR,
    body_required=False,
    responses={200: models.Stopped},
    errors=(404,),
)
def stop(request: ApiRequest, run: int, body: parameters.StopBody) -> ApiResponse:
    """Stop a run.

    A waiting run ends at once. A running program gets its grace period to exit, unless `now` is true.
    """
    stopped = stopping.stop(request.db, request.by, run, now=body.now)
    return ApiResponse({"before": str(stopped.before), "after": str(stopped.after)})


@ENDPOINTS.add(
    "POST",
    "/v1/runs/{run:id}/retry",
    role=Role.OPERATOR,
    body_required=False,
    responses={201: models.Run},
    errors=(404, 409),
)
def retry(request: ApiRequest, run: int, headers: parameters.KeyHeaders, body: parameters.RetryBody) -> ApiResponse:
    """Start a new run with the arguments, payload and parameters of a finished run."""
    retried = starting.retry(
        request.db, request.by, run, from_failed=body.from_failed, key=headers.key, changes=body.parameters
    )
    return _started(retried)


@ENDPOINTS.add("GET", "/v1/runs/{run:id}/attempts", responses={200: models.Attempts}, errors=(404,))
def attempts(request: ApiRequest, run: int) -> ApiResponse:
    """List the attempts of a run."""

    def read(conn: sa.Connection) -> list[AttemptView]:
        visible_run(conn, request.caller, run)
        return runs.attempts(conn, run)

    return ApiResponse({"items": all_as_json(request.read(read))})


@ENDPOINTS.add("GET", "/v1/runs/{run:id}/events", responses={200: models.RunEvents}, errors=(404,))
def events(request: ApiRequest, run: int) -> ApiResponse:
    """List the events of a run."""

    def read(conn: sa.Connection) -> list[EventView]:
        visible_run(conn, request.caller, run)
        return runs.events_of(conn, run)

    return ApiResponse({"items": all_as_json(request.read(read))})


@ENDPOINTS.add("GET", "/v1/runs/{run:id}/path", responses={200: models.StepHistory}, errors=(404,))
def path(request: ApiRequest, run: int) -> ApiResponse:
    """Show which steps a sequence run visited."""

    def read(conn: sa.Connection) -> list[StepVisitView]:
        row = visible_run(conn, request.caller, run)
        return sequences.step_history(conn, row.id, request.caller.categories) if row.kind == JobKind.SEQUENCE else []

    return ApiResponse({"items": all_as_json(request.read(read))})
