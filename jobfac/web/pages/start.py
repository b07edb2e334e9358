"""`/jobs/ID/start`: the form that starts a job, empty or with what an earlier run was given."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac import definitions as d
from jobfac.definitions.values import read_duration
from jobfac.errors import Invalid, JobfacError, NotFound, Refused, Unreachable
from jobfac.operations import starting
from jobfac.operations.caller import visible_job, visible_run
from jobfac.states import RunState
from jobfac.store import jobs
from jobfac.store.api_keys import Role
from jobfac.store.runs import StartRequest, reading
from jobfac.store.runs.request import FIRST
from jobfac.views.runs import RunView
from jobfac.web import commands, fields
from jobfac.web.page import Page, act, get
from jobfac.web.templating import with_query
from jobfac.web.visit import Notice, Visit, read_number

FIELDS = ("arguments", "payload", "priority", "delay", "at", "from_step", "like", "version")
"""The fields of every form, beside those of the parameters."""


class Given(NamedTuple):
    """What a run was given. Values of sensitive parameters are not among it.

    ``inside``: what a sequence gave to its jobs, by job. The form names these jobs and passes it on as it is. ``due``:
    the time for which the run stood; None: that of its start.
    """

    arguments: list[str] | None = None
    payload: str | None = None
    parameters: Mapping[str, Any] = {}
    inside: Mapping[str, Mapping[str, Any]] = {}
    due: datetime | None = None

    def fields(self) -> dict[str, str]:
        """Return the fields of the form that show it."""
        found = {} if self.arguments is None else {"arguments": "\n".join(self.arguments)}
        for name, value in self.parameters.items():
            found[fields.PARAMETER + name] = fields.shown(value)
        return {**found, "payload": self.payload or ""}


def form(visit: Visit) -> Response:
    """Show the form that starts a job. The URL may name a run `like` which to start, and a step to begin with."""
    values = {"from_step": visit.query["from_step"]}
    given = None
    if (like := visit.number("like")) is not None:
        given = _given(visit, like)
        values |= {**given.fields(), "like": str(like)}
    return _form(visit, values, "", given)


def _given(visit: Visit, run_id: int) -> Given:
    def read(conn: sa.Connection) -> Given:
        run = visible_run(conn, visit.caller, run_id)
        parameters = {name: value for name, value in (run.parameters or {}).items() if value is not None}
        inside = reading.given_inside(conn, run_id)
        if visit.caller.categories is not None:
            _check_seen(conn, visit, run_id, inside)
        return Given(run.arguments, run.payload, parameters, inside, reading.stood_for(conn, run_id))

    return visit.read(read)


def _check_seen(conn: sa.Connection, visit: Visit, run_id: int, inside: Mapping[str, Mapping[str, Any]]) -> None:
    try:
        for name in {name for by_job in inside.values() for name in by_job}:
            visible_job(conn, visit.caller, name)
    except NotFound:  # its name is not for this caller
        sentence = f"Run {run_id} was given values for jobs that you may not see. Open the form without it."
        raise Refused(sentence) from None


def _former(visit: Visit, like: str) -> Given:
    """Return what the run was given with which the form was opened; nothing if there is none.

    Raises:
        NotFound: the run was removed since.
    """
    return Given() if (run_id := read_number(like)) is None else _given(visit, run_id)


def _form(visit: Visit, values: dict[str, str], problem: str, given: Given | None = None) -> Response:
    """Show the form. ``given``: what the run was given with which it is opened, if that is known already."""

    def read(conn: sa.Connection) -> jobs.Stored:
        return visible_job(conn, visit.caller, visit.path("job"))

    numbers, stored = visit.together(read)
    definition = stored.definition
    arguments = "\n".join(getattr(definition, "arguments", ()))
    try:
        former = given or _former(visit, values.get("like", ""))
    except NotFound:
        former = Given()
        values["like"] = ""
    shown = {**dict.fromkeys(FIELDS, ""), "arguments": arguments, **values, "version": str(stored.version)}
    return visit.render(
        "start.html", 422 if problem else 200, active="jobs", counts=numbers, job=stored, definition=definition,
        values=shown, problem=problem, default=arguments,
        inside=sorted({name for by_job in former.inside.values() for name in by_job}), due=former.due,
    )  # fmt: skip


def start(visit: Visit) -> Response:
    """Start a job with what the form says."""
    values = {name: visit.field(name) for name in FIELDS}
    values |= fields.of_form(visit)
    job_id = visit.path("job")
    stored = visit.read(visible_job, visit.caller, job_id)
    definition = stored.definition
    if values["version"] not in ("", str(stored.version)):
        before = _usual(visit, job_id, read_number(values["version"]))
        if not values["like"] and fields.is_same(values["arguments"], "\n".join(before)):
            del values["arguments"]
        return _form(visit, values, f"The definition of {job_id} has changed since this form was opened. Look again.")
    try:
        request = _request(visit, job_id, values, definition)
        new: list[sa.Connection] = []
        started = starting.start(visit.service.db, visit.by, request, new.append)
    except Unreachable:
        raise
    except (JobfacError, d.DefinitionError) as error:
        return _form(visit, values, _why(error, job_id))
    words = _command(job_id, request, definition)
    return _started(visit, job_id, started, words, is_new=bool(new))


def _why(error: Exception, job_id: str) -> str:
    if isinstance(error, d.DefinitionError) and any(one.field == "key" for one in error.problems):
        return f"This form has started {job_id} already, with something else. Press the button to start it once more."
    return str(error)


def _started(visit: Visit, job_id: str, started: Sequence[RunView], words: str, *, is_new: bool) -> Response:
    if not is_new:
        text = f"This form was sent before and started run {started[0].id} then. Nothing was started again."
        return visit.go(f"/runs/{started[0].id}", Notice(text))
    denied = next((run for run in started if run.state == RunState.DENIED), None)
    if denied is not None:
        return visit.go(f"/runs/{denied.id}", Notice(f"Run {denied.id} was denied: {denied.reason}.", words, bad=True))
    if len(started) == 1:
        return visit.go(
            f"/runs/{started[0].id}", Notice(f"Run {started[0].id} of {job_id} is {started[0].state}.", words)
        )
    return visit.go(f"/runs{with_query({'job': job_id})}", Notice(f"{len(started)} runs, one for each worker.", words))


def _usual(visit: Visit, job_id: str, version: int | None) -> Sequence[str]:
    """Return the arguments in a version of a definition; none if it cannot be read."""
    try:
        definition = visit.read(jobs.find_version, job_id, version)
    except sa.exc.NoResultFound:
        return ()
    return getattr(definition, "arguments", ())


def _request(visit: Visit, job_id: str, values: dict[str, str], definition: d.AnyJob) -> StartRequest:
    try:
        former = _former(visit, values["like"])
    except NotFound:
        raise Invalid(
            f"Run {values['like']}, whose values this form showed, was removed. Look at them again."
        ) from None
    priority = values["priority"].strip()
    if priority and not (re.fullmatch(r"-?[0-9]{1,4}", priority) and -1000 <= int(priority) <= 1000):
        raise Invalid(f"The priority must be a whole number from -1000 to 1000, not '{priority[:50]}'.")
    return StartRequest(
        job=job_id,
        by=visit.by.name,
        key=visit.key,
        arguments=_arguments(values["arguments"], former.arguments, list(getattr(definition, "arguments", ()))),
        payload=_payload(values["payload"], former.payload),
        priority=int(priority) if priority else None,
        delay=_delay(values["delay"].strip()),
        at=_at(visit, values["at"].strip(), values["delay"].strip()),
        overrides={**former.inside, **({FIRST: values["from_step"]} if values["from_step"] else {})} or None,
        parameters=fields.read(definition.parameters, values, former.parameters) or None,
    )


def _arguments(text: str, former: list[str] | None, usual: list[str]) -> list[str] | None:
    """Return the arguments; None: those of the definition. A field that nobody has changed means what it showed."""
    shown = usual if former is None else former
    if fields.is_same(text, "\n".join(shown)):
        return former
    if any("\n" in one for one in shown):
        raise Invalid(
            "One of the arguments has several lines, which the form cannot change: leave them as they are, or use "
            "jobfac start --argument."
        )
    given = fields.lines(text) if "" in shown else fields.lines(text).strip("\n")
    if given == "\n".join(usual):
        return None
    return given.split("\n") if given else []


def _payload(text: str, former: str | None) -> str | None:
    return former if former and fields.is_same(text, former) else fields.lines(text) or None


def _delay(text: str) -> float | None:
    try:
        return float(read_duration(text)) if text else None
    except ValueError as error:
        raise Invalid(f"The delay {error}.") from None


def _at(visit: Visit, text: str, delay: str) -> datetime | None:
    if not text:
        return None
    if delay:
        raise Invalid("There is a delay and a time; give one of them.")
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=visit.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"'{text}' is no time: write 2027-01-31 22:00.") from None


def _command(job_id: str, request: StartRequest, definition: d.AnyJob) -> str:
    """Return the command that starts the same; empty if there is none."""
    if request.arguments == [] or request.payload == "-":
        return ""
    words: list[Any] = ["start", job_id]
    words += fields.words(definition.parameters, request.parameters or {})
    inside = request.overrides or {}
    if FIRST in inside:
        words += ["--from-step", inside[FIRST]]
    for name, given in inside.get("arguments", {}).items():
        words += ["--arguments-of", f"{name}={json.dumps(given, ensure_ascii=False)}"]
    for name, given in inside.get("payloads", {}).items():
        words += ["--payload-of", f"{name}={given if len(given) <= 100 else '...'}"]
    for argument in request.arguments or ():
        words += ["--argument", argument]
    if request.payload is not None:
        words += ["--payload", request.payload if len(request.payload) <= 100 else "..."]
    if request.priority is not None:
        words += ["--priority", request.priority]
    if request.delay is not None:
        words += ["--in", f"{request.delay:f}".rstrip("0").rstrip(".") + "s"]
    if request.at is not None:
        words += ["--at", request.at.isoformat()]
    return commands.line(*words)


PAGES: tuple[Page, ...] = (
    get("/jobs/{job}/start", form, Role.OPERATOR),
    act("/jobs/{job}/start", start),
)
