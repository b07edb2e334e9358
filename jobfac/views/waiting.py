"""Why a run waits: one sentence, the same on the pages, in the command line, in the API and in ``v_queue``. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jobfac.states import JobKind, RunState, Waiting
from jobfac.views.workers import why_idle

SUSPECTED = "its workers died while it ran; it waits for a worker on which nothing else runs"
"""The reason of a queued run that may kill its worker, once a busy worker has passed it over, as in ``v_queue``."""


_AWAITED = {
    Waiting.APPROVAL: "an approval",
    Waiting.TIME: "a time",
    Waiting.FILE: "a file",
    Waiting.HTTP: "an answer over HTTP",
}


class WaitingRun(NamedTuple):
    """What decides for what a run waits."""

    id: int
    job: str
    kind: JobKind
    state: RunState
    queue: str
    attempt: int
    ready_at: datetime | None
    already_running: str
    concurrency_key: str | None
    concurrency_limit: int | None
    for_worker: str | None
    reason: str | None

    def is_kept_by(self, holder: "Holder") -> bool:
        """Whether the run, if it is blocked, waits for this other run of its job."""
        if self.already_running == "start":
            return False
        return not holder.is_between_attempts or (self.already_running == "queue" and self.attempt == 0)


def fits(pools: Iterable[str], labels: Mapping[str, str], pool: str, wanted: Mapping[str, str]) -> bool:
    """Whether a worker with these pools and labels takes runs of a pool that want certain labels.

    The case of letters does not count: SQL Server ignores it, so two spellings are one queue there.
    """
    if pool.lower() not in map(str.lower, pools):
        return False
    return not wanted or _lowered(wanted) <= _lowered(labels)


def _lowered(labels: Mapping[str, str]) -> set[tuple[str, str]]:
    return {(name.lower(), value.lower()) for name, value in labels.items()}


class Serving(NamedTuple):
    """A live worker that takes new runs. ``message``: why it claims none, None: it does."""

    name: str
    pools: Sequence[str]
    labels: Mapping[str, str]
    slots: int
    busy: int
    message: str | None

    def serves(self, needed: "Needed") -> bool:
        """Whether the worker may claim from a queue that needs this."""
        return needed.slots <= self.slots and fits(self.pools, self.labels, needed.pool, needed.labels)


class Holder(NamedTuple):
    """A run that counts against a limit. ``category``: that of its job. ``is_between_attempts``: it will be retried."""

    id: int
    job: str
    category: str | None = None
    is_between_attempts: bool = False


class Needed(NamedTuple):
    """What a worker must have to claim from a queue: its pool, the labels, and the slots that each run takes."""

    queue: str
    pool: str
    labels: Mapping[str, str]
    slots: int = 1

    def __str__(self) -> str:
        """Such as "pool 'etl' (labels zone=a) with 2 slots"; the queue's name spells the labels."""
        end = -1 - (1 + len(str(self.slots)) if self.slots > 1 else 0)
        labels = f" (labels {self.queue[len(self.pool) + 1 : end]})" if self.labels else ""
        return f"pool '{self.pool}'{labels}" + (f" with {self.slots} slots" if self.slots > 1 else "")


def waits_for(run: WaitingRun, needed: Needed, fleet: Iterable[Serving], holders: Sequence[Holder]) -> str:
    """Return what a waiting run waits for.

    Args:
        fleet: the live workers that take new runs, the newest first.
        holders: for a blocked run, the runs because of which it is blocked.
    """
    if run.state == RunState.SCHEDULED:
        at = "its time" if run.ready_at is None else f"{run.ready_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"its next attempt at {at}" if run.attempt else f"scheduled until {at}"
    if run.state == RunState.BLOCKED:
        return _blocked(run, holders)
    if run.kind == JobKind.SEQUENCE:
        return "a worker or scheduler begins it"
    serving = [one for one in fleet if (one.serves(needed) if run.for_worker is None else one.name == run.for_worker)]
    if run.reason == SUSPECTED and any(one.message is None for one in serving):
        where = "a worker on which nothing else runs, on a machine without another such run"
        return f"{where}, because its workers died while it ran"
    if run.for_worker is not None:
        idle = next((one.message for one in serving if one.message is not None), None)
        return f"worker {run.for_worker}" + (
            f" claims nothing: {why_idle(idle)}" if idle else ", which alone may claim it"
        )
    return _for_a_slot(needed, serving)


def at_step(step: str, what: Waiting) -> str:
    """Return what a running sequence waits for at a step that runs nothing."""
    return f"{_AWAITED[what]}, at the step '{step}'"


def _for_a_slot(needed: Needed, serving: Sequence[Serving]) -> str:
    if not serving:
        return f"no live worker serves {needed}"
    healthy = [one for one in serving if one.message is None]
    if not healthy:
        return f"worker {serving[0].name} claims nothing: {why_idle(serving[0].message or '')}"
    free = max(one.slots - one.busy for one in healthy)
    if free >= needed.slots:
        return "its turn: a slot is free"
    if needed.slots > 1:
        return f"{needed.slots} free slots of one worker of {needed}"
    slots = sum(one.slots for one in healthy)
    return f"the only slot of {needed} is busy" if slots == 1 else f"all {slots} slots of {needed} are busy"


def _blocked(run: WaitingRun, holders: Sequence[Holder]) -> str:
    if run.already_running != "start" and any(one.job == run.job for one in holders):
        first = next(one for one in holders if one.job == run.job)
        return f"run {first.id} of the job has not ended"
    if run.concurrency_key is None:
        return "another run of the job has not ended"
    more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    held = f": run {holders[0].id} of {holders[0].job}{more}" if holders else ""
    return f"concurrency limit {run.concurrency_limit} of '{run.concurrency_key}'{held}"
