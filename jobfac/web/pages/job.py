"""`/jobs/ID`: one job, and its schedules paused and resumed."""

import difflib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac import definitions as d
from jobfac.database.dialects import current_time
from jobfac.definitions.document import write_document
from jobfac.operations import schedules as steering
from jobfac.operations.caller import visible_job
from jobfac.recurrence.wording import in_words
from jobfac.states import Role
from jobfac.store import jobs, schedules
from jobfac.store.history import audit_log, job_history, latest
from jobfac.store.history.audit_log import AuditView
from jobfac.store.holds import reading as holds
from jobfac.store.triggers import start_urls
from jobfac.views.holds import HoldView
from jobfac.views.keys import StartUrlView
from jobfac.views.runs import PastRun
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.web import commands, open_forms
from jobfac.web.drawing import bars, graph, strip
from jobfac.web.page import Page, act, get
from jobfac.web.visit import Notice, Visit

RUNS, DAYS, NEXT, VERSIONS, CHANGES = 100, 30, 3, 20, 20
"""How many runs, days, due times of each schedule, versions and changes the page shows."""


class Facts(NamedTuple):
    """What the page shows of a job. ``urls``: its start URLs, for an administrator. ``hold``: the oldest over it."""

    stored: jobs.Stored
    runs: list[PastRun]
    days: dict[date, job_history.Ended]
    schedules: list[ScheduleView]
    due: dict[str, list[CandidateView]]
    versions: list[job_history.VersionRow]
    changes: list[AuditView]
    older: int | None
    urls: list[StartUrlView]
    hold: HoldView | None


def _read(conn: sa.Connection, visit: Visit) -> Facts:
    stored = visible_job(conn, visit.caller, visit.path("job"))
    now = current_time(conn)
    days = [now.date() - timedelta(days=back) for back in reversed(range(DAYS))]
    found = schedules.list_schedules(conn, stored.id)
    due: dict[str, list[CandidateView]] = {}
    if found and stored.enabled and not stored.unreadable:
        for one in schedules.preview(conn, stored.id, NEXT, now, of_each=True):
            due.setdefault(one.schedule, []).append(one)
    subjects = [stored.id, *(f"{stored.id}/{one.name}" for one in found)]
    return Facts(
        stored,
        latest.of_jobs(conn, [stored.id], RUNS).get(stored.id, []),
        job_history.by_day(conn, stored.id, days),
        found,
        due,
        job_history.versions(conn, stored.id, VERSIONS),
        *audit_log.about(conn, subjects, CHANGES),
        start_urls.of_job(conn, stored.id) if visit.may(Role.ADMIN) else [],
        holds.over_jobs(conn, [stored.id]).get(stored.id),
    )


def show(visit: Visit) -> Response:
    """Show a job."""
    numbers, facts = visit.together(lambda conn: _read(conn, visit))
    # A definition that cannot be read is shown as it is stored, without what would be made of it.
    unreadable = {"name": None, "description": None, "on_demand": False, **facts.stored.body}
    definition = unreadable if facts.stored.unreadable else facts.stored.definition
    taken = [value for run in facts.runs if (value := strip.seconds(run)) is not None]
    ended = job_history.Ended.total(facts.days.values())
    chosen = _chosen(visit, facts)
    drawing = graph.graph(f"Sequence {facts.stored.id}", definition, {}, set(), _job_path) if isinstance(
        definition, d.Sequence) else None  # fmt: skip
    return visit.render(
        "job.html",
        active="jobs",
        counts=numbers,
        job=facts.stored,
        definition=definition,
        strip=strip.strip(facts.runs[-strip.RUNS :]),
        recent=list(reversed(facts.runs[-10:])),
        chart=bars.durations(facts.runs),
        rates=bars.rate({f"{day:%d %b}": numbers for day, numbers in facts.days.items()}),
        p50=bars.percentile(taken, 0.5),
        p95=bars.percentile(taken, 0.95),
        success=100 * ended.succeeded / ended.judged if ended.judged else None,
        ended=sum(ended),
        in_words=in_words,
        scan=audit_log.SCAN,
        drawing=drawing,
        chosen=chosen,
        yaml=_yaml(facts.stored.id, chosen.definition) if chosen else "",
        diff=_diff(facts, chosen),
        **facts._asdict(),
    )


def _job_path(job_id: str) -> str:
    return f"/jobs/{job_id}"


def _chosen(visit: Visit, facts: Facts) -> job_history.VersionRow | None:
    wanted = visit.query.get("version", str(facts.stored.version))
    return next((one for one in facts.versions if str(one.version) == wanted), None)


def _yaml(job_id: str, text: str) -> str:
    return write_document({"jobs": {job_id: d.stored_body(text)}})


def _diff(facts: Facts, chosen: job_history.VersionRow | None) -> list[tuple[str, str]]:
    """Return the lines in which a version differs from the one before: their sign and their text."""
    older = [one for one in facts.versions if chosen is not None and one.version < chosen.version]
    if chosen is None or not older:
        return []
    before, after = (_yaml(facts.stored.id, one.definition).splitlines() for one in (older[0], chosen))
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return [(line[:1], line[1:]) for line in lines if not line.startswith(("---", "+++"))]


# Schedules


def pause(visit: Visit) -> Response:
    """Pause a schedule."""
    return _steer(visit, "pause")


def resume(visit: Visit) -> Response:
    """Resume a schedule."""
    return _steer(visit, "resume")


def _steer(visit: Visit, word: str) -> Response:
    job_id, name = visit.path("job"), visit.field("schedule")
    open_forms.check(visit, job_id)
    act_on = steering.pause if word == "pause" else steering.resume
    changed: Sequence[str] = act_on(visit.service.db, visit.by, (job_id, name))
    done = "paused" if word == "pause" else "resumed"
    text = f"Schedule {name} of {job_id} {'is' if changed else 'was already'} {done}."
    return visit.back(Notice(text, commands.line("schedule", word, job_id, name)), f"/jobs/{job_id}")


PAGES: tuple[Page, ...] = (
    get("/jobs/{job}", show),
    act("/jobs/{job}/pause", pause),
    act("/jobs/{job}/resume", resume),
)
