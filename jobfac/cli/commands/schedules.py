"""`schedule list / preview / backfill / load / pause / resume`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from jobfac.cli import completion
from jobfac.cli.client import Backend, backend
from jobfac.cli.common import JobId, Json, group, instant, period_end
from jobfac.cli.rendering.printing import Columns, note, print_drawn, print_json, print_list, print_table
from jobfac.cli.rendering.text import coloured
from jobfac.cli.streams import reader_may_leave
from jobfac.cli.times import write_time
from jobfac.errors import JobfacError
from jobfac.recurrence.wording import in_words
from jobfac.views.results.backfill import Backfill, BackfillResult, BackfillView
from jobfac.views.results.load import MoveView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import as_json as serialization_as_json

if TYPE_CHECKING:
    from jobfac.operations.bulk.backfill import BackfillRequest

app = group("List, preview, pause and resume schedules.")

Name = Annotated[str | None, typer.Argument(help="The schedule's name or position; default: all schedules of the job.")]


@app.command("list")
def list_schedules(
    job: Annotated[
        str | None, typer.Argument(help="Only schedules of this job; default: all.", autocompletion=completion.jobs)
    ] = None,
    as_json: Json = False,
) -> None:
    """List schedules with their next due times."""
    with backend() as factory:
        views = factory.schedules(job)
    columns: Columns[ScheduleView] = {
        "JOB": "job",
        "NAME": "name",
        "STATE": _state,
        "RULE": _rule,
        "NEXT": "next_due_at",
        "LAST": "last_due_at",
    }
    print_list(views, columns, "no schedules; add some to the definition of a job", as_json)


def _state(row: ScheduleView) -> object:
    return coloured(row.state, "yellow") if row.state in ("off", "job disabled", "paused", "held") else row.state


def _rule(row: ScheduleView) -> str:
    return in_words(row.definition) if row.definition else "see the definition of the job"


_TRIGGERS = {"after", "file"}
"""Keys of schedules that have no times."""


@app.command()
def preview(
    job: JobId,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="The number of due times.")] = 10,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Due times after this; default: now.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Include times that do not fire, with the reason.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show when a job will be due. Jitter and pauses are ignored."""
    start = None if begin is None else instant(begin, "--from")
    with backend() as factory:
        candidates = factory.preview(job, count, start, explain)
        triggers = [] if as_json else [one for one in factory.schedules(job) if _TRIGGERS & one.definition.keys()]
    columns: dict[str, str | Callable[[CandidateView], object]] = {
        "DUE": "due_at",
        "SCHEDULE": "schedule",
        "IN ITS ZONE": _local,
    }
    if explain:
        columns["FIRES"] = lambda row: "yes" if row.fires else coloured("no", "yellow")
    empty = f"job '{job}' is {'never due by the clock' if begin is None else f'not due by the clock after {begin}'}"
    if any(one.parameters for one in candidates):
        columns["PARAMETERS"] = "parameters"
    print_list(candidates, {**columns, "WHY": "reason"}, empty, as_json)
    for one in triggers:
        note(f"schedule {one.name} starts it without a clock: {in_words(one.definition)}")


def _local(row: CandidateView) -> str:
    return f"{row.local:%a %Y-%m-%d %H:%M:%S %z}"


@app.command()
def pause(job: JobId, name: Name = None) -> None:
    """Pause schedules: they start no runs until they are resumed."""
    with backend() as factory:
        _print_changed(job, factory.pause(job, name, True), "paused")


@app.command()
def resume(job: JobId, name: Name = None) -> None:
    """Resume schedules. Due times during the pause count as missed."""
    with backend() as factory:
        names = factory.pause(job, name, False)
        _print_changed(job, names, "resumed")
        for one in factory.schedules(job):
            if one.name in names and one.state in ("off", "job disabled", "held"):
                why = {"off": "its definition has `enabled: false`", "job disabled": "the job is disabled"}
                note(f"schedule '{one.name}' starts nothing yet: {why.get(one.state, one.held)}")


def _print_changed(job: str, names: list[str], state: str) -> None:
    if not names:
        note(f"Nothing changed: these schedules were already {state}.")
    for name in names:
        typer.echo(f"schedule '{name}' of job '{job}' is {state}")


@app.command()
def backfill(
    job: JobId,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="The first due time: a day, or a time.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Due times before this, or up to this day's end.")],
    schedule: Annotated[str | None, typer.Option(help="Only this schedule of the job.")] = None,
    at_most: Annotated[int, typer.Option(min=1, max=1000, help="How many of the runs may run at a time.")] = 1,
    priority: Annotated[
        int | None,
        typer.Option(min=-1000, max=1000, help="Their priority; default: 100 below that of the job."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the due times.")] = False,
    as_json: Json = False,
) -> None:
    """Start a run for each due time that passed without one.

    The command may be repeated: no due time gets a second run. Days and times
    without an offset are in the schedule's time zone.
    """
    from jobfac.operations.bulk.backfill import BackfillRequest

    with backend() as factory:
        zone = _zone([one for one in factory.schedules(job) if schedule in (None, one.name)])
        since, until = instant(begin, "--from", back=True, zone=zone), period_end(end, "--to", zone)
        wanted = BackfillRequest(job, since, until, schedule, at_most, priority)
        (lines, _, defined_at), stopped = _pages(factory, wanted, dry_run)
    columns: Columns[BackfillView] = {"DUE": _due_local, "SCHEDULE": "schedule", "RESULT": "result", "RUN": "run"}
    with reader_may_leave():
        print_list(lines, columns, f"job '{job}' was not due from {write_time(since)} to {write_time(until)}", as_json)
    if as_json and stopped is None:
        return
    existing = sum(line.result is BackfillResult.EXISTS for line in lines)
    word = "to start" if dry_run else "started"
    then = "" if stopped is None else " Then it was stopped; the same command starts the others."
    note(f"{len(lines) - existing} runs {word}, {existing} due times have a run.{then}")
    if stopped is not None:
        raise stopped
    new = (line.due_at for line in lines if line.result is not BackfillResult.EXISTS)
    if defined_at is not None and (early := sum(due < defined_at for due in new)):
        note(f"warning: {early} of them lie before {write_time(defined_at)}, when job '{job}' was defined first.")


def _pages(
    factory: Backend, wanted: "BackfillRequest", dry_run: bool
) -> tuple[Backfill, JobfacError | KeyboardInterrupt | None]:
    """Start the runs page by page. Returns also what has stopped it after the first page."""
    lines: list[BackfillView] = []
    while True:
        try:
            page = factory.backfill(wanted, dry_run)
        except (JobfacError, KeyboardInterrupt) as error:
            if dry_run or not lines:
                raise
            return Backfill(lines, wanted.since), error
        lines += page.items
        if page.next_from is None:
            return page._replace(items=lines), None
        wanted = wanted._replace(since=page.next_from)


@app.command("load")
def show_load(
    days: Annotated[int, typer.Option(min=1, max=31, help="The number of days.")] = 7, as_json: Json = False
) -> None:
    """Show how full the coming days are, by hour and pool.

    Runs count with their usual duration. Where slots will not suffice, it says which times to move.
    """
    with backend() as factory:
        found = factory.load(days)
    if as_json:
        print_json(serialization_as_json(found))
        return
    from jobfac.cli.rendering.heat import heat_map, legend

    for line in heat_map(found):
        print_drawn(line)
    if not any(hour.runs for pool in found.pools for hour in pool.hours):
        note("nothing is due in these days")
        return
    print_drawn(legend(found))
    if found.moves:
        typer.echo("")
        columns: Columns[MoveView] = {
            "MOVE": "job",
            "SCHEDULE": "schedule",
            "DUE": "due_at",
            "TO": "to",
            "POOL": "pool",
            "WHY": "reason",
        }
        print_table(found.moves, columns, "")
    for sentence in found.remarks():
        note(sentence)


def _zone(schedules: Sequence[ScheduleView]) -> ZoneInfo | None:
    """Return the time zone of these schedules; None: they have several, or this machine does not know it."""
    names = {str(one.definition.get("timezone", "UTC")) for one in schedules if not _TRIGGERS & one.definition.keys()}
    if len(names) > 1:
        note(f"The schedules have several time zones ({', '.join(sorted(names))}), so times are local.")
    try:
        return ZoneInfo(names.pop()) if len(names) == 1 else None
    except (ValueError, LookupError):
        return None


def _due_local(row: BackfillView) -> str:
    return f"{row.local:%a} {row.local.isoformat(' ', 'seconds')}"
