"""`/v1/jobs`: definitions, each with an ETag that changes whenever what is shown changes."""

from typing import Any

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.api import models, parameters
from jobfac.api.auth import PATIENCE
from jobfac.api.listing import without_large
from jobfac.api.problems import Problem, invalid
from jobfac.api.routing import Answer, Ask, Call
from jobfac.definitions.values import read_id
from jobfac.errors import no_job
from jobfac.store import jobs, schedules
from jobfac.store.api_keys import Caller, Role


def visible(conn: sa.Connection, caller: Caller, job_id: str) -> jobs.Stored:
    """A job that the caller may know of.

    Raises:
        NotFound: there is none.
    """
    stored = jobs.load(conn, job_id)
    if stored is None or not caller.sees(stored.category):
        raise no_job(job_id)
    return stored


def etag(stored: jobs.Stored) -> str:
    """The version, and whether it is switched off, which makes no new version."""
    return f'"{stored.version}"' if stored.enabled else f'"{stored.version}-disabled"'


def _shown(stored: jobs.Stored, status: int = 200) -> Answer:
    headers = {"ETag": etag(stored)}
    if status == 201:
        headers["Location"] = f"/v1/jobs/{stored.id}"
    return Answer(jobs.present(stored), status, headers)


def list_jobs(ask: Ask) -> Answer:
    """Jobs by id, a page of them."""
    query: parameters.JobsQuery = ask.query
    known = ask.service.db.query(jobs.load_all, retry_for=PATIENCE)
    found = [one for one in known if ask.caller.sees(one.category) and (not query.cursor or one.id > query.cursor)]
    page = found[: query.limit]
    more = page[-1].id if len(found) > query.limit else None
    return Answer({"items": [without_large(jobs.present(one)) for one in page], "next_cursor": more})


def get_job(ask: Ask) -> Answer:
    """One job."""
    return _shown(ask.service.db.query(visible, ask.caller, ask.path["job"], retry_for=PATIENCE))


def put_job(ask: Ask) -> Answer:
    """Define a job, or change it."""
    stored, status = ask.service.db.transact(_put, ask, retry_for=PATIENCE)
    return _shown(stored, status)


def _put(conn: sa.Connection, ask: Ask) -> tuple[jobs.Stored, int]:
    job_id, caller = ask.path["job"], ask.caller
    headers: parameters.PutHeaders = ask.headers
    try:
        read_id(job_id)
    except ValueError as error:
        raise invalid([{"field": "", "message": f"its id {error}"}]) from None
    every = jobs.load_all(conn)
    old = next((one for one in every if one.id == job_id), None)
    hidden = {one.id.lower() for one in every if not caller.sees(one.category)}
    if job_id.lower() in hidden:
        raise Problem(403, f"Job '{job_id}' belongs to a category that the key '{caller.name}' may not touch.")
    if headers.if_none_match is not None and old is not None:
        raise Problem(412, f"There is a job '{job_id}' already, of version {old.version}.")
    _match(headers.if_match, old, job_id)
    # What a limited key cannot see does not exist for its sequences either.
    known = {one.id: d.canonical(one.definition) for one in every if caller.sees(one.category)}
    body = dict(ask.body)
    if old is not None:
        body.setdefault("enabled", old.enabled)
    definition = d.from_data({"jobs": {job_id: body}}, known=known).jobs[job_id]
    if not caller.sees(definition.category):
        raise Problem(403, f"The key '{caller.name}' may only define jobs of {', '.join(caller.categories or ())}.")
    schedules.put(conn, job_id, definition, caller.name)
    return visible(conn, caller, job_id), 201 if old is None else 200


def delete_job(ask: Ask) -> Answer:
    """Remove a job; its history stays."""
    ask.service.db.transact(_delete, ask, retry_for=PATIENCE)
    return Answer(None, 204)


def _delete(conn: sa.Connection, ask: Ask) -> None:
    job_id = ask.path["job"]
    _match(ask.headers.if_match, visible(conn, ask.caller, job_id), job_id)
    schedules.remove(conn, job_id, ask.caller.name)


def enable_job(ask: Ask) -> Answer:
    """Allow starts again."""
    return _switch(ask, True)


def disable_job(ask: Ask) -> Answer:
    """Forbid every start; what runs goes on."""
    return _switch(ask, False)


def _switch(ask: Ask, enabled: bool) -> Answer:
    def work(conn: sa.Connection) -> jobs.Stored:
        visible(conn, ask.caller, ask.path["job"])
        jobs.enable(conn, ask.path["job"], enabled, ask.caller.name)
        return visible(conn, ask.caller, ask.path["job"])

    return _shown(ask.service.db.transact(work, retry_for=PATIENCE))


def list_defaults(ask: Ask) -> Answer:
    """What holds for the jobs of a category that do not say it themselves."""
    found = ask.service.db.query(jobs.load_defaults, retry_for=PATIENCE)
    return Answer({"defaults": {name: d.canonical(one) for name, one in found.items() if ask.caller.sees(name)}})


def _match(wanted: str | None, stored: jobs.Stored | None, job_id: str) -> None:
    """If-Match: ``*`` or a list of ETags, of which one must be the job's."""
    if wanted is None:
        return
    given = [tag.strip() for tag in wanted.split(",")]
    if stored is None or not ("*" in given or etag(stored) in given):
        present_tag = "it does not exist" if stored is None else f"its ETag is {etag(stored)}"
        raise Problem(412, f"Job '{job_id}' is not at {wanted}: {present_tag}.")


CALLS = (
    Call(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        summary="List jobs and sequences",
        query=parameters.JobsQuery,
        answers={200: models.Jobs},
    ),
    Call(
        method="GET",
        path="/v1/jobs/{job}",
        handler=get_job,
        summary="Show a job",
        answers={200: models.Job},
        errors=(404,),
    ),
    Call(
        method="PUT",
        path="/v1/jobs/{job}",
        handler=put_job,
        summary="Define or change a job",
        description="The body is what a definition file has under the job's id; without `enabled` that stays as it is.",
        role=Role.ADMIN,
        headers=parameters.PutHeaders,
        body=dict[str, Any],
        answers={200: models.Job, 201: models.Job},
        errors=(412,),
    ),
    Call(
        method="DELETE",
        path="/v1/jobs/{job}",
        handler=delete_job,
        summary="Delete a job",
        description="Its history stays; what waits or runs goes on.",
        role=Role.ADMIN,
        headers=parameters.ChangeHeaders,
        answers={204: None},
        errors=(404, 409, 412),
    ),
    Call(
        method="POST",
        path="/v1/jobs/{job}/enable",
        handler=enable_job,
        summary="Allow starts of a job",
        role=Role.OPERATOR,
        answers={200: models.Job},
        errors=(404,),
    ),
    Call(
        method="POST",
        path="/v1/jobs/{job}/disable",
        handler=disable_job,
        summary="Forbid starts of a job",
        role=Role.OPERATOR,
        answers={200: models.Job},
        errors=(404,),
    ),
    Call(
        method="GET",
        path="/v1/defaults",
        handler=list_defaults,
        summary="Show the defaults of categories",
        answers={200: models.CategoryDefaults},
    ),
)
