"""`schedule list / preview / pause / resume`, and `import crontab`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import NOT_FOUND, USAGE, Failure, Json, fail, group, instant
from jobfac.cli.rendering.printing import Columns, note, print_json, print_table, print_text
from jobfac.cli.rendering.text import cell
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.serialization import all_as_json

app = group("When jobs are due.")
import_app = group("Definitions from elsewhere, on standard output.")

Job = Annotated[str, typer.Argument(help="The job's id.")]
Name = Annotated[str | None, typer.Argument(help="The schedule's name or its position; default: all of the job's.")]


@app.command("list")
def list_schedules(
    job: Annotated[str | None, typer.Argument(help="Only this job's; default: all.")] = None, as_json: Json = False
) -> None:
    """Every schedule, and when it is due next."""
    with backend() as factory:
        found = factory.schedules(job)
    if as_json:
        print_json(all_as_json(found))
        return
    columns: Columns[ScheduleView] = {
        "JOB": "job",
        "NAME": "name",
        "STATE": _state,
        "NEXT": "next_due_at",
        "LAST": "last_due_at",
        "RULE": _rule,
    }
    print_table(found, columns, "no schedules; give a job some in its definition")


def _state(row: ScheduleView) -> str:
    if row.paused:
        return "[yellow]paused[/]"
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
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many times.")] = 10,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Times after this; default: now.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also the times that do not fire, and why they do not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """When a job would be due. Jitter and pauses are not looked at."""
    start = None if begin is None else instant(begin, "--from")
    with backend() as factory:
        found = factory.preview(job, count, start, explain)
    if as_json:
        print_json(all_as_json(found))
        return
    columns: dict[str, str | Callable[[CandidateView], str]] = {
        "DUE": "due_at",
        "SCHEDULE": "schedule",
        "IN ITS ZONE": _local,
    }
    if explain:
        columns["FIRES"] = lambda row: "yes" if row.fires else "[yellow]no[/]"
    empty = f"job '{job}' is {'never due by itself' if begin is None else f'not due by itself after {begin}'}"
    if any(one.parameters for one in found):
        columns["PARAMETERS"] = "parameters"
    print_table(found, {**columns, "WHY": "reason"}, empty)


def _local(row: CandidateView) -> str:
    return f"{row.local:%a %Y-%m-%d %H:%M:%S %z}"


@app.command()
def pause(job: Job, name: Name = None) -> None:
    """Let schedules start nothing until they are resumed."""
    with backend() as factory:
        _tell(job, factory.pause(job, name, True), "paused")


@app.command()
def resume(job: Job, name: Name = None) -> None:
    """Let schedules start runs again; what was due meanwhile counts as missed."""
    with backend() as factory:
        _tell(job, factory.pause(job, name, False), "resumed")


def _tell(job: str, names: list[str], what: str) -> None:
    if not names:
        note(f"Nothing changed: every schedule meant was {what} before.")
    for name in names:
        typer.echo(f"schedule '{name}' of job '{job}' is {what}")


@import_app.command()
def crontab(
    file: Annotated[Path, typer.Argument(help="A user's crontab or a file of /etc/cron.d; `-` reads standard input.")],
    system: Annotated[
        bool | None,
        typer.Option("--system/--user", help="Whether each line names its user; default: for files below /etc."),
    ] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="Its zone; default: this machine's.")] = None,
) -> None:
    """Print a crontab as definitions; what cannot be taken over becomes a warning with its line."""
    from jobfac import definitions as d
    from jobfac.importers.crontab import from_crontab

    text = sys.stdin.read() if str(file) == "-" else _text(file)
    filename = "crontab" if str(file) == "-" else str(file)
    names_users = file.absolute().is_relative_to("/etc") if system is None else system
    jobs, warnings = from_crontab(text, system=names_users, filename=filename, timezone=timezone or _machine_zone())
    for warning in warnings:
        note(f"warning: {warning}")
    try:
        print_text(d.dump(d.from_data({"jobs": jobs})))
    except d.DefinitionError as error:
        raise Failure(USAGE, "\n".join(str(problem) for problem in error.problems)) from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        fail(NOT_FOUND, f"{file} cannot be read: {error.strerror}.")


def _machine_zone() -> str:
    """The zone that cron on this machine goes by."""
    link = os.path.realpath("/etc/localtime")
    return os.environ.get("TZ") or (link.partition("/zoneinfo/")[2] or "UTC")
