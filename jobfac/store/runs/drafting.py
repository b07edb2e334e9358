"""Build the row of a new run from a definition and a start request, or refuse the request."""

import json
from collections.abc import Mapping
from collections.abc import Sequence as List
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from jobfac.database.tables import KEY_LENGTH
from jobfac.database.types import truncate_utf16
from jobfac.definitions import AnyJob, DefinitionError, Job, Notify, Problem, Sequence, read_notify
from jobfac.definitions.notify import ABOUT_JOBS
from jobfac.definitions.parameters import UnresolvedError, placeholders, resolve
from jobfac.definitions.parameters.checks import text_of_program
from jobfac.definitions.parameters.placeholders import SAMPLE
from jobfac.definitions.parameters.uses import job_texts
from jobfac.definitions.problems import field_path
from jobfac.definitions.values import suggestion
from jobfac.errors import Refused, Way, no_job, unreadable_job
from jobfac.states import JobKind
from jobfac.store import jobs, outbox, parameters
from jobfac.store.history.recovery import BACKFILL, DUE, utc_text
from jobfac.store.runs.pinning import EACH
from jobfac.store.runs.request import FIRST, StartRequest

PAYLOAD_LIMIT = 4 * 1024 * 1024
"""The maximum length of a payload, in characters."""

RECIPIENTS = 20
"""The maximum number of recipients in a start's own ``notify``."""

PRIORITIES = range(-1000, 1001)
"""The priorities that a start by hand may give."""

LEAST, BELOW = PRIORITIES[0], 100
"""The lowest priority of a run, and by how much the priority of runs that catch up is below that of the job."""


def checked_row(conn: sa.Connection, request: StartRequest) -> dict[str, Any]:
    """Return the row of a new run. Checks that the priority, arguments and payloads of a manual start fit the job.

    Raises:
        NotFound, Refused, DefinitionError: as ``starting.start``; Refused also if it needs what only a trigger has.
    """
    stored = jobs.load(conn, request.job, True)
    values = new_row(conn, stored, request)
    if stored is not None:
        _check_first(request, stored.definition)
    if not request.manual:
        _check_repeated(conn, request)
        return values
    if stored is not None and isinstance(stored.definition, Job):
        _check_trigger(request, stored.definition)
    if request.priority is not None and request.priority not in PRIORITIES:
        bounds = f"{PRIORITIES[0]} and {PRIORITIES[-1]}"
        raise DefinitionError([Problem(f"is {request.priority}; it must be between {bounds}", "priority")])
    by_job = {name: (request.overrides or {}).get(name) for name in ("arguments", "payloads")}
    if values["kind"] == JobKind.PROGRAM:
        if any(values is not None for values in by_job.values()):
            raise _misfit(request, "arguments", "is a program, which takes a list of arguments and one payload")
    elif request.arguments is not None or request.payload is not None:
        raise _misfit(request, "arguments", "is a sequence, which takes arguments and payloads by job id")
    else:
        _check_values(conn, request, by_job)
    return values


def _check_values(conn: sa.Connection, request: StartRequest, by_job: Mapping[str, Any]) -> None:
    """Check the values for the jobs inside a sequence, and who is notified about their runs."""
    tells = request.categories is not None and any(entry.of != "sequence" for entry in _ad_hoc(request))
    if not (tells or any(by_job.values())):
        return
    inside = _inside(conn, request.job)
    _check_inside(request, by_job, inside)
    hidden = [child for child, stored in inside.items() if not _is_seen(request, stored)]
    if tells and hidden:
        # The notifications of a run hold its arguments, its outputs and, in emails, what it wrote.
        raise _misfit(request, "notify", "has jobs that this key may not see; notify of: sequence alone")


def _check_repeated(conn: sa.Connection, request: StartRequest) -> None:
    """Check that a retry reaches no job that who asks for it may not see. The job may be new in the sequence.

    Raises:
        Refused: the finished run gave values to such a job, refers to its outputs, or tells somebody of its runs.
    """
    if request.retry_of is None or request.categories is None or not request.overrides:
        return
    given = [request.overrides.get(name) or {} for name in ("arguments", "payloads")]
    tells = any(entry.of != "sequence" for entry in _ad_hoc(request))
    if not (tells or any(given)):
        return
    hidden = {child for child, stored in _inside(conn, request.job).items() if not _is_seen(request, stored)}
    if hidden and (tells or "${steps." in json.dumps(given) or not hidden.isdisjoint({*given[0], *given[1]})):
        raise Refused(
            f"Run {request.retry_of} was given arguments, payloads or recipients that concern jobs which this key may "
            f"not see; start '{request.job}' without them."
        )


def _check_first(request: StartRequest, definition: AnyJob) -> None:
    """Check that the step to begin with exists."""
    step = (request.overrides or {}).get(FIRST)
    if step is None:
        return
    if not isinstance(definition, Sequence):
        raise _misfit(request, "from_step", "is a program, which has no steps")
    names = [one.name for one in definition.steps]
    if step not in names:
        raise _misfit(request, "from_step", f"has no step '{step}'{suggestion(step, names)}")


def _check_trigger(request: StartRequest, job: Job) -> None:
    """Check that a start by hand has what the texts of the definition need of a trigger."""
    context = replace(SAMPLE, trigger=request.origin or {})
    for path, text in job_texts(job):
        if "${" not in text or (path[0] == "arguments" and request.arguments is not None):
            continue
        for one in placeholders(text):
            try:
                if one.space == "trigger":
                    resolve(one, context)
            except UnresolvedError as error:
                raise Refused(
                    f"Job '{request.job}' cannot be started by hand: {field_path(path)} {error}; declare a parameter "
                    f'with the default "{one}", refer to that, and give it a value.'
                ) from None


def _check_inside(
    request: StartRequest, by_job: Mapping[str, Any], inside: Mapping[str, jobs.Stored | DefinitionError]
) -> None:
    """Check the values that a start passes to the jobs in a sequence. Each job must accept them from its own start."""
    seen = {
        child: None if isinstance(stored, DefinitionError) else stored.definition
        for child, stored in inside.items()
        if _is_seen(request, stored)
    }
    for name, values_by_job in by_job.items():
        for child, value in (values_by_job or {}).items():
            if child not in seen:
                raise _misfit(request, name, f"has no job '{child}' inside{suggestion(child, seen)}")
            if not _is_text(value, several=name == "arguments"):
                expected = "a list of texts as arguments" if name == "arguments" else "a text as payload"
                raise _misfit(request, name, f"takes {expected} of '{child}'")
            if isinstance(seen[child], Sequence):
                raise _misfit(request, name, f"has the sequence '{child}' inside, which takes none; name its jobs")
            forbidden_by = None
            if name == "arguments" and not getattr(seen[child], "replace_arguments", True):
                forbidden_by = "replace_arguments: false"
            if not getattr(seen[child], "on_demand", True):
                forbidden_by = "on_demand: false"
            if forbidden_by is not None:
                reason = f"its definition says {forbidden_by}"
                raise Refused(f"Job '{child}' takes no {name} from a start by hand: {reason}.")
            texts = [value] if isinstance(value, str) else value
            if len(seen) < len(inside) and any("${steps." in text for text in texts):
                raise _misfit(request, name, "has jobs that this key may not see, so outputs cannot be referred to")


def _is_seen(request: StartRequest, stored: jobs.Stored | DefinitionError) -> bool:
    """Whether who starts the sequence may see this job in it."""
    return request.categories is None or getattr(stored, "category", None) in request.categories


def _is_text(value: Any, several: bool) -> bool:
    """Whether ``value`` is a text or, with ``several``, a list of texts."""
    if not several:
        return isinstance(value, str)
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def _misfit(request: StartRequest, field: str, message: str) -> DefinitionError:
    return DefinitionError([Problem(f"job '{request.job}' {message}", field)])


def _inside(conn: sa.Connection, sequence: str) -> dict[str, jobs.Stored | DefinitionError]:
    """Return all jobs that a sequence may start, by id, including the jobs of nested sequences."""
    inside: dict[str, jobs.Stored | DefinitionError] = {}
    level = {sequence}
    while level:
        found = jobs.load_many(conn, level, True)
        inside |= found
        steps = [step for one in found.values() for step in getattr(getattr(one, "definition", None), "steps", ())]
        level = {child for step in steps for child in step.jobs} - inside.keys()
    del inside[sequence]
    return inside


def new_row(conn: sa.Connection, stored: jobs.Stored | DefinitionError | None, request: StartRequest) -> dict[str, Any]:
    """Return the row of a new run, without its state. ``pinning.expand`` makes the rows to insert of it.

    Raises:
        NotFound: ``stored`` is None: there is no such job.
        Refused: the job cannot be read or is disabled, or it does not accept this start.
        DefinitionError: the parameters do not fit the job.
    """
    stored = _allowed(stored, request)
    job = stored.definition
    said = parameters.prepare(conn, job, _said(request, stored.id))
    subscribed = outbox.subscription(
        [*job.notify, *stored.defaults.notify, *_ad_hoc(request)], request.inherited_events
    )
    return {
        "job": stored.id,
        "job_version": stored.version,
        "kind": stored.kind,
        "queue": stored.queue,
        "priority": _priority(request, job),
        "arguments": None if said["arguments"] is None else json.dumps(list(said["arguments"]), ensure_ascii=False),
        "payload": said["payload"],
        "overrides": None if said["overrides"] is None else json.dumps(said["overrides"], ensure_ascii=False),
        "parameters": said["parameters"],
        "sensitive": said["sensitive"],
        "origin": said["origin"],
        "notify": subscribed.notify,
        "notify_jobs": subscribed.notify_jobs if stored.kind == JobKind.SEQUENCE else None,
        "created_by": truncate_utf16(request.by, 128),
        "restartable": getattr(job, "restartable", True),
        **limits(stored.id, job, request.at_most, queues=request.queues),
        "slots": slots if (slots := getattr(job, "slots", 1)) > 1 else None,
        "start_key": request.key,
        "schedule_id": request.schedule_id,
        "due_at": request.due_at,
        "sequence_run_id": request.sequence_run_id,
        "visit_id": request.visit_id,
        "item": request.item,
        "retry_of": request.retry_of,
        "for_worker": (request.for_worker or EACH) if getattr(job, "each_worker", False) else None,
    }


def low_priority(job: AnyJob) -> int:
    """Return the priority of runs that catch up: below that of the job, so that today's work goes first."""
    return max(LEAST, job.priority - BELOW)


def _priority(request: StartRequest, job: AnyJob) -> int:
    given = job.priority if request.priority is None else request.priority
    if request.queues and request.at_most is None and job.already_running in ("deny", "replace"):
        # Otherwise today's start would wait for all of them, and meanwhile deny or replace the later ones.
        return min(given, low_priority(job))
    return given


def _allowed(stored: jobs.Stored | DefinitionError | None, request: StartRequest) -> jobs.Stored:
    """Return the job if it allows this start. Raises as ``new_row``."""
    if stored is None:
        raise no_job(request.job)
    if isinstance(stored, DefinitionError):
        raise unreadable_job(request.job, stored)
    job = stored.definition
    if not stored.enabled:
        enable = Way(f"`jobfac jobs enable {request.job}`", f"`POST /v1/jobs/{request.job}/enable`")
        raise Refused(f"Job '{request.job}' is disabled; {{way}} allows it again.", enable)
    if request.manual and not job.on_demand:
        raise Refused(f"Job '{request.job}' may not be started by hand: its definition says on_demand: false.")
    arguments = request.arguments if request.arguments is not None else (request.overrides or {}).get("arguments")
    if arguments is not None and request.manual and not job.replace_arguments:
        raise Refused(f"Job '{request.job}' takes no other arguments: its definition says replace_arguments: false.")
    if request.with_values and request.arguments is not None and not getattr(job, "shell", False):
        text = text_of_program(getattr(job, "command", ()), request.arguments, request.with_values)
        if text is not None:
            why = f"would run argument {text[0] + 1}, which holds a value, as text of a program; {text[1]}."
            raise Refused(f"Job '{request.job}' {why}")
    if request.payload is not None and len(request.payload) > PAYLOAD_LIMIT:
        raise Refused(f"The payload has {len(request.payload):,} characters; {PAYLOAD_LIMIT:,} is the most.")
    if request.key is not None and request.key != truncate_utf16(request.key, KEY_LENGTH):
        raise Refused(f"The key has {len(request.key)} characters; {KEY_LENGTH} is the most.")
    if request.at is not None and not 1970 <= request.at.year <= 2999:
        raise Refused(f"A run cannot begin in the year {request.at.year}; give a time in the years 1970 to 2999.")
    return stored


def _origin(request: StartRequest) -> dict[str, Any]:
    """Return what started a run, and what ``history.recovery`` compares."""
    origin = dict(request.origin or {})
    if request.due_at is not None:
        origin[DUE] = utc_text(request.due_at)
    return origin if request.at_most is None else {**origin, BACKFILL: True}


def _said(request: StartRequest, job: str) -> parameters.Start:
    return parameters.Start(
        job=job,
        parameters=request.parameters or {},
        origin=_origin(request),
        is_template=request.is_template,
        arguments=request.arguments,
        payload=request.payload,
        overrides=request.overrides,
        due=request.due_at or request.at,
        is_of_schedule=request.due_at is not None,
        written=request.written,
    )


def backfill_key(job_id: str) -> str:
    """Return the concurrency key that only the runs of a job's backfill have."""
    return truncate_utf16(f"backfill {job_id}", 128)


def limits(job_id: str, job: AnyJob, at_most: int | None = None, *, queues: bool = False) -> dict[str, Any]:
    """Return the columns of a new run that limit its admission.

    A run that catches up (``queues``; ``at_most``: of a backfill) waits for others instead of being denied or replacing
    them. A backfill's run counts against the job's concurrency key, or against a key that only such runs have.
    """
    key, limit = (job.concurrency.key, job.concurrency.limit) if job.concurrency else (None, None)
    policy = job.already_running
    if (queues or at_most is not None) and policy != "start":
        policy = "queue"
    if at_most is not None:
        key, limit = key or backfill_key(job_id), at_most if limit is None else min(limit, at_most)
    return {"already_running": policy, "concurrency_key": key, "concurrency_limit": limit}


def _ad_hoc(request: StartRequest) -> List[Notify]:
    """Return the ``notify`` entries of the start itself. They must not refer to secrets or to events of the job.

    Secrets belong to definitions. A caller who may only start jobs must not be able to send them anywhere.
    """
    if not request.overrides or "notify" not in request.overrides:
        return ()
    entries = read_notify(request.overrides["notify"])
    number = sum(entry.to.number() for entry in entries)
    if number > RECIPIENTS:
        raise Refused(f"A start may notify {RECIPIENTS} recipients, not {number}; put them into the job's notify.")
    for entry in entries:
        wrong = next((event for event in entry.on if event in ABOUT_JOBS), None)
        if wrong and request.manual and request.retry_of is None:
            text = f"cannot tell the recipients of a start of '{wrong}', an event of the job; put them into its notify"
            raise _misfit(request, "notify", text)
        if request.manual and request.retry_of is None and (why := entry.to.not_single()):
            raise _misfit(request, "notify", f"cannot notify a recipient whose email {why}")
        if references := entry.to.references():
            raise Refused(f"A start cannot have the secret {references[0]} sent; put that into the job's notify.")
    return entries
