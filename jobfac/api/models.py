"""The forms of the API's answers, for the OpenAPI document. Those of rows are derived from their views."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from jobfac.states import RunState
from jobfac.views.jobs import JobView
from jobfac.views.runs import AttemptView, EventView, RunView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import fields
from jobfac.views.workers import WorkerView


class Shown(BaseModel):
    """A part of an answer. Later versions may add fields."""


def answer(name: str, view: type[tuple[Any, ...]]) -> type[Shown]:
    """The model of a view's JSON object: the same fields, the same types, the same description."""
    declared: dict[str, Any] = {field.name: (field.kind, ...) for field in fields(view)}
    return create_model(name, __base__=Shown, __doc__=view.__doc__, **declared)


def _page(name: str, item: type[Shown], cursor: bool = False) -> type[Shown]:
    """The model of a list; with a ``cursor`` it is a page of one."""
    declared: dict[str, Any] = {"items": (list[item], ...)}  # type: ignore[valid-type]
    if cursor:
        declared["next_cursor"] = (str | None, ...)
    return create_model(name, __base__=Shown, **declared)


class FieldError(Shown):
    field: str
    message: str


class ProblemDocument(Shown):
    """RFC 9457. ``errors``: what is wrong where (422); ``run_id``: the run that was denied (409)."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    run_id: int | None = None


Run = answer("Run", RunView)


Runs = _page("Runs", Run, cursor=True)


Attempt = answer("Attempt", AttemptView)
Attempts = _page("Attempts", Attempt)


RunEvent = answer("RunEvent", EventView)
RunEvents = _page("RunEvents", RunEvent)


class Path(Shown):
    """The visits of a sequence's steps, in order, each with its runs."""

    items: list[dict[str, Any]]


class Piece(Shown):
    """``data``: base64 of bytes that begin ``offset`` bytes from the stream's start; ``skipped`` were cut before."""

    stream: Literal["stdout", "stderr"]
    offset: int
    skipped: int
    data: str


class OutputPage(Shown):
    """``position``: give it as ``after`` to continue. ``complete``: no more will come."""

    attempt: int
    pieces: list[Piece]
    position: str
    complete: bool


class Stopped(Shown):
    """Equal states: there was nothing to do."""

    before: RunState
    after: RunState


Job = answer("Job", JobView)
Jobs = _page("Jobs", Job, cursor=True)


class CategoryDefaults(Shown):
    """By category, what holds for its jobs that do not say it themselves."""

    defaults: dict[str, dict[str, Any]]


Worker = answer("Worker", WorkerView)
Workers = _page("Workers", Worker)


Schedule = answer("Schedule", ScheduleView)
Schedules = _page("Schedules", Schedule)


Candidate = answer("Candidate", CandidateView)
Candidates = _page("Candidates", Candidate)


class Health(Shown):
    status: Literal["ok"]


class OutputEvent(Shown):
    """As `text/event-stream` has it; ``data`` is a JSON object."""

    id: str
    event: Literal["output", "end"]
    data: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/json"})]


class LiveEvent(Shown):
    """As `text/event-stream` has it; ``data`` is a JSON object."""

    id: str = ""
    event: Literal["run", "progress", "worker"]
    data: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/json"})]
