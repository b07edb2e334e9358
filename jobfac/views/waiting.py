"""Why a run waits: one sentence, the same on the pages, in the command line, in the API and in ``v_queue``. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jobfac.states import JobKind, RunState


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


class Serving(NamedTuple):
    """A live worker that takes new runs. ``message``: why it claims none, None: it does."""

    name: str
    pools: Sequence[str]
    labels: Mapping[str, str]
    slots: int
    busy: int
    message: str | None


class Holder(NamedTuple):
    """A run that counts against a limit."""

    id: int
    job: str


def waits_for(
    run: WaitingRun, pool: str, labels: Mapping[str, str], fleet: Iterable[Serving], holders: Sequence[Holder]
) -> str:
    """Return what a waiting run waits for.

    Args:
        pool, labels: of the run's queue: what a worker must have. The queue's name spells the labels.
        fleet: the live workers that take new runs.
        holders: for a blocked run, the runs because of which it is blocked.
    """
    if run.state == RunState.SCHEDULED:
        at = "its time" if run.ready_at is None else f"{run.ready_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"its next attempt at {at}" if run.attempt else f"scheduled until {at}"
    if run.state == RunState.BLOCKED:
        return _blocked(run, holders)
    if run.kind == JobKind.SEQUENCE:
        return "a worker or scheduler begins it"
    needed = f"pool '{pool}'" + (f" (labels {run.queue[len(pool) + 1 : -1]})" if labels else "")
    serving = [one for one in fleet if pool in one.pools and labels.items() <= one.labels.items()]
    if not serving:
        return f"no live worker serves {needed}"
    healthy = [one for one in serving if one.message is None]
    if not healthy:
        return f"worker {serving[0].name} claims nothing: {serving[0].message}"
    slots = sum(one.slots for one in healthy)
    if sum(one.busy for one in healthy) >= slots:
        every = "the only slot" if slots == 1 else f"all {slots} slots"
        return f"{every} of {needed} {'is' if slots == 1 else 'are'} busy"
    return "its turn: a slot is free"


def _blocked(run: WaitingRun, holders: Sequence[Holder]) -> str:
    if run.already_running != "start" and any(one.job == run.job for one in holders):
        first = next(one for one in holders if one.job == run.job)
        return f"run {first.id} of the job has not ended"
    if run.concurrency_key is None:
        return "another run of the job has not ended"
    more = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    held = f": run {holders[0].id} of {holders[0].job}{more}" if holders else ""
    return f"concurrency limit {run.concurrency_limit} of '{run.concurrency_key}'{held}"
