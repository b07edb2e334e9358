"""Enter a step: check its condition, and start its jobs or wait, until its time is over."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from math import prod
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.engine import SEQUENCE_LIMIT
from jobfac.database.tables import run
from jobfac.database.types import sql_literals
from jobfac.definitions import Step
from jobfac.definitions.parameters import Context, UnresolvedError, fill_address, fill_pattern
from jobfac.definitions.waiting import Wait
from jobfac.states import ACTIVE, Decision, StepResult, StepStart, Waiting
from jobfac.store import jobs, runs
from jobfac.store.runs import StartRequest
from jobfac.store.runs.event import Event
from jobfac.store.sequences import continuing, history, visits
from jobfac.store.sequences.checking import StepError, refused_nulls
from jobfac.store.sequences.decide import FAN_OUT, is_open, leave, one_more_look, step_of, too_many_runs
from jobfac.store.sequences.requests import SequenceRun, outputs_of, start_request
from jobfac.store.sequences.values import inputs
from jobfac.store.sequences.values.references import UnknownReference, fill_typed
from jobfac.store.sequences.visits import Awaited, Expiring
from jobfac.store.workers.fleet_load import Presence, serving

Items = Sequence[Mapping[str, Any]]
"""The parameters of the runs of a step with ``for_each``."""

LATE = timedelta(seconds=10)
"""How much later than due something is done if no scheduler or worker was there to do it."""

ONE_MORE_LOOK = timedelta(seconds=60)
"""How long a step waits for one more look, apart from ``stable``: roles that come back start, and look or ask twice."""

LONGEST_ITEMS = 4 * 1024 * 1024
"""Characters of these as JSON at most. They are stored at once, and read at the end of each of the runs."""


def limit(conn: sa.Connection) -> int:
    """Return how many visits of steps, and how many runs of jobs, one sequence run may have: a setting."""
    return int(conn.get_execution_options().get("sequence_limit", SEQUENCE_LIMIT))


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
        taken = continuing.taken(step, None, _succeeded(conn, parent, step, number))
        wanted = [job for job in step.jobs if job not in taken]
        _check_limit(conn, parent, len(wanted))
        requests = [start_request(conn, parent, step, job) for job in wanted]
    except (UnknownReference, UnresolvedError, StepError) as error:
        left = leave(sequence, step, StepResult.FAILURE)
        visits.enter(conn, parent.run_id, step, number, StepStart.FAILED, left, _said(conn, parent, error))
        return
    visit_id = visits.enter(conn, parent.run_id, step, number, StepStart.STARTED, taken=taken)
    answers = runs.start_each(conn, [replace(request, visit_id=visit_id) for request in requests])
    reasons = {job: str(answer) for job, answer in zip(wanted, answers, strict=True) if isinstance(answer, Exception)}
    if reasons:
        visits.refuse(conn, visit_id, reasons)


def _succeeded(conn: sa.Connection, parent: SequenceRun, step: Step, number: int) -> continuing.Succeeded:
    """Return what a visit of a step takes over: nothing, unless it is the first one of a retry from the failed step.

    Raises:
        StepError: it is not known any more what succeeded.
    """
    if parent.continued is None or step.name != parent.first or number > 1:
        return {}
    return continuing.succeeded(conn, parent.continued)


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


def end_waiting(conn: sa.Connection, step: Step, visit_id: int, parameters: str | None) -> None:
    """Decide a visit whose waiting time is over. ``parameters``: what holds if no person has decided.

    A file or an address for which perhaps nobody looked at that time, because no worker or no scheduler ran, is looked
    for once more before.
    """
    if step.wait is None or step.otherwise is None:
        decision = Decision.ELAPSED if step.otherwise is None else Decision.EXPIRED
        visits.decide(conn, visit_id, decision, parameters=parameters)
        return
    found = visits.expiring(conn, visit_id)
    awaits = json.loads(found.awaits)
    workers = [] if found.pool is None else serving(conn, found.pool)
    if "over" not in awaits and was_overlooked(found, step.wait.stable, workers):
        over = found.wake_at.isoformat(timespec="seconds")
        until = found.now + ONE_MORE_LOOK + timedelta(seconds=step.wait.stable if found.pool else 0.0)
        visits.wait_on(conn, visit_id, until, {**awaits, "over": over}, one_more_look(over))
        return
    reason = None
    if found.pool is not None and not workers:
        reason = f"no live worker of pool '{found.pool}' looks for it"
    elif "over" in awaits:
        said = one_more_look(awaits["over"])
        reason = said if found.reason in (None, said) else f"{found.reason}; {said}"
    visits.decide(conn, visit_id, Decision.EXPIRED, reason=reason)


def was_overlooked(found: Expiring, stable: float, workers: Iterable[Presence]) -> bool:
    """Whether perhaps nobody looked for a file, or asked an address, when the time of a visit was over. Pure.

    ``workers``: the live ones that look for the file. One that has come just before has not seen it complete.
    """
    due = min(found.wake_at, found.look_at or found.wake_at)
    if found.now - due > LATE:  # no scheduler ran, or all roles stood still
        return True
    in_time = max(found.entered_at, found.wake_at - LATE - timedelta(seconds=stable))
    there = (one.started_at <= in_time and one.seen_at >= found.wake_at - LATE for one in workers)
    return found.pool is not None and not any(there)


def _fan_out(conn: sa.Connection, parent: SequenceRun, step: Step, number: int) -> None:
    """Begin a step with ``for_each``: find its values, and start its first runs.

    Raises:
        UnknownReference, UnresolvedError: a reference has no value, or what it refers to is no list.
        StepError: the step would have too many runs, or too long values.
    """
    lists = {name: _values(conn, parent, name, values) for name, values in step.for_each.items()}
    found = _succeeded(conn, parent, step, number)
    total = prod(map(len, lists.values())) * len(step.jobs)
    _check_limit(conn, parent, total - sum(map(len, found.values())))  # before all combinations are made
    if (length := length_of_items(lists)) > LONGEST_ITEMS:
        raise StepError(
            f"the values of for_each have {length:,} characters for all of its runs; {LONGEST_ITEMS:,} is the most, so "
            "pass names of files"
        )
    items = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
    taken = continuing.taken(step, items, found)
    _check_limit(conn, parent, total - len(taken))
    common = _common(conn, parent, step)  # before the visit is entered, which happens once
    visit_id = visits.enter(conn, parent.run_id, step, number, StepStart.STARTED, items=items, taken=taken)
    most = min(total - len(taken), FAN_OUT, step.at_most or FAN_OUT)
    _start_some(conn, step, visit_id, visits.items(conn, visit_id), most, common)


def length_of_items(lists: Mapping[str, Sequence[Any]]) -> int:
    """Return about how many characters all combinations of values have as JSON. A pure function.

    They are not made for it: who starts a sequence may give one long value, which each value of another list repeats.
    """
    total = prod(map(len, lists.values()))
    of_names = total * sum(len(name) + len('"": , ') for name in lists)
    return of_names + sum(total // len(one) * len(json.dumps(one, ensure_ascii=False)) for one in lists.values() if one)


def _values(conn: sa.Connection, parent: SequenceRun, name: str, values: Any) -> Sequence[Any]:
    found = fill_typed(values, parent.sequence, outputs_of(conn, parent), parent.context)
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


def stop_others(conn: sa.Connection, visit_id: int, by: str) -> None:
    """Stop the runs of a step after a failure. The sweep stops what a nested sequence among them has started."""
    active = sa.select(run.c.id).where(
        run.c.visit_id == visit_id, run.c.stop.is_(None), sa.text(f"state IN ({sql_literals(ACTIVE)})")
    )
    runs.request_stops(conn, conn.execute(active).scalars().all(), now=False, by=f"{by} (stop_on_failure)")


def _common(conn: sa.Connection, parent: SequenceRun, step: Step) -> dict[str, StartRequest]:
    """Return by job what all of its runs of a step with ``for_each`` have in common.

    Raises:
        StepError: a job has ``each_worker``, so it would have several runs for one value.
        UnknownReference, UnresolvedError: as ``_start_request``.
    """
    for job, stored in jobs.load_many(conn, step.jobs, True).items():
        if isinstance(stored, jobs.Stored) and getattr(stored.definition, "each_worker", False):
            raise StepError(f"for_each cannot start the job '{job}', which has each_worker: true")
    return {job: start_request(conn, parent, step, job) for job in step.jobs}


def _places(conn: sa.Connection, step: Step, visit_id: int, items: Items, number: int) -> Sequence[int]:
    """Return the places of the next runs. A place is one job with one value."""
    begun = visits.begun(conn, visit_id)
    places: Sequence[int] = range(len(items) * len(step.jobs))
    if begun.taken:
        places = [place for place in places if _named(step, place) not in begun.taken]
    return places[begun.number : begun.number + number]


def _named(step: Step, place: int) -> str:
    at, job = divmod(place, len(step.jobs))
    return visits.named(step.jobs[job], at)


def _start_some(
    conn: sa.Connection, step: Step, visit_id: int, items: Items, number: int, common: Mapping[str, StartRequest]
) -> None:
    number = min(one.together(number) for one in common.values())
    places = _places(conn, step, visit_id, items, number)
    reasons = refused_nulls(conn, step, items, places)
    started = [place for place in places if place not in reasons]
    requests = []
    for place in started:
        at, job = divmod(place, len(step.jobs))
        request = common[step.jobs[job]]
        values = {**(request.parameters or {}), **items[at]}
        written = None if request.written is None else {**request.written, **items[at]}
        requests.append(replace(request, parameters=values, written=written, visit_id=visit_id, item=at))
    answers = runs.start_each(conn, requests)
    pairs = zip(started, answers, strict=True)
    reasons |= {place: str(answer) for place, answer in pairs if isinstance(answer, Exception)}
    if reasons:
        visits.refuse(conn, visit_id, {_named(step, place): reason for place, reason in reasons.items()})
