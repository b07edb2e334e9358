"""The history of a sequence run: which steps it visited, and how the runs of their jobs ended."""

from datetime import datetime
from typing import Any, NamedTuple

from jobfac.states import Decision, JobKind, RunState, StepResult, StepStart, Waiting


class StepRunView(NamedTuple):
    """A job's run in a visit. A job whose start was refused has the state ``denied`` and no id. ``path``: the visits
    of a nested sequence, None for a program. ``item``: with ``for_each``, the place of its values, from 0.
    ``taken_from``: the sequence run in which it succeeded, if this one has taken it over from there; itself, if it is a
    retry by hand.
    ``truncated``: contains ``outputs`` if these are left out because they are larger than 4 KiB; the run has them."""

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
    item: int | None
    path: list["StepVisitView"] | None = None
    truncated: list[str] | None = None
    taken_from: int | None = None


class StepVisitView(NamedTuple):
    """One visit of a step. ``number``: 1 for the first visit of this step; ``result``: None while it is undecided;
    ``reason``: why its start was skipped or failed, what a person said, or what it waited for when the run ended;
    ``next``: the step chosen, "end" or "end_failed".

    ``waits_for``: a person (``approval``), a ``time``, a ``file`` or an address (``http``), until ``wake_at``;
    ``awaits``: the file with ``stable``, or the address (``http``) with ``every``, both in seconds, and ``over``: when
    its time was over if it got one more look; ``pool``: whose workers look for the file; ``decision`` and
    ``decided_by`` say how that ended, and ``parameters`` what the person gave. ``children``: with ``for_each``, how
    many runs it has in all; ``counts`` has them by state, and ``runs`` the first hundred, failures first. ``taken``:
    how many of all runs it has taken over from runs that it continues.
    """

    step: str
    number: int
    entered_at: datetime
    start: StepStart
    result: StepResult | None
    decided_at: datetime | None
    reason: str | None
    next: str | None
    waits_for: Waiting | None
    wake_at: datetime | None
    decision: Decision | None
    decided_by: str | None
    awaits: dict[str, Any] | None
    pool: str | None
    parameters: dict[str, Any] | None
    children: int | None
    runs: list[StepRunView]
    counts: dict[str, int] | None = None
    taken: int | None = None

    @property
    def wanted(self) -> str:
        """What it waits for, in words that follow "waits for"."""
        if self.waits_for == Waiting.FILE and self.awaits is not None:
            where = f" in pool {self.pool}" if self.pool else ""
            return f"the file {self.awaits['file']}{where}"
        if self.waits_for == Waiting.HTTP and self.awaits is not None:
            url = self.awaits["http"]
            return f"an answer of {url if isinstance(url, str) else url['secret']}"
        return "an approval" if self.waits_for == Waiting.APPROVAL else "its time"
