"""The history of a sequence run: which steps it visited, and how the runs of their jobs ended."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.states import JobKind, RunState, StepResult, StepStart


class StepRunView(NamedTuple):
    """A job's run in a visit. A job whose start was refused has the state ``denied`` and no id. ``path``: the visits
    of a nested sequence, None for a program."""

    id: int | None
    job: str
    kind: JobKind | None
    state: RunState
    attempt: int | None
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    reason: str | None
    exit_message: str | None
    outputs: dict[str, Any] | None
    path: list["StepVisitView"] | None = None


class StepVisitView(NamedTuple):
    """One visit of a step. ``number``: 1 for the first visit of this step; ``result``: None while it is undecided;
    ``reason``: why its start was skipped or failed; ``next``: the step chosen, "end" or "end_failed"."""

    step: str
    number: int
    entered_at: datetime
    start: StepStart
    result: StepResult | None
    decided_at: datetime | None
    reason: str | None
    next: str | None
    runs: list[StepRunView]
