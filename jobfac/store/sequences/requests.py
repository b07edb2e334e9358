"""A running sequence, and the starts of the jobs of its steps."""

import functools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.definitions.parameters import AROUND, Context, texts_given
from jobfac.definitions.parameters.uses import places_of_values
from jobfac.states import JobKind
from jobfac.store import jobs
from jobfac.store.history.recovery import BACKFILL, DUE, GIVEN
from jobfac.store.runs import StartRequest
from jobfac.store.runs.request import CONTINUED, FIRST
from jobfac.store.sequences import history
from jobfac.store.sequences.checking import Holder, check_job
from jobfac.store.sequences.values import outputs
from jobfac.store.sequences.values.references import Outputs, Room, fill, fill_typed
from jobfac.views.serialization import read_json


class SequenceRow(NamedTuple):
    """The columns of a sequence run from which it is advanced."""

    id: int
    job: str
    parameters: str | None
    sensitive: str | None
    origin: str | None
    due_at: datetime | None
    created_at: datetime
    job_version: int
    state: str
    stop_by: str | None
    priority: int
    overrides: str | None
    notify: str | None
    notify_jobs: str | None
    attempt: int
    concurrency_key: str | None
    sequence_run_id: int | None


_RUN = sa.select(*(run.c[name] for name in SequenceRow._fields))


def read_sequence(conn: sa.Connection, run_id: int) -> SequenceRow | None:
    """Return the row of a sequence run; None: there is none."""
    found = conn.execute(_RUN.where(run.c.id == run_id)).first()
    return None if found is None else SequenceRow(*found)


class SequenceRun:
    """A running sequence: its definition and the values from its start. ``by`` is the name that advances it.

    ``context``: the values of the sequence's placeholders. ``dated``: what its runs inherit, so that all of them stand
    for the same day. ``given``: the fingerprint of the values that its start gave.
    """

    def __init__(self, row: SequenceRow, sequence: Definition, by: str, context: Context) -> None:
        overrides = read_json(row.overrides) if row.overrides else {}
        self.run_id = row.id
        self.holder = Holder(row.id, row.concurrency_key, row.sequence_run_id)
        self.attempt = row.attempt
        self.notify = row.notify
        self.sequence = sequence
        self.by = by
        self.context = context
        origin = read_json(row.origin or "{}")
        self.dated = {"due": context.due.isoformat(), **_scheduled(row.due_at, origin)}
        self.given: str | None = origin.get(GIVEN)
        self.priority = row.priority
        self.inherited_events = row.notify_jobs
        self.first: str | None = overrides.get(FIRST)
        self.continued: int | None = overrides.get(CONTINUED)
        self.arguments: Mapping[str, list[str]] = overrides.get("arguments") or {}
        self.payloads: Mapping[str, str] = overrides.get("payloads") or {}


def _scheduled(due_at: datetime | None, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a schedule or a backfill started the sequence, the run that it retries, or the one around it, and
    for which due time."""
    found = {"scheduled": True} if due_at is not None or "scheduled" in origin else {}
    return {**found, **{key: origin[key] for key in (DUE, BACKFILL) if key in origin}}


def start_request(conn: sa.Connection, parent: SequenceRun, step: Step, job: str) -> StartRequest:
    """Return the start request of a job of a step. Values from the sequence's start override those of the step.

    Raises:
        UnknownReference, UnresolvedError: a reference in the arguments, the payload or the parameters has no value.
        StepError: the job does not fit its sequence.
    """
    check_job(conn, parent.holder, parent.sequence, step, job)
    known, room = outputs_of(conn, parent), Room()

    def text(text: Any, is_callers: bool) -> str:
        return fill(str(text), parent.sequence, known, None if is_callers else parent.context, room)

    arguments = parent.arguments.get(job, step.arguments.get(job))
    payload = parent.payloads.get(job, step.payloads.get(job))
    inherited = _inherited(conn, parent, job)
    return StartRequest(
        job=job,
        by=f"run {parent.run_id}",
        arguments=None if arguments is None else [text(one, job in parent.arguments) for one in arguments],
        with_values=places_of_values(arguments or ()),
        payload=None if payload is None else text(payload, job in parent.payloads),
        parameters={
            name: fill_typed(value, parent.sequence, known, parent.context)
            for name, value in step.parameters.get(job, {}).items()
        },
        written=_written(parent, step, job, is_passed_on=inherited is not None),
        priority=parent.priority,
        overrides=inherited,
        manual=False,
        sequence_run_id=parent.run_id,
        inherited_events=parent.inherited_events,
        origin=parent.dated,
    )


def _written(parent: SequenceRun, step: Step, job: str, is_passed_on: bool) -> Mapping[str, Any] | None:
    """Return what tells whether two runs of a step were given the same: the texts of the step, which the due time and
    outputs do not change, and what its sequence was given if that is passed on. None: only the values can tell."""
    arguments = None if job in parent.arguments else step.arguments.get(job)
    payload = None if job in parent.payloads else step.payloads.get(job)
    values = step.parameters.get(job, {})
    written = {**values, **texts_given(arguments, payload)}
    refers = "${parameters." in json.dumps([*values.values(), arguments, payload], default=str).replace(" ", "")
    if not (refers or is_passed_on or job in parent.arguments or job in parent.payloads):
        return written
    return None if parent.given is None else {**written, AROUND: parent.given}


def outputs_of(conn: sa.Connection, parent: SequenceRun) -> Outputs:
    """Return a function that reads outputs, those of each job once, however often a text refers to them."""

    @functools.cache
    def read(of_step: str, of_job: str | None) -> Mapping[str, Any] | None:
        return outputs.of_job(conn, history.lineage(conn, parent.run_id), of_step, of_job)

    return read


def _inherited(conn: sa.Connection, parent: SequenceRun, job: str) -> Mapping[str, Any] | None:
    """Return the overrides for a nested sequence: all arguments and payloads, because they may be for its jobs."""
    if not parent.arguments and not parent.payloads:
        return None
    stored = jobs.load(conn, job, True)
    if stored is None or stored.kind != JobKind.SEQUENCE:
        return None
    return {"arguments": parent.arguments, "payloads": parent.payloads}
