"""`/runs/ID`: one run, its live output, its attempts and its events."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from markupsafe import Markup
from starlette.responses import Response

from jobfac import definitions as d
from jobfac.channels import shown as described
from jobfac.database.dialects import current_time
from jobfac.definitions.parameters import Parameter
from jobfac.errors import JobfacError, NotFound
from jobfac.operations import versions
from jobfac.operations.caller import visible_run
from jobfac.states import FAILED, FINAL, JobKind
from jobfac.store import jobs, notes, outbox, parameters, runs, sequences
from jobfac.store.history import retries, waiting
from jobfac.store.history.retries import Retry
from jobfac.views.jobs import ChangeView
from jobfac.views.notifications import NotificationView
from jobfac.views.runs import AttemptView, EventView, NoteView, RunView
from jobfac.views.sequences import StepVisitView
from jobfac.web.drawing import bars, graph
from jobfac.web.indentation import indented
from jobfac.web.output_places import places
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

EVENTS = 300
"""The maximum number of events that the page shows."""

NOTIFICATIONS = 50

NOTES = 100
"""The maximum number of notes that the page shows, the newest ones."""

FEW = 10
"""How many runs of a step with ``for_each`` the page shows, failures first."""


class Facts(NamedTuple):
    """What the page shows of a run. ``definition``: the version that ran, None if it cannot be read."""

    run: RunView
    attempts: list[AttemptView]
    events: list[EventView]
    path: list[StepVisitView]
    definition: d.AnyJob | None
    notifications: list[NotificationView]
    notes: list[NoteView]
    changes: list[ChangeView]
    is_known: bool
    retry: Retry | None
    done_by: int | None
    now: datetime


def _done_by(conn: sa.Connection, run: RunView) -> int | None:
    """Return the run that has done the work of a failure that nobody has acknowledged; None: none has."""
    if run.state not in FAILED or run.acknowledged_at is not None:
        return None
    return retries.succeeded(conn, run.job, run.id, retries.same(conn, run.id))


def _read(conn: sa.Connection, visit: Visit) -> Facts:
    seen = visible_run(conn, visit.caller, visit.path("run"))
    (run,) = waiting.explained(conn, [seen], visit.caller.categories)
    if run.parameters is not None and visit.may():
        run = run._replace(parameters={**run.parameters, **parameters.sensitive_of(conn, run.id)})
    is_sequence = run.kind == JobKind.SEQUENCE
    return Facts(
        run,
        runs.attempts(conn, run.id),
        runs.events_of(conn, run.id),
        sequences.step_history(conn, run.id, visit.caller.categories) if is_sequence else [],
        _definition(conn, run),
        outbox.find(conn, described, limit=NOTIFICATIONS, run_id=run.id),
        notes.newest_of_run(conn, run.id, NOTES + 1),
        versions.changes_since(conn, run.job, run.job_version),
        jobs.load(conn, run.job) is not None,
        retries.active(conn, run.job, run.id) if run.state in FINAL else None,
        _done_by(conn, run),
        current_time(conn),
    )


def _definition(conn: sa.Connection, run: RunView) -> d.AnyJob | None:
    try:
        return jobs.load_version(conn, run.job, run.job_version)
    except (JobfacError, d.DefinitionError, sa.exc.NoResultFound):
        return None


def show(visit: Visit) -> Response:
    """Show a run."""
    numbers, facts = visit.together(lambda conn: _read(conn, visit))
    run = facts.run
    number = _attempt(visit, run)
    where = places(facts.definition, run, facts.attempts, number)
    return visit.render(
        "history/run.html",
        active="runs",
        counts=numbers,
        over=run.state in FINAL,
        number=number,
        places=where,
        output=f"/v1/runs/{run.id}/output" + (f"?attempt={number}" if "attempt" in visit.query else ""),
        few=FEW,
        NOTES=NOTES,
        lanes=bars.attempts(facts.attempts, facts.now) if len(facts.attempts) > 1 else None,
        drawing=_drawing(facts),
        approvals=_approvals(facts),
        arguments=_arguments(facts),
        environment=sorted(getattr(facts.definition, "environment", {})),
        payload=None if run.payload is None else indented(run.payload),
        outputs=None if run.outputs is None else indented(json.dumps(run.outputs, ensure_ascii=False)),
        hidden=max(0, len(facts.events) - EVENTS),
        **{**facts._asdict(), "events": facts.events[-EVENTS:]},
    )


def _attempt(visit: Visit, run: RunView) -> int:
    number = visit.number("attempt") or max(1, run.attempt)
    if not 1 <= number <= max(1, run.attempt):
        raise NotFound(f"Run {run.id} has no attempt {number}; it has {run.attempt}.")
    return number


def _drawing(facts: Facts) -> Markup | None:
    if not isinstance(facts.definition, d.Sequence):
        return None
    title = f"Run {facts.run.id} of {facts.run.job}"
    return graph.graph(title, facts.definition, graph.progress(facts.path), graph.taken(facts.path))


class Asked(NamedTuple):
    """What a step asks its approver. ``options``: those of the command that must be given."""

    message: str | None
    parameters: dict[str, Parameter]
    options: str


def _approvals(facts: Facts) -> dict[str, Asked]:
    """Return what the steps of a sequence that wait for a person ask, by step."""
    steps = facts.definition.steps if isinstance(facts.definition, d.Sequence) else ()
    found = {step.name: step.approve for step in steps if step.approve is not None}
    needed = {name: [key for key, one in asked.parameters.items() if one.required] for name, asked in found.items()}
    options = {name: "".join(f" --set {key}=..." for key in keys) for name, keys in needed.items()}
    return {name: Asked(asked.message, asked.parameters, options[name]) for name, asked in found.items()}


def _arguments(facts: Facts) -> Sequence[str] | None:
    """Return the complete argument list of a program; None for a sequence."""
    if not isinstance(facts.definition, d.Job):
        return None
    given = facts.definition.arguments if facts.run.arguments is None else facts.run.arguments
    return [*facts.definition.command, *given]


PAGES: tuple[Page, ...] = (get("/runs/{run:id}", show),)
