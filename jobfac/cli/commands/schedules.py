"""`schedule list / preview / pause / resume`."""

from collections.abc import Callable
from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import Json, group, instant
from jobfac.cli.rendering.printing import Columns, note, print_json, print_table
from jobfac.cli.rendering.text import cell
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import all_as_json

app = group("List, preview, pause and resume schedules.")

Job = Annotated[str, typer.Argument(help="The job's id.")]
Name = Annotated[str | None, typer.Argument(help="The schedule's name or position; default: all schedules of the job.")]


@app.command("list")
def list_schedules(
    job: Annotated[str | None, typer.Argument(help="Only schedules of this job; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List schedules with their next due times."""
    with backend() as factory:
        views = factory.schedules(job)
    if as_json:
        print_json(all_as_json(views))
        return
    columns: Columns[ScheduleView] = {
        "JOB": "job",
        "NAME": "name",
        "STATE": _state,
        "NEXT": "next_due_at",
        "LAST": "last_due_at",
        "RULE": _rule,
    }
    print_table(views, columns, "no schedules; add some to the definition of a job")


def _state(row: ScheduleView) -> str:
    if row.paused:
        return "[yellow]paused[/]"
    if row.held:
        return "[yellow]held[/]"
    if not row.job_enabled:
        return "[yellow]job disabled[/]"
    if row.definition.get("enabled") is False:
        return "[yellow]off[/]"
    if "after" in row.definition:
        return "waiting"
    return "active" if row.next_due_at else "over"


def _rule(row: ScheduleView) -> str:
    return cell({key: value for key, value in row.definition.items() if key != "payload"})


@app.command()
def preview(
    job: Job,
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
    if as_json:
        print_json(all_as_json(candidates))
        return
    columns: dict[str, str | Callable[[CandidateView], str]] = {
        "DUE": "due_at",
        "SCHEDULE": "schedule",
        "IN ITS ZONE": _local,
    }
    if explain:
        columns["FIRES"] = lambda row: "yes" if row.fires else "[yellow]no[/]"
    empty = f"job '{job}' is {'never due by itself' if begin is None else f'not due by itself after {begin}'}"
    if any(one.parameters for one in candidates):
        columns["PARAMETERS"] = "parameters"
    print_table(candidates, {**columns, "WHY": "reason"}, empty)


def _local(row: CandidateView) -> str:
    return f"{row.local:%a %Y-%m-%d %H:%M:%S %z}"


@app.command()
def pause(job: Job, name: Name = None) -> None:
    """Pause schedules: they start no runs until they are resumed."""
    with backend() as factory:
        _print_changed(job, factory.pause(job, name, True), "paused")


@app.command()
def resume(job: Job, name: Name = None) -> None:
    """Resume schedules. Due times during the pause count as missed."""
    with backend() as factory:
        _print_changed(job, factory.pause(job, name, False), "resumed")


def _print_changed(job: str, names: list[str], state: str) -> None:
    if not names:
        note(f"Nothing changed: these schedules were already {state}.")
    for name in names:
        typer.echo(f"schedule '{name}' of job '{job}' is {state}")
