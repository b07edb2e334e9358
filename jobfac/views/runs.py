"""The views of a run, its attempts and its events. A new column of a run needs one more field here."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.states import JobKind, RunState, Stop
from jobfac.views.jobs import ChangeView
from jobfac.views.sequences import StepVisitView
from jobfac.views.serialization import as_json


class NoteView(NamedTuple):
    """What somebody wrote about a run."""

    id: int
    run_id: int
    at: datetime
    by: str
    text: str


class RunView(NamedTuple):
    """A run. Times are RFC 3339 with offset. ``arguments`` null: the run uses the definition's arguments.

    ``slots``: how many slots it takes, null: one. ``for_worker``: the only worker that may take it, null: any.
    ``parameters``: sensitive values are masked. ``cpu_seconds``, ``peak_memory`` (bytes): what the last attempt used.
    ``acknowledged_at``: of a failure, when a person or a later success of the job acknowledged it.
    """

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
    parameters: dict[str, Any] | None
    stop: Stop | None
    stop_by: str | None
    retry_of: int | None
    slots: int | None
    for_worker: str | None
    cpu_seconds: float | None
    peak_memory: int | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    held: str | None = None  # while the run waits for the end of a hold: the hold in a sentence
    truncated: list[str] | None = None  # in lists: the names of large values that were left out
    waits_for: str | None = None  # why a waiting run has not started, or a sequence waits, where that was read
    origin: str | None = None  # who or what started it, in words; not in lists


class RunRow(NamedTuple):
    """A run in a list. ``started_at``: the first start; ``attempt``: the number of executions."""

    id: int
    job: str
    kind: JobKind
    state: RunState
    attempt: int
    worker: str | None
    queue: str
    created_at: datetime
    created_by: str
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    due_at: datetime | None
    exit_code: int | None
    signal: int | None
    progress: float | None
    message: str | None
    reason: str | None
    exit_message: str | None
    sequence_run_id: int | None
    schedule_id: int | None


class PastRun(NamedTuple):
    """A run in a strip or a chart."""

    id: int
    job: str
    state: RunState
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None


class AttemptView(NamedTuple):
    """An attempt of a run. ``stdout_path`` and ``stderr_path``: the files on the worker, if the stream goes to one.

    ``pid``: the program's on the worker's machine. After its end, and in a restored database, another program may have
    it, and other runs may have written the files.
    """

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
    cpu_seconds: float | None
    peak_memory: int | None


class EventView(NamedTuple):
    """An event of a run. ``event``: the name of a state, or a word such as ``discarded``."""

    id: int
    attempt: int
    at: datetime
    event: str
    by: str
    detail: str | None


class RunHistory(NamedTuple):
    """A run with its attempts and events.

    Attributes:
        path: the steps that a sequence visited; None for a program.
        notes: what people wrote about the run; None: nothing.
        changes: what is different in the job's current version; None: nothing.
    """

    run: RunView
    attempts: list[AttemptView]
    events: list[EventView]
    path: list[StepVisitView] | None = None
    notes: list[NoteView] | None = None
    changes: list[ChangeView] | None = None


def history_as_json(history: RunHistory) -> dict[str, Any]:
    """Return a run's JSON object, with ``attempts``, ``events`` and what else there is of it."""
    document = as_json(history)
    return {**document.pop("run"), **document}
