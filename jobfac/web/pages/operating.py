"""What people on duty do about a run or the factory: acknowledge, note, hold, release, approve, roll back."""

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.definitions.parameters import Parameter
from jobfac.definitions.values import read_duration
from jobfac.errors import Invalid
from jobfac.operations import approvals, holds, notes, versions
from jobfac.operations.caller import visible_run
from jobfac.store import schedules, sequences
from jobfac.store.api_keys import Role
from jobfac.store.holds.placing import Scope
from jobfac.store.jobs.waiting import numbers
from jobfac.web import commands, fields, open_forms
from jobfac.web.page import Page, act
from jobfac.web.visit import Notice, Visit, read_number


def acknowledge(visit: Visit) -> Response:
    """Acknowledge a failure."""
    run_id = visit.path("run")
    (run,) = notes.acknowledge(visit.service.db, visit.by, [run_id])
    return visit.back(
        Notice(f"The failure of run {run_id} of {run.job} is acknowledged.", commands.line("ack", run_id))
    )


def note(visit: Visit) -> Response:
    """Write a note about a run, and acknowledge its failure if that box was ticked."""
    run_id, text, ack = visit.path("run"), visit.field("text").strip(), bool(visit.field("acknowledge"))
    notes.add(visit.service.db, visit.by, run_id, text, acknowledge=ack)
    words = commands.line("note", run_id, text, *(["--ack"] if ack else []))
    return visit.back(Notice(f"The note about run {run_id} is written.", words), f"/runs/{run_id}")


def hold(visit: Visit) -> Response:
    """Hold a pool, a category, a job, or everything."""
    scope, name = visit.field("scope"), visit.field("name").strip()
    if scope not in ("everything", *Scope._fields) or (scope != "everything" and not name):
        raise Invalid("A hold applies to a pool, a category, a job or everything; choose one.")
    reason, lasts = visit.field("reason"), visit.field("lasts").strip()
    try:
        until = timedelta(seconds=read_duration(lasts)) if lasts else None
    except ValueError:
        raise Invalid(f"'{lasts}' is not a duration: write 2h, or leave it empty.") from None
    limited = Scope() if scope == "everything" else Scope(**{scope: name})
    placed = holds.hold(visit.service.db, visit.by, limited, reason, until)
    words = [] if scope == "everything" else [f"--{scope}", name]
    line = commands.line("hold", *words, *(["--until", lasts] if lasts else []), "--reason", reason)
    return visit.back(Notice(f"Nothing new starts in {placed.scope} until hold {placed.id} ends.", line), "/fleet")


def release(visit: Visit) -> Response:
    """End a hold."""
    ended = holds.release(visit.service.db, visit.by, visit.path("hold"))
    text = f"Hold {ended.id} of {ended.scope} has ended."
    return visit.back(Notice(text, commands.line("release", ended.id)), "/fleet")


def approve(visit: Visit) -> Response:
    """Approve or reject a step that waits for a person."""
    run_id, step = visit.path("run"), visit.path("step")
    approved, reason = visit.field("decision") != "reject", visit.field("reason").strip() or None
    shown = visit.field("number")[:10]  # the visit that the page shows
    number = int(shown) if shown.isdecimal() else None
    asked = visit.read(_asked, visit, run_id, step)
    given = fields.read(asked, fields.of_form(visit)) if approved else {}
    approvals.approve(
        visit.service.db, visit.by, run_id, step, approved=approved, reason=reason, given=given, number=number
    )
    words = [*([] if approved else ["--reject"]), *(["--reason", reason] if reason else [])]
    words += fields.words(asked, given)
    done = "approved" if approved else "rejected"
    text = f"Step {step} of run {run_id} is {done}."
    return visit.back(Notice(text, commands.line("approve", run_id, step, *words)), f"/runs/{run_id}")


def _asked(conn: sa.Connection, visit: Visit, run_id: int, step: str) -> Mapping[str, Parameter]:
    visible_run(conn, visit.caller, run_id)
    return sequences.waiting_for(conn, run_id, step).wanted.parameters


def rollback(visit: Visit) -> Response:
    """Make an earlier version of a job the current one again."""
    job_id, version = visit.path("job"), visit.field("version")
    number = read_number(version)
    if number is None:
        raise Invalid(f"'{version[:50]}' is not a version; choose one of the list.")
    open_forms.check(visit, job_id)
    waiting = sum(visit.read(numbers, [job_id]).values())
    stored = versions.rollback(visit.service.db, visit.by, job_id, number)
    text = f"Version {version} of {job_id} is current again, as version {stored.version}."
    if waiting:
        text += f" Its runs that wait keep their version ({waiting:,})."
    if paused := [one.name for one in visit.read(schedules.list_schedules, stored.id) if one.paused]:
        text += f" Paused: {', '.join(paused)}."
    return visit.go(f"/jobs/{stored.id}", Notice(text, commands.line("jobs", "rollback", job_id, version)))


PAGES: tuple[Page, ...] = (
    act("/runs/{run:id}/acknowledge", acknowledge),
    act("/runs/{run:id}/notes", note),
    act("/runs/{run:id}/steps/{step}/approve", approve),
    act("/holds", hold),
    act("/holds/{hold:id}/release", release),
    act("/jobs/{job}/rollback", rollback, Role.ADMIN),
)
