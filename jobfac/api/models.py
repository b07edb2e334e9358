"""The models of the API's answers: the OpenAPI document is made from them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobfac.states import JobKind, RunState, Stop, WorkerState


class Shown(BaseModel):
    """Of an answer. More may be added to it."""


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


class Run(Shown):
    """A run. Times are RFC 3339 with offset; ``arguments`` null: the definition's."""

    id: int
    job: str
    state: RunState
    attempt: int
    priority: int
    arguments: list[str] | None
    payload: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    worker: str | None
    exit_code: int | None
    signal: int | None
    reason: str | None
    progress: float | None
    message: str | None
    exit_message: str | None
    sequence_run_id: int | None
    schedule_id: int | None
    due_at: datetime | None
    kind: JobKind
    job_version: int
    queue: str
    created_by: str
    ready_at: datetime | None
    queued_at: datetime | None
    outputs: dict[str, Any] | None
    stop: Stop | None
    stop_by: str | None
    retry_of: int | None


class ListedRun(Run):
    """A run in a list. ``truncated``: which of ``arguments``, ``payload`` and ``outputs`` are null here since they are
    larger than 4 KiB; the run itself has them."""

    truncated: list[Literal["arguments", "payload", "outputs"]]


class Runs(Shown):
    items: list[ListedRun]
    next_cursor: str | None


class Attempt(Shown):
    """One execution of a run. ``stdout_path``: the file on the worker that the stream went to, if it did."""

    run_id: int
    number: int
    worker_id: int
    worker: str
    pid: int | None
    started_at: datetime
    ended_at: datetime | None
    state: RunState | None
    exit_code: int | None
    signal: int | None
    reason: str | None
    stdout_path: str | None
    stderr_path: str | None


class Attempts(Shown):
    items: list[Attempt]


class RunEvent(Shown):
    """One thing that happened to a run: a state's name, or a word such as ``discarded``."""

    id: int
    attempt: int
    at: datetime
    event: str
    by: str
    detail: str | None


class RunEvents(Shown):
    items: list[RunEvent]


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


class Job(Shown):
    """A job as it is in force. ``definition`` leaves defaults out."""

    id: str
    kind: JobKind
    version: int
    enabled: bool
    category: str | None
    queue: str
    definition: dict[str, Any]


class ListedJob(Shown):
    """A job in a list. ``truncated``: has ``definition`` if that is null here since it is larger than 4 KiB; the job
    itself has it."""

    id: str
    kind: JobKind
    version: int
    enabled: bool
    category: str | None
    queue: str
    definition: dict[str, Any] | None
    truncated: list[Literal["definition"]]


class Jobs(Shown):
    items: list[ListedJob]
    next_cursor: str | None


class CategoryDefaults(Shown):
    """By category, what holds for its jobs that do not say it themselves."""

    defaults: dict[str, dict[str, Any]]


class Worker(Shown):
    """A worker process; ``busy``: how many runs it holds."""

    id: int
    name: str
    host: str
    pid: int
    version: str
    slots: int
    pools: list[str]
    labels: dict[str, str]
    state: WorkerState
    started_at: datetime
    seen_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    busy: int


class Workers(Shown):
    items: list[Worker]


class Schedule(Shown):
    """``next_due_at`` is what the calendar says, ``fire_at`` adds the schedule's jitter."""

    id: int
    job: str
    name: str
    paused: bool
    job_enabled: bool
    next_due_at: datetime | None
    fire_at: datetime | None
    last_due_at: datetime | None
    definition: dict[str, Any]


class ListedSchedule(Shown):
    """A schedule in a list. ``truncated``: has ``definition`` if that is null here since it is larger than 4 KiB; the
    job's definition has it."""

    id: int
    job: str
    name: str
    paused: bool
    job_enabled: bool
    next_due_at: datetime | None
    fire_at: datetime | None
    last_due_at: datetime | None
    definition: dict[str, Any] | None
    truncated: list[Literal["definition"]]


class Schedules(Shown):
    items: list[ListedSchedule]


class Candidate(Shown):
    """A time of a schedule; ``reason``: why it does not fire, or not at the time that was written."""

    due_at: datetime
    schedule: str
    local: datetime
    fires: bool
    reason: str | None


class Candidates(Shown):
    items: list[Candidate]


class Waiting(Shown):
    """Queued runs of a pool; ``seconds``: how long the first of them has waited."""

    pool: str
    number: int
    seconds: float


class RunSummary(Shown):
    """A run, as far as an overview shows it."""

    id: int
    job: str
    kind: JobKind
    state: RunState
    attempt: int
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: float | None
    message: str | None
    reason: str | None
    exit_message: str | None
    sequence_run_id: int | None


class NextDue(Shown):
    """A schedule that is due next."""

    job: str
    name: str
    fire_at: datetime


class Overview(Shown):
    """How the factory stands at ``now``. ``blocked`` and ``scheduled`` runs wait for a rule and for their time;
    ``held`` runs are under way, of which ``running`` has the longest. ``ended``: latest first."""

    now: datetime
    workers: list[Worker]
    queued: list[Waiting]
    blocked: int
    scheduled: int
    held: int
    running: list[RunSummary]
    ended: list[RunSummary]
    due: list[NextDue]


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
