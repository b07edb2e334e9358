"""Enter a step: check its condition, fill in the arguments and payloads of its jobs, and start them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import run
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.states import JobKind, StepResult, StepStart
from jobfac.store import jobs, runs
from jobfac.store.runs import StartRequest
from jobfac.store.runs.request import FIRST
from jobfac.store.sequences import visits
from jobfac.store.sequences.decide import is_open, leave, step_of
from jobfac.store.sequences.references import UnknownReference, fill

ANCESTORS = 20
"""The maximum length of a chain of retried runs that is searched for outputs."""


class SequenceRun:
    """A running sequence: its definition and the values from its start. ``by`` is the name that advances it."""

    def __init__(self, row: Any, sequence: Definition, by: str) -> None:
        overrides = json.loads(row.overrides) if row.overrides else {}
        self.run_id: int = row.id
        self.sequence = sequence
        self.by = by
        self.priority: int = row.priority
        self.retry_of: int | None = row.retry_of
        self.inherited_events: str | None = row.notify_jobs
        self.first: str | None = overrides.get(FIRST)
        self.arguments: Mapping[str, list[str]] = overrides.get("arguments") or {}
        self.payloads: Mapping[str, str] = overrides.get("payloads") or {}


def enter(conn: sa.Connection, parent: SequenceRun, name: str, number: int) -> None:
    """Enter a step for the ``number``-th time: start its jobs, skip it, or fail it."""
    sequence, step = parent.sequence, step_of(parent.sequence, name)
    if step.start_if is not None and not is_open(step, _now(conn)):
        left = leave(sequence, step, StepResult.SKIPPED)
        visits.enter(conn, parent.run_id, step, number, StepStart.SKIPPED, left, "its start_if did not hold")
        return
    try:
        requests = [_start_request(conn, parent, step, job) for job in step.jobs]
    except UnknownReference as error:
        left = leave(sequence, step, StepResult.FAILURE)
        visits.enter(conn, parent.run_id, step, number, StepStart.FAILED, left, str(error))
        return
    visit_id = visits.enter(conn, parent.run_id, step, number, StepStart.STARTED)
    answers = runs.start_each(conn, [replace(request, visit_id=visit_id) for request in requests])
    reasons = {
        job: str(answer) for job, answer in zip(step.jobs, answers, strict=True) if isinstance(answer, Exception)
    }
    if reasons:
        visits.refuse(conn, visit_id, reasons)


def _now(conn: sa.Connection) -> datetime:
    now: datetime = conn.execute(sa.select(utcnow())).scalar_one()
    return now


def _start_request(conn: sa.Connection, parent: SequenceRun, step: Step, job: str) -> StartRequest:
    """Return the start request of a job of a step. Values from the sequence's start override those of the step.

    Raises:
        UnknownReference: a reference in the arguments or the payload cannot be resolved.
    """

    def filled(text: Any) -> str:
        return fill(str(text), parent.sequence, lambda *place: visits.outputs(conn, _lineage(conn, parent), *place))

    arguments = parent.arguments.get(job, step.arguments.get(job))
    payload = parent.payloads.get(job, step.payloads.get(job))
    return StartRequest(
        job=job,
        by=f"run {parent.run_id}",
        arguments=None if arguments is None else [filled(one) for one in arguments],
        payload=None if payload is None else filled(payload),
        priority=parent.priority,
        overrides=_inherited(conn, parent, job),
        manual=False,
        sequence_run_id=parent.run_id,
        inherited_events=parent.inherited_events,
    )


def _inherited(conn: sa.Connection, parent: SequenceRun, job: str) -> Mapping[str, Any] | None:
    """Return the overrides for a nested sequence: all arguments and payloads, because they may be for its jobs."""
    if not parent.arguments and not parent.payloads:
        return None
    stored = jobs.load(conn, job)
    if stored is None or stored.kind != JobKind.SEQUENCE:
        return None
    return {"arguments": parent.arguments, "payloads": parent.payloads}


def _lineage(conn: sa.Connection, parent: SequenceRun) -> Iterator[int]:
    """Yield the sequence run and, if it continues from a failed step, the runs that it continues."""
    yield parent.run_id
    earlier = parent.retry_of if parent.first else None
    for _ in range(ANCESTORS):
        if earlier is None:
            return
        yield earlier
        earlier = conn.execute(sa.select(run.c.retry_of).where(run.c.id == earlier)).scalar()
