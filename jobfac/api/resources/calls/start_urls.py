"""`/v1/jobs/{job}/urls`: the URLs that start a job; `/v1/call/{token}`: start by one, without a key."""

import hashlib
import time
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.problems import Problem
from jobfac.api.resources.calls import signatures
from jobfac.api.resources.calls.models import Called, NewStartUrl, RevokedUrls
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.api.validation import RawBody
from jobfac.control_characters import REFUSED
from jobfac.database.tables import KEY_LENGTH
from jobfac.definitions import DefinitionError
from jobfac.definitions.triggers.call import Call, NotJsonError, Request, Signature, taken
from jobfac.errors import MAKE_URL, NotFound, denied, no_job
from jobfac.operations import caller as operations
from jobfac.operations import start_urls as urls
from jobfac.secret_references import SecretError, resolve_proof
from jobfac.states import RunState
from jobfac.store import jobs
from jobfac.store.api_keys import Role, digest
from jobfac.store.triggers import start_urls
from jobfac.store.triggers.start_urls import StartUrl
from jobfac.telemetry.logs import logger
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()

log = logger("jobfac.api")

BODY_LIMIT = 2**20
"""The maximum size of the body of a call, in bytes."""

GONE = "There is no such start URL, or it was revoked; {way} makes one."


class UrlBody(parameters.Body):
    """``name``: who calls, in events and in the audit."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$", json_schema_extra={"pattern": rf"^[^{REFUSED}]*$"}),
    ] = "caller"


@ENDPOINTS.add("GET", "/v1/jobs/{job}/urls", role=Role.ADMIN, responses={200: models.StartUrls}, errors=(404,))
def list_urls(request: ApiRequest, job: str) -> ApiResponse:
    """List the start URLs of a job, without their tokens."""
    stored = request.read(operations.visible_job, request.caller, job)
    return ApiResponse({"items": all_as_json(request.read(start_urls.of_job, stored.id))})


@ENDPOINTS.add(
    "POST", "/v1/jobs/{job}/urls", role=Role.ADMIN, body_required=False, responses={201: NewStartUrl}, errors=(404, 409)
)
def create_url(request: ApiRequest, job: str, body: UrlBody) -> ApiResponse:
    """Create a URL that starts the job without a key. It cannot be shown again."""
    made = urls.create(request.db, request.by, job, body.name)
    base = request.service.public_url or f"{request.http.url.scheme}://{request.http.url.netloc}"
    shown = {"id": made.id, "job": made.job, "name": made.name, "url": urls.address(base, made)}
    return ApiResponse(shown, 201)


@ENDPOINTS.add("DELETE", "/v1/jobs/{job}/urls/{url:id}", role=Role.ADMIN, responses={204: None}, errors=(404,))
def revoke_url(request: ApiRequest, job: str, url: int) -> ApiResponse:
    """Revoke a start URL immediately."""
    urls.revoke(request.db, request.by, job, url)
    return ApiResponse(None, 204)


@ENDPOINTS.add("DELETE", "/v1/jobs/{job}/urls", role=Role.ADMIN, responses={200: RevokedUrls}, errors=(404,))
def revoke_urls(request: ApiRequest, job: str) -> ApiResponse:
    """Revoke all start URLs of a job immediately."""
    return ApiResponse({"revoked": urls.revoke(request.db, request.by, job)})


@ENDPOINTS.add(
    "POST",
    "/v1/call/{token}",
    role=None,
    body_required=False,
    responses={200: Called, 202: Called},
    errors=(401, 404, 409, 429, 503),
)
async def call_job(request: ApiRequest, token: str, body: RawBody) -> ApiResponse:
    """Start a job by its start URL.

    The definition of the job says what it takes from the body (`call`), and how the body must be signed. A repeated
    delivery (the id of a signed Stripe event, `X-GitHub-Delivery` or `Idempotency-Key`) starts nothing and has the
    same response, and so has a signed body that comes again within the tolerance. 200: the job does not start for this
    event. 409: the job's definition or its state denies the start. 429: the job allows no more
    starts in this minute.
    """
    service = request.service
    # Each token is a caller of its own: many that are made up must not keep the others out.
    url = await service.strangers.check(request.http, f"token {digest(token)[:32]}", _owner, _known, request, token)
    text = await body.read(BODY_LIMIT)
    return await service.in_turn(_owner(url), _start, request, url, text, changes=True)


def _owner(url: StartUrl) -> str:
    return f"start URL {url.id}"


def _known(request: ApiRequest, token: str) -> StartUrl:
    """Return the URL with this token.

    Raises:
        Problem: 404.
    """
    url = request.read(start_urls.check, token)
    if url is None:
        raise NotFound(GONE, MAKE_URL)
    return url


def _start(request: ApiRequest, url: StartUrl, text: bytes) -> ApiResponse:
    """Start the job, if the request is signed as it says, for its events."""
    stored = request.read(jobs.load, url.job)
    if stored is None:
        raise no_job(url.job)
    call: Call | None = stored.definition.call
    headers = {name.lower(): value for name, value in request.http.headers.items()}
    signature = None if call is None else call.signature
    if signature is not None:
        _verify(request, url, signature, text, headers)
    form = None if signature is None else signature.form
    if call is not None and form is not None and call.events:
        event = signatures.event(form, text, headers)
        if event not in call.events:
            reason = f"the event '{event}' is not one of {', '.join(call.events)}"
            return ApiResponse({"id": None, "job": url.job, "state": None, "reason": reason})
    if (key := headers.get("idempotency-key")) is not None and len(key) > KEY_LENGTH:
        raise Problem(422, f"Idempotency-Key must be at most {KEY_LENGTH} characters.")
    return _started(request, url, call, text, headers)


def _started(
    request: ApiRequest, url: StartUrl, call: Call | None, text: bytes, headers: Mapping[str, str]
) -> ApiResponse:
    """Start the job. Who sends many bodies that it cannot take waits: a check of a value may take a second.

    A signed body that comes again and again delays no other one: somebody may have captured it.

    Raises:
        Problem: 429 after too many bodies that the job cannot take, or too many starts; 409 if the run was denied.
    """
    delivery = signatures.delivery(None if call is None else call.signature, text, headers)
    failures, now = request.service.authenticator.failures, time.monotonic()
    name = f"body of url {url.id} {hashlib.sha256(text).hexdigest() if delivery.is_signed else ''}"
    if wait := failures.wait(name, now):
        seconds = int(wait) + 1
        detail = f"Too many requests that the job cannot take; wait {seconds} s."
        raise Problem(429, detail, {"Retry-After": str(seconds)})
    by = operations.Caller(
        url.caller, url.categories, RETRY_FOR, request.service.traces, headers.get("traceparent"), Role.OPERATOR
    )
    given, payload = _taken(call, text, headers)
    try:
        run = urls.start(request.db, by, url, call, given, payload, delivery)
    except DefinitionError:
        failures.note(name, now)
        raise
    except urls.TooManyStarts as error:
        raise Problem(429, str(error), {"Retry-After": str(error.seconds)}) from None
    if run.state == RunState.DENIED:
        raise Problem(409, denied(run.id, run.job, run.reason), run_id=run.id)
    return ApiResponse({"id": run.id, "job": run.job, "state": str(run.state), "reason": None}, 202)


def _taken(call: Call | None, text: bytes, headers: Mapping[str, str]) -> tuple[dict[str, object], str | None]:
    if call is None:
        return {}, None
    try:
        return taken(call, Request(text.decode(), headers))
    except (NotJsonError, UnicodeDecodeError) as error:
        detail = f"The body must be JSON in UTF-8, of which the job takes its parameters: {error}."
        raise Problem(400, detail) from None


def _verify(request: ApiRequest, url: StartUrl, signature: Signature, text: bytes, headers: Mapping[str, str]) -> None:
    """Check that the owner of the key has sent the body.

    Raises:
        Problem: 401 for a wrong signature; 429 after too many of them; 503 if the key cannot be read here.
    """
    failures, name, now = request.service.authenticator.failures, f"url {url.id}", time.monotonic()
    try:
        key = resolve_proof(signature.key)
    except SecretError as error:
        log.outage("a signature cannot be checked", action="call_failed", job=url.job, url=url.id, reason=str(error))
        detail = f"The signature for job '{url.job}' cannot be checked right now; the server's log says more."
        raise Problem(503, detail, {"Retry-After": "60"}) from None
    moment = url.now.timestamp()
    wrong = signatures.problem(signature.form, key, text, headers, moment, signature.seconds)
    if wrong is None:
        return
    wait = failures.wait(name, now)
    failures.note(name, now)
    if wait:
        seconds = int(wait) + 1
        raise Problem(
            429, f"Too many requests with a wrong signature; wait {seconds} s.", {"Retry-After": str(seconds)}
        )
    log.warning("a call was refused", action="call_refused", job=url.job, url=url.id, reason=wrong)
    raise Problem(401, f"The signature of the request is not valid: {wrong}.")
