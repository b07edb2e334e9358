"""Enter a step: check its condition, fill in the arguments and payloads of its jobs, and start them."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from math import prod
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.engine import SEQUENCE_LIMIT
from jobfac.definitions import Sequence as Definition
from jobfac.definitions import Step
from jobfac.definitions.parameters import AROUND, Context, UnresolvedError, fill_address, fill_pattern
from jobfac.definitions.parameters.uses import places_of_values
from jobfac.definitions.waiting import Wait
from jobfac.states import JobKind, StepResult, StepStart, Waiting
from jobfac.store import jobs, runs
from jobfac.store.history.recovery import BACKFILL, DUE, GIVEN
from jobfac.store.runs import StartRequest
from jobfac.store.runs.event import Event
from jobfac.store.runs.request import FIRST
from jobfac.store.sequences import history, inputs, visits
from jobfac.store.sequences.checking import Holder, StepError, check_job
from jobfac.store.sequences.decide import FAN_OUT, is_open, leave, step_of, too_many_runs
from jobfac.store.sequences.references import Outputs, Room, UnknownReference, fill, fill_typed
from jobfac.store.sequences.visits import Awaited
from jobfac.views.serialization import read_json

Items = Sequence[Mapping[str, Any]]
"""The parameters of the runs of a step with ``for_each``."""

LONGEST_ITEMS = 4 * 1024 * 1024
"""Characters of these as JSON at most. They are stored at once, and read at the end of each of the runs."""


def limit(conn: sa.Connection) -> int:
    """Return how many visits of steps, and how many runs of jobs, one sequence run may have: a setting."""
    return int(conn.get_execution_options().get("sequence_limit", SEQUENCE_LIMIT))


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
        self.arguments: Mapping[str, list[str]] = overrides.get("arguments") or {}
        self.payloads: Mapping[str, str] = overrides.get("payloads") or {}


def _scheduled(due_at: datetime | None, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a schedule or a backfill started the sequence, the run that it retries, or the one around it, and
    for which due time."""
    found = {"scheduled": True} if due_at is not None or "scheduled" in origin else {}
    return {**found, **{key: origin[key] for key in (DUE, BACKFILL) if key in origin}}


def enter(conn: sa.Connection, parent: SequenceRun, name: str, number: int) -> None:
    """Enter a step for the ``number``-th time: start its jobs, skip it, or fail it."""
    sequence, step = parent.sequence, step_of(parent.sequence, name)
    if step.start_if is not None and not is_open(step, current_time(conn)):
        left = leave(sequence, step, StepResult.SKIPPED)
        visits.enter(conn, parent.run_id, step, number, StepStart.SKIPPED, left, "its start_if did not hold")
        return
    try:
        if step.waits:
            _wait(conn, parent, step, number)
            return
        if step.for_each:
            _fan_out(conn, parent, step, number)
            return
        _check_limit(conn, parent, len(step.jobs))
        requests = [_start_request(conn, parent, step, job) for job in step.jobs]
    except (UnknownReference, UnresolvedError, StepError) as error:
        left = leave(sequence, step, StepResult.FAILURE)
        visits.enter(conn, parent.run_id, step, number, StepStart.FAILED, left, _said(conn, parent, error))
        return
    visit_id = visits.enter(conn, parent.run_id, step, number, StepStart.STARTED)
    answers = runs.start_each(conn, [replace(request, visit_id=visit_id) for request in requests])
    reasons = {
        job: str(answer) for job, answer in zip(step.jobs, answers, strict=True) if isinstance(answer, Exception)
    }
    if reasons:
        visits.refuse(conn, visit_id, reasons)


def _said(conn: sa.Connection, parent: SequenceRun, error: Exception) -> str:
    """Return what an error says, without the outputs of a job of another category."""
    if isinstance(error, UnknownReference) and error.job and history.is_elsewhere(conn, parent.run_id, error.job):
        return error.brief
    return str(error)


def _wait(conn: sa.Connection, parent: SequenceRun, step: Step, number: int) -> None:
    """Begin to wait for a person, a time, a file or an address.

    Raises:
        UnresolvedError: a placeholder in the path or the address has no value, or one that does not fit there.
    """
    now = current_time(conn)
    if step.wait is not None:
        awaited = _awaited(step.wait, now, parent.context)
        visits.enter(conn, parent.run_id, step, number, StepStart.STARTED, awaited=awaited)
        return
    assert step.approve is not None
    wanted = step.approve
    wake_at = None if wanted.timeout is None else now + timedelta(seconds=wanted.timeout)
    visits.enter(conn, parent.run_id, step, number, StepStart.STARTED, awaited=Awaited(Waiting.APPROVAL, wake_at))
    ask(conn, parent, step, wanted.message)


def ask(conn: sa.Connection, parent: SequenceRun, step: Step, what: str | None) -> None:
    """Record that a step waits for a person, and notify those who want to know. ``what``: the question to decide."""
    assert step.approve is not None
    said = f": {what}" if what else ""
    how = inputs.command(parent.run_id, step.name, step.approve)
    detail = f"step '{step.name}' waits for an approval by {step.approve.by}{said}; `{how}`"
    runs.record(conn, [Event(parent.run_id, parent.attempt, "approval_wanted", parent.by, detail, parent.notify)])


def _awaited(wait: Wait, now: datetime, context: Context) -> Awaited:
    end = wait.end(now)
    if wait.file is not None:
        wanted = {"file": fill_pattern(wait.file, context), "stable": wait.stable}
        return Awaited(Waiting.FILE, end, wanted, wait.pool)
    if wait.http is not None:
        url = fill_address(wait.http, context) if isinstance(wait.http, str) else {"secret": wait.http.secret}
        return Awaited(Waiting.HTTP, end, {"http": url, "every": wait.every})
    return Awaited(Waiting.TIME, end)


def _fan_out(conn: sa.Connection, parent: SequenceRun, step: Step, number: int) -> None:
    """Begin a step with ``for_each``: find its values, and start its first runs.

    Raises:
        UnknownReference, UnresolvedError: a reference has no value, or what it refers to is no list.
        StepError: the step would have too many runs, or too long values.
    """
    lists = {name: _values(conn, parent, name, values) for name, values in step.for_each.items()}
    total = prod(map(len, lists.values())) * len(step.jobs)
    _check_limit(conn, parent, total)
    if (length := length_of_items(lists)) > LONGEST_ITEMS:
        raise StepError(
            f"the values of for_each have {length:,} characters for all of its runs; {LONGEST_ITEMS:,} is the most, so "
            "pass names of files"
        )
    items = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    common = _common(conn, parent, step)  # before the visit is entered, which happens once
    visit_id = visits.enter(conn, parent.run_id, step, number, StepStart.STARTED, items=items)
    most = min(total, FAN_OUT, step.at_most or FAN_OUT)
    _start_some(conn, step, visit_id, visits.items(conn, visit_id), most, common)


def length_of_items(lists: Mapping[str, Sequence[Any]]) -> int:
    """Return about how many characters all combinations of values have as JSON. A pure function.

    They are not made for it: who starts a sequence may give one long value, which each value of another list repeats.
    """
    total = prod(map(len, lists.values()))
    of_names = total * sum(len(name) + len('"": , ') for name in lists)
    return of_names + sum(total // len(one) * len(json.dumps(one, ensure_ascii=False)) for one in lists.values() if one)


def _values(conn: sa.Connection, parent: SequenceRun, name: str, values: Any) -> Sequence[Any]:
    found = fill_typed(values, parent.sequence, _outputs_of(conn, parent), parent.context)
    if not isinstance(found, list):
        raise StepError(f"for_each.{name} needs a list, but {values} is none")
    return found


def _check_limit(conn: sa.Connection, parent: SequenceRun, more: int) -> None:
    most = limit(conn)
    before = visits.children(conn, parent.run_id)
    if before + more > most:
        raise StepError(too_many_runs(before + more, most))


def start_more(conn: sa.Connection, parent: SequenceRun, step: Step, visit_id: int, number: int) -> None:
    """Start the next ``number`` runs of a visit of a step with ``for_each``. Those that are refused count as ended.

    If their texts are long, it starts fewer, and the sweep or the end of one of them starts others.
    """
    items = visits.items(conn, visit_id)
    try:
        _start_some(conn, step, visit_id, items, number, _common(conn, parent, step))
    except (UnknownReference, UnresolvedError, StepError) as error:  # outputs or jobs have changed since the first one
        places = _places(conn, step, visit_id, items, number)
        said = _said(conn, parent, error)
        visits.refuse(conn, visit_id, {_named(step, place): said for place in places})


def _common(conn: sa.Connection, parent: SequenceRun, step: Step) -> dict[str, StartRequest]:
    """Return by job what all of its runs of a step with ``for_each`` have in common.

    Raises:
        StepError: a job has ``each_worker``, so it would have several runs for one value.
        UnknownReference, UnresolvedError: as ``_start_request``.
    """
    for job, stored in jobs.load_many(conn, step.jobs).items():
        if isinstance(stored, jobs.Stored) and getattr(stored.definition, "each_worker", False):
            raise StepError(f"for_each cannot start the job '{job}', which has each_worker: true")
    return {job: _start_request(conn, parent, step, job) for job in step.jobs}


def _places(conn: sa.Connection, step: Step, visit_id: int, items: Items, number: int) -> range:
    """Return the places of the next runs. A place is one job with one value."""
    first = visits.started(conn, visit_id)
    return range(first, min(first + number, len(items) * len(step.jobs)))


def _named(step: Step, place: int) -> str:
    at, job = divmod(place, len(step.jobs))
    return f"{step.jobs[job]}[{at}]"


def _start_some(
    conn: sa.Connection, step: Step, visit_id: int, items: Items, number: int, common: Mapping[str, StartRequest]
) -> None:
    number = min(one.together(number) for one in common.values())
    places = _places(conn, step, visit_id, items, number)
    requests = []
    for place in places:
        at, job = divmod(place, len(step.jobs))
        request = common[step.jobs[job]]
        values = {**(request.parameters or {}), **items[at]}
        written = None if request.written is None else {**request.written, **items[at]}
        requests.append(replace(request, parameters=values, written=written, visit_id=visit_id, item=at))
    answers = runs.start_each(conn, requests)
    pairs = zip(places, answers, strict=True)
    if reasons := {_named(step, place): str(answer) for place, answer in pairs if isinstance(answer, Exception)}:
        visits.refuse(conn, visit_id, reasons)


def _start_request(conn: sa.Connection, parent: SequenceRun, step: Step, job: str) -> StartRequest:
    """Return the start request of a job of a step. Values from the sequence's start override those of the step.

    Raises:
        UnknownReference, UnresolvedError: a reference in the arguments, the payload or the parameters has no value.
        StepError: the job does not fit its sequence.
    """
    check_job(conn, parent.holder, parent.sequence, step, job)
    outputs, room = _outputs_of(conn, parent), Room()

    def text(text: Any, is_callers: bool) -> str:
        return fill(str(text), parent.sequence, outputs, None if is_callers else parent.context, room)

    arguments = parent.arguments.get(job, step.arguments.get(job))
    payload = parent.payloads.get(job, step.payloads.get(job))
    return StartRequest(
        job=job,
        by=f"run {parent.run_id}",
        arguments=None if arguments is None else [text(one, job in parent.arguments) for one in arguments],
        with_values=places_of_values(arguments or ()),
        payload=None if payload is None else text(payload, job in parent.payloads),
        parameters={
            name: fill_typed(value, parent.sequence, outputs, parent.context)
            for name, value in step.parameters.get(job, {}).items()
        },
        written=_written(parent, step.parameters.get(job, {})),
        priority=parent.priority,
        overrides=_inherited(conn, parent, job),
        manual=False,
        sequence_run_id=parent.run_id,
        inherited_events=parent.inherited_events,
        origin=parent.dated,
    )


def _written(parent: SequenceRun, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what tells whether two runs of a step were given the same: the texts of the step, which the due time and
    outputs do not change, and what its sequence was given if they pass that on. None: only the values can tell."""
    if not any("${parameters." in text.replace(" ", "") for text in map(json.dumps, values.values())):
        return values
    return None if parent.given is None else {**values, AROUND: parent.given}


def _outputs_of(conn: sa.Connection, parent: SequenceRun) -> Outputs:
    """Return a function that reads outputs, those of each job once, however often a text refers to them."""

    @functools.cache
    def outputs(of_step: str, of_job: str | None) -> Mapping[str, Any] | None:
        return history.outputs(conn, history.lineage(conn, parent.run_id), of_step, of_job)

    return outputs


def _inherited(conn: sa.Connection, parent: SequenceRun, job: str) -> Mapping[str, Any] | None:
    """Return the overrides for a nested sequence: all arguments and payloads, because they may be for its jobs."""
    if not parent.arguments and not parent.payloads:
        return None
    stored = jobs.load(conn, job)
    if stored is None or stored.kind != JobKind.SEQUENCE:
        return None
    return {"arguments": parent.arguments, "payloads": parent.payloads}
