"""Models of response bodies, for the OpenAPI document. Models of rows are derived from their views."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from jobfac.doctor.finding import Finding as FindingView
from jobfac.states import Role, RunState
from jobfac.views.holds import HoldView
from jobfac.views.jobs import ChangeView, JobView, ListedVersionView, OverdueView, VersionView
from jobfac.views.keys import KeyView, StartUrlView
from jobfac.views.notifications import NotificationView
from jobfac.views.overview import DueSchedule, RunLine, WaitingRuns
from jobfac.views.overview import Overview as OverviewView
from jobfac.views.results.backfill import Backfill as BackfillOfViews
from jobfac.views.results.backfill import BackfillView
from jobfac.views.results.load import HourLoad, LoadView, MoveView, PoolLoad
from jobfac.views.results.many import ManyView
from jobfac.views.results.output import OutputMatch
from jobfac.views.results.plans import AppliedView, PlanView
from jobfac.views.runs import AttemptView, EventView, NoteView, RunView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.sequences import StepRunView, StepVisitView
from jobfac.views.serialization import fields
from jobfac.views.workers import WorkerView


class Shown(BaseModel):
    """A part of a response. Later versions may add fields."""


_MODELS: dict[type[tuple[Any, ...]], type[Shown]] = {}
"""The model of each view."""


def model_of(name: str, view: type[tuple[Any, ...]], **more: Any) -> type[Shown]:
    """Create the model of a view's JSON object, with the same fields, types and description.

    ``more``: fields that are not columns, each with its type and default.
    """
    declared: dict[str, Any] = {field.name: (_model_type(field.kind), ...) for field in fields(view) if field.is_column}
    _MODELS[view] = create_model(name, __base__=Shown, __doc__=view.__doc__, **declared, **more)
    return _MODELS[view]


def _model_type(kind: Any) -> Any:
    """Return the declared type, with models in place of views."""
    if get_origin(kind) is list:
        model: Any = _MODELS.get(get_args(kind)[0])
        return kind if model is None else list[model]
    return _MODELS.get(kind, kind) if isinstance(kind, type) else kind


def _listed(
    name: str, view: type[tuple[Any, ...]], large: tuple[str, ...], description: str, **more: Any
) -> type[Shown]:
    """Create the model of a view in a list, where ``large`` fields may be left out; ``truncated`` names them."""
    declared: dict[str, Any] = {
        field.name: (field.kind | None if field.name in large else field.kind, ...)
        for field in fields(view)
        if field.is_column
    }
    declared["truncated"] = (list[Literal[large]], ...)  # type: ignore[valid-type]
    return create_model(name, __base__=Shown, __doc__=description, **declared, **more)


def _page(name: str, item: type[Shown], cursor: bool = False) -> type[Shown]:
    """Create the model of a list. With ``cursor``, it is one page of a list."""
    declared: dict[str, Any] = {"items": (list[item], ...)}  # type: ignore[valid-type]
    if cursor:
        declared["next_cursor"] = (str | None, ...)
    return create_model(name, __base__=Shown, **declared)


WAITS_FOR = (
    Annotated[str, Field(description="Why a run has not started, or for what a running sequence waits; else absent.")],
    "",
)
ORIGIN = (Annotated[str, Field(description="Who or what started the run, in words.")], "")


class FieldError(Shown):
    field: str
    message: str


class Advice(Shown):
    """What to do, over HTTP and as a command."""

    http: str
    command: str


class ProblemDocument(Shown):
    """RFC 9457.

    ``errors``: the invalid fields (422). ``run_id``: the run that was denied (409). ``advice``: the remedy in
    ``detail`` as HTTP says it, and as a command of jobfac.
    """

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    run_id: int | None = None
    advice: Advice | None = None


Run = model_of("Run", RunView, waits_for=WAITS_FOR, origin=ORIGIN)


ListedRun = _listed(
    "ListedRun",
    RunView,
    ("arguments", "payload", "outputs", "parameters"),
    "A run in a list. ``truncated``: the fields of ``arguments``, ``payload``, ``outputs`` and ``parameters`` that\n"
    "are null because they are larger than 4 KiB; ``GET /v1/runs/{run}`` returns them.",
    waits_for=WAITS_FOR,
)
_ALL: Any = list[Run] | None  # type: ignore[valid-type]
StartedRun = create_model(
    "StartedRun",
    __base__=Run,
    __doc__="The run that a start made; of a job with `each_worker` the first, and `runs` has those of all workers.",
    runs=(_ALL, None),
)
Runs = _page("Runs", ListedRun, cursor=True)


ManyRun = model_of("ManyRun", ManyView)


class ManyRuns(Shown):
    """What happened to each run, or would happen. ``next_cursor``: where to continue; null: these were all."""

    dry_run: bool
    items: list[ManyRun]  # type: ignore[valid-type]
    next_cursor: str | None


Note = model_of("Note", NoteView)
Notes = _page("Notes", Note, cursor=True)

Hold = model_of("Hold", HoldView)
Holds = _page("Holds", Hold, cursor=True)

JobVersion = model_of("JobVersion", VersionView)
ListedVersion = model_of("ListedVersion", ListedVersionView)
Versions = _page("Versions", ListedVersion, cursor=True)

Change = model_of("Change", ChangeView)
Changes = _page("Changes", Change)


Attempt = model_of("Attempt", AttemptView)
Attempts = _page("Attempts", Attempt)


RunEvent = model_of("RunEvent", EventView)
RunEvents = _page("RunEvents", RunEvent)


StepRun = model_of(
    "StepRun", StepRunView, path=("list[StepVisit] | None", None), truncated=(list[Literal["outputs"]] | None, None)
)
StepVisit = model_of("StepVisit", StepVisitView)
StepRun.model_rebuild()
StepVisit.model_rebuild()


class StepHistory(Shown):
    """The visits of a sequence's steps, in order, each with its runs."""

    items: list[StepVisit]  # type: ignore[valid-type]


class Piece(Shown):
    """``data``: base64. ``offset``: bytes from the start of the stream. ``skipped``: bytes removed just before it."""

    stream: Literal["stdout", "stderr"]
    offset: int
    skipped: int
    data: str


class OutputPage(Shown):
    """``position``: the value of ``after`` that continues. ``complete``: the output has ended."""

    attempt: int
    pieces: list[Piece]
    position: str
    complete: bool


OutputLine = model_of("OutputLine", OutputMatch)
OutputLines = _page("OutputLines", OutputLine, cursor=True)


class Stopped(Shown):
    """The states of the run before and after the request. Equal states: the request changed nothing."""

    before: RunState
    after: RunState


class Approval(Shown):
    """What was decided about a step."""

    run: int
    step: str
    decision: Literal["approved", "rejected"]


Job = model_of("Job", JobView)
ListedJob = _listed(
    "ListedJob",
    JobView,
    ("definition",),
    "A job in a list. ``truncated``: contains ``definition`` if that is null because it is larger than 4 KiB;\n"
    "``GET /v1/jobs/{job}`` returns it.",
)
Jobs = _page("Jobs", ListedJob, cursor=True)


class CategoryDefaults(Shown):
    """By category, the values for its jobs whose definitions do not set them."""

    defaults: dict[str, dict[str, Any]]


Worker = model_of("Worker", WorkerView)
Workers = _page("Workers", Worker)


Schedule = model_of("Schedule", ScheduleView)
ListedSchedule = _listed(
    "ListedSchedule",
    ScheduleView,
    ("definition",),
    "A schedule in a list. ``truncated``: contains ``definition`` if that is null because it is larger than 4 KiB;\n"
    "the definition of the job contains it.",
)
Schedules = _page("Schedules", ListedSchedule)


Candidate = model_of("Candidate", CandidateView)
Candidates = _page("Candidates", Candidate)

HourOfLoad = model_of("HourOfLoad", HourLoad)
PoolOfLoad = model_of("PoolOfLoad", PoolLoad)
Move = model_of("Move", MoveView)
Load = model_of("Load", LoadView)

BackfillTime = model_of("BackfillTime", BackfillView)
Backfill = model_of("Backfill", BackfillOfViews)

Waiting = model_of("WaitingRuns", WaitingRuns)
RunSummary = model_of("RunSummary", RunLine)
NextDue = model_of("NextDue", DueSchedule)
Overdue = model_of("Overdue", OverdueView)
Overview = model_of("Overview", OverviewView)


Key = model_of("Key", KeyView)
Keys = _page("Keys", Key)


class NewKey(Shown):
    """``key``: its text, which cannot be shown again."""

    id: int
    role: Role
    key: str


StartUrl = model_of("StartUrl", StartUrlView)
StartUrls = _page("StartUrls", StartUrl)

Notification = model_of("Notification", NotificationView)
Notifications = _page("Notifications", Notification)


class Requeued(Shown):
    """The ids of the notifications that were dead and are delivered again."""

    requeued: list[int]


class ReportDocument(Shown):
    """A report. ``row``: the name of the kind of its rows, whose keys follow from it. ``total``: all rows together."""

    report: str
    since: date
    until: date
    made_at: datetime
    title: str
    note: str
    only: str
    row: str
    rows: list[dict[str, Any]]
    total: dict[str, Any] | None


DefinitionPlan = model_of("DefinitionPlan", PlanView)
AppliedDefinitions = model_of("AppliedDefinitions", AppliedView)


class PurgeResult(Shown):
    """``removed``: the number of runs. ``more``: there may be more to remove."""

    removed: int
    more: bool


Finding = model_of("Finding", FindingView, remedy=(str, ""))
Findings = _page("Findings", Finding)


class Health(Shown):
    status: Literal["ok"]


class OutputEvent(Shown):
    """An event of `text/event-stream`. ``data`` is a JSON object."""

    id: str
    event: Literal["output", "end"]
    data: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/json"})]


class LiveEvent(Shown):
    """An event of `text/event-stream`. ``data`` is a JSON object."""

    id: str = ""
    event: Literal["run", "progress", "worker", "reset"]
    data: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/json"})]
