"""`/v1/runs`, and starting: runs are shown as everywhere else, by ``runs.present``."""

import time
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from jobfac import errors
from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.problems import Problem
from jobfac.api.resources.jobs import visible as visible_job
from jobfac.api.routing import Answer, Ask, Call
from jobfac.states import FINAL, JobKind, RunState
from jobfac.store import audit, jobs, runs, sequences
from jobfac.store.api_keys import Caller, Role
from jobfac.store.runs import StartRequest


def visible(conn: sa.Connection, caller: Caller, run_id: int) -> sa.RowMapping:
    """A run that the caller may know of.

    Raises:
        NotFound: there is none.
    """
    row = runs.get(conn, run_id)
    if caller.categories is not None:
        stored = jobs.load(conn, row["job"])
        if stored is None or not caller.sees(stored.category):
            raise errors.no_run(run_id)
    return row


def start(ask: Ask) -> Answer:
    """Start a job."""
    # With a key the whole transaction may be tried again, whatever became of an earlier try.
    key = ask.headers.key or f"once-{uuid4().hex}"
    since = time.time_ns()
    return _started(ask, ask.service.db.transact(_start, ask, key, retry_for=PATIENCE), since)


def _start(conn: sa.Connection, ask: Ask, key: str) -> sa.RowMapping:
    body: parameters.StartBody = ask.body
    caller = ask.caller
    job = visible_job(conn, caller, ask.path["job"])
    overrides: dict[str, Any] = {}
    if isinstance(body.arguments, dict):
        overrides["arguments"] = body.arguments
    if body.payloads is not None:
        overrides["payloads"] = body.payloads
    if body.notify is not None:
        overrides["notify"] = [entry.model_dump(mode="json", exclude_defaults=True) for entry in body.notify]
    request = StartRequest(
        job=job.id,
        by=caller.name,
        arguments=body.arguments if isinstance(body.arguments, list) else None,
        payload=body.payload,
        priority=body.priority,
        delay=body.delay,
        at=body.at,
        key=key,
        overrides=overrides or None,
    )
    row = runs.get(conn, runs.start(conn, request))
    audit.note(conn, caller.name, "start", f"run {row['id']}", after=job.id)
    return row


def _started(ask: Ask, row: sa.RowMapping, since: int) -> Answer:
    ask.service.traces.started(row, since, ask.request.headers.get("traceparent"))
    place = {"Location": f"/v1/runs/{row['id']}"}
    if row["state"] == RunState.DENIED:
        detail = f"Run {row['id']} of job '{row['job']}' was denied: {row['reason']}."
        raise Problem(409, detail, place, run_id=row["id"])
    return Answer(runs.present(row), 201, place)


def list_runs(ask: Ask) -> Answer:
    """Runs, newest first: what arrives meanwhile does not shift the pages."""
    query: parameters.RunFilter = ask.query
    found = ask.service.db.query(
        runs.find,
        job=query.job,
        states=query.state,
        since=query.since,
        sequence_run_id=query.sequence_run_id,
        categories=ask.caller.categories,
        below=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        retry_for=PATIENCE,
    )
    page = [runs.present(row) for row in found[: query.limit]]
    return Answer({"items": page, "next_cursor": str(page[-1]["id"]) if len(found) > query.limit else None})


async def get_run(ask: Ask) -> Answer:
    """One run; with ``wait`` when it is final. Who waits holds no thread."""
    service, run_id = ask.service, ask.path["run"]
    end = time.monotonic() + ask.query.wait

    async def read() -> sa.RowMapping:
        return await run_in_threadpool(service.db.query, visible, ask.caller, run_id, retry_for=PATIENCE)

    row = await read()
    if ask.query.wait and row["state"] not in FINAL:
        with service.live.admitted(ask.caller.name), service.live.watch(run_id, output=False) as watch:
            while row["state"] not in FINAL and not service.live.closed and time.monotonic() < end:
                await watch.wait(end - time.monotonic())
                row = await read()
    return Answer(runs.present(row))


def stop(ask: Ask) -> Answer:
    """Stop a run, a sequence with all that it started."""
    run_id, caller = ask.path["run"], ask.caller

    def work(conn: sa.Connection) -> runs.Stopped:
        visible(conn, caller, run_id)
        stopped = sequences.stop(conn, run_id, now=ask.body.now, by=caller.name)
        audit.note(conn, caller.name, "stop", f"run {run_id}", stopped.before, stopped.after)
        return stopped

    stopped = ask.service.db.transact(work, retry_for=PATIENCE)
    return Answer({"before": str(stopped.before), "after": str(stopped.after)})


def retry(ask: Ask) -> Answer:
    """Run it again."""
    run_id, caller = ask.path["run"], ask.caller

    def work(conn: sa.Connection) -> sa.RowMapping:
        visible_job(conn, caller, visible(conn, caller, run_id)["job"])
        new = sequences.retry(conn, run_id, caller.name, from_failed=ask.body.from_failed)
        audit.note(conn, caller.name, "retry", f"run {run_id}", after=f"run {new}")
        return runs.get(conn, new)

    since = time.time_ns()
    # DryRunResult once: if the answer to its commit is lost, a second try would start a second run.
    return _started(ask, ask.service.db.transact(work, retry_for=0), since)


def attempts(ask: Ask) -> Answer:
    """Every execution."""

    def read(conn: sa.Connection) -> list[dict[str, Any]]:
        visible(conn, ask.caller, ask.path["run"])
        return [runs.present(row) for row in runs.attempts(conn, ask.path["run"])]

    return Answer({"items": ask.service.db.query(read, retry_for=PATIENCE)})


def events(ask: Ask) -> Answer:
    """Everything that happened to it."""

    def read(conn: sa.Connection) -> list[dict[str, Any]]:
        visible(conn, ask.caller, ask.path["run"])
        return [runs.present(row) for row in runs.events_of(conn, ask.path["run"])]

    return Answer({"items": ask.service.db.query(read, retry_for=PATIENCE)})


def path(ask: Ask) -> Answer:
    """The way a sequence took; of a program there is none."""

    def read(conn: sa.Connection) -> Any:
        row = visible(conn, ask.caller, ask.path["run"])
        return sequences.path(conn, row["id"]) if row["kind"] == JobKind.SEQUENCE else []

    return Answer({"items": ask.service.db.query(read, retry_for=PATIENCE)})


CALLS = (
    Call(
        method="POST",
        path="/v1/jobs/{job}/runs",
        handler=start,
        summary="Start a job",
        description="409: the job's definition refuses it (`run_id` is the denied run, if one was recorded).",
        role=Role.OPERATOR,
        headers=parameters.StartHeaders,
        body=parameters.StartBody,
        body_required=False,
        answers={201: models.Run},
        errors=(404, 409),
    ),
    Call(
        method="GET",
        path="/v1/runs",
        handler=list_runs,
        summary="List runs, newest first",
        query=parameters.RunFilter,
        answers={200: models.Runs},
    ),
    Call(
        method="GET",
        path="/v1/runs/{run:id}",
        handler=get_run,
        summary="Show a run, or wait for its end",
        query=parameters.Wait,
        answers={200: models.Run},
        errors=(404,),
    ),
    Call(
        method="POST",
        path="/v1/runs/{run:id}/stop",
        handler=stop,
        summary="Stop a run",
        description="What waits ends at once; what runs is asked to stop, politely unless `now` is true.",
        role=Role.OPERATOR,
        body=parameters.StopBody,
        body_required=False,
        answers={200: models.Stopped},
        errors=(404,),
    ),
    Call(
        method="POST",
        path="/v1/runs/{run:id}/retry",
        handler=retry,
        summary="Run it again, as a new run",
        role=Role.OPERATOR,
        body=parameters.RetryBody,
        body_required=False,
        answers={201: models.Run},
        errors=(404, 409),
    ),
    Call(
        method="GET",
        path="/v1/runs/{run:id}/attempts",
        handler=attempts,
        summary="Show a run's executions",
        answers={200: models.Attempts},
        errors=(404,),
    ),
    Call(
        method="GET",
        path="/v1/runs/{run:id}/events",
        handler=events,
        summary="Show what happened to a run",
        answers={200: models.RunEvents},
        errors=(404,),
    ),
    Call(
        method="GET",
        path="/v1/runs/{run:id}/path",
        handler=path,
        summary="Show the way a sequence took",
        answers={200: models.Path},
        errors=(404,),
    ),
)
