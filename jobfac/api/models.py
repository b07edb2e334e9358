"""The forms of the API's answers, for the OpenAPI document. Those of rows are derived from their views."""

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from jobfac.states import RunState
from jobfac.views.jobs import JobView
from jobfac.views.overview import DueSchedule, RunLine, WaitingRuns
from jobfac.views.overview import Overview as OverviewView
from jobfac.views.runs import AttemptView, EventView, RunView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import fields
from jobfac.views.workers import WorkerView


class Shown(BaseModel):
    """A part of an answer. Later versions may add fields."""


_MODELS: dict[type[tuple[Any, ...]], type[Shown]] = {}
"""The model of each view."""


def answer(name: str, view: type[tuple[Any, ...]]) -> type[Shown]:
    """The model of a view's JSON object: the same fields, the same types, the same description."""
    declared: dict[str, Any] = {field.name: (_model_type(field.kind), ...) for field in fields(view) if field.is_column}
    _MODELS[view] = create_model(name, __base__=Shown, __doc__=view.__doc__, **declared)
    return _MODELS[view]


def _model_type(kind: Any) -> Any:
    """The declared type, with models in place of views."""
    model: Any = _MODELS.get(get_args(kind)[0]) if get_origin(kind) is list else None
    return kind if model is None else list[model]


def _listed(name: str, view: type[tuple[Any, ...]], large: tuple[str, ...], description: str) -> type[Shown]:
    """The model of a view in a list: the ``large`` fields may be left out, and ``truncated`` names those that are."""
    declared: dict[str, Any] = {
        field.name: (field.kind | None if field.name in large else field.kind, ...)
        for field in fields(view)
        if field.is_column
    }
    declared["truncated"] = (list[Literal[large]], ...)  # type: ignore[valid-type]
    return create_model(name, __base__=Shown, __doc__=description, **declared)


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


ListedRun = _listed(
    "ListedRun",
    RunView,
    ("arguments", "payload", "outputs", "parameters"),
    "A run in a list. ``truncated``: which of ``arguments``, ``payload``, ``outputs`` and ``parameters`` are null\n"
    "here since they are larger than 4 KiB; the run itself has them.",
)
Runs = _page("Runs", ListedRun, cursor=True)


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


class Approval(Shown):
    """What was decided about a step."""

    run: int
    step: str
    decision: Literal["approved", "rejected"]


Job = answer("Job", JobView)
ListedJob = _listed(
    "ListedJob",
    JobView,
    ("definition",),
    "A job in a list. ``truncated``: has ``definition`` if that is null here since it is larger than 4 KiB; the job\n"
    "itself has it.",
)
Jobs = _page("Jobs", ListedJob, cursor=True)


class CategoryDefaults(Shown):
    """By category, what holds for its jobs that do not say it themselves."""

    defaults: dict[str, dict[str, Any]]


Worker = answer("Worker", WorkerView)
Workers = _page("Workers", Worker)


Schedule = answer("Schedule", ScheduleView)
ListedSchedule = _listed(
    "ListedSchedule",
    ScheduleView,
    ("definition",),
    "A schedule in a list. ``truncated``: has ``definition`` if that is null here since it is larger than 4 KiB; the\n"
    "job's definition has it.",
)
Schedules = _page("Schedules", ListedSchedule)


Candidate = answer("Candidate", CandidateView)
Candidates = _page("Candidates", Candidate)

Waiting = answer("Waiting", WaitingRuns)
RunSummary = answer("RunSummary", RunLine)
NextDue = answer("NextDue", DueSchedule)
Overview = answer("Overview", OverviewView)


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
