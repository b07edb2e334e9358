"""`apply`, `export`, and `jobs list / show / enable / disable / delete`."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobfac.cli import completion, waiting
from jobfac.cli.client import backend
from jobfac.cli.common import MAX_ID, MAX_VERSION, USAGE, Failure, JobId, Json, Yes, confirm, fail, group, is_terminal
from jobfac.cli.rendering.printing import Columns, note, print_fields, print_json, print_list, print_text
from jobfac.cli.rendering.text import changed_value, coloured
from jobfac.errors import JobfacError
from jobfac.views import serialization
from jobfac.views.jobs import JobView, VersionView
from jobfac.views.keys import StartUrlView
from jobfac.views.results.plans import AppliedView, PlanView

app = group("List, show, enable, delete, compare, roll back and call jobs.")


def apply(
    files: Annotated[list[Path], typer.Argument(help="Files of definitions in YAML or JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove jobs that no file defines.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Apply definitions, all of them or none, and show the changes.

    A disabled job and a paused schedule stay so; only `enabled: true` in the file enables a job. On a terminal the
    command asks before it removes or disables anything.
    """
    try:
        with backend() as factory:
            if not dry_run and not yes and is_terminal():
                _ask(factory.apply(files, prune, True))
            applied = factory.apply(files, prune, dry_run)
    except JobfacError as error:
        if error.exit_code != USAGE:
            raise
        raise Failure(USAGE, f"{error}\nNothing was changed.") from None
    for warning in applied.warnings:
        note(f"warning: {warning}")
    if as_json:
        kept = {"disabled": applied.kept_disabled, "paused": applied.kept_paused}
        print_json(applied.jobs._asdict() | {"defaults": applied.defaults._asdict(), "kept": kept})
    else:
        _print_changes(applied.defaults, "defaults of ")
        _print_changes(applied.jobs)
        _print_kept(applied)
        _print_count(applied.jobs, applied.defaults, dry_run)


def _ask(applied: AppliedView) -> None:
    """Show the plan and ask, if it removes or disables anything."""
    if applied.losses:
        for one in applied.losses:
            note(f"this {one}")
        confirm("Apply it?", yes=False)


def _print_kept(applied: AppliedView) -> None:
    for job in applied.kept_disabled:
        typer.echo(
            f"= {job} stays disabled; `enabled: true` in its definition or `jobfac jobs enable {job}` enables it"
        )
    for job, name in applied.kept_paused:
        typer.echo(f"= schedule '{name}' of {job} stays paused; `jobfac schedule resume {job} {name}` resumes it")


def _print_changes(plan: PlanView, prefix: str = "") -> None:
    for name in plan.add:
        typer.secho(f"+ {prefix}{name}", fg="green")
    for name, changes in plan.change.items():
        typer.secho(f"~ {prefix}{name}", fg="yellow")
        for change in changes:
            typer.echo(f"    {change['path']}: {changed_value(change['before'])} -> {changed_value(change['after'])}")
    for name in plan.remove:
        typer.secho(f"- {prefix}{name}", fg="red")


def _print_count(plan: PlanView, defaults: PlanView, dry_run: bool) -> None:
    added, changed, removed = ("to add", "to change", "to remove") if dry_run else ("added", "changed", "removed")
    number = len(defaults.add) + len(defaults.change) + len(defaults.remove)
    typer.echo(
        f"{len(plan.add)} {added}, {len(plan.change)} {changed}, {len(plan.remove)} {removed}, "
        f"{len(plan.same)} unchanged"
        + (f"; defaults of categories {changed}: {number}" if number else "")
        + ("; nothing was changed" if dry_run else "")
    )


def export(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(help="Job ids; default: all. `crontab` first: as a crontab.", autocompletion=completion.jobs),
    ] = None,
    form: Annotated[
        Literal["yaml", "crontab"] | None, typer.Option("--as", help="The form; with it, every word is a job id.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="For a crontab: the jobs that run as NAME.")] = None,
    as_json: Json = False,
) -> None:
    """Print the stored definitions in a form that `apply` reads, or as a crontab."""
    wanted = list(jobs or [])
    if form is None and wanted[:1] == ["crontab"]:
        form, wanted = "crontab", wanted[1:]
    if user is not None and form != "crontab":
        fail(USAGE, "--user is only for `export crontab`.")
    with backend() as factory:
        views = [factory.job(job) for job in wanted] if wanted else factory.jobs()
        defaults = {} if wanted else factory.defaults()
        paused = {(one.job, one.name) for one in factory.schedules(None) if one.paused}
    bodies = {job.id: _body(job) for job in views}
    if form == "crontab":
        from jobfac.cli.commands.importing.back import print_crontab

        print_crontab(bodies, user, paused)
        return
    for job, name in sorted(paused):
        if job in bodies:
            note(f"warning: schedule '{name}' of {job} is paused, which no definition says; elsewhere it fires")
    if as_json:
        print_json({"jobs": bodies} | ({"defaults": defaults} if defaults else {}))
    else:
        print_text(_yaml(bodies, defaults))


@app.command("list")
def list_jobs(as_json: Json = False) -> None:
    """List all jobs and sequences."""
    with backend() as factory:
        views = factory.jobs()
    columns: Columns[JobView] = {
        "JOB": "id",
        "KIND": "kind",
        "VERSION": "version",
        "ENABLED": _enabled,
        "CATEGORY": "category",
        "SCHEDULES": _schedules,
        "RUNS": _program,
    }
    print_list(views, columns, "no jobs; `jobfac apply FILE` creates some", as_json)


def _enabled(job: JobView) -> object:
    if job.unreadable:
        return coloured("unreadable", "red")
    return "yes" if job.enabled else coloured("no", "yellow")


def _schedules(job: JobView) -> str:
    return str(len(job.definition.get("schedules", [])) or "")


def _program(job: JobView) -> str:
    import shlex

    body = job.definition
    if "steps" in body:
        return " > ".join(step["name"] for step in body["steps"])
    if "sql" in body:
        return "sql: " + " ".join(body["sql"].get("text", body["sql"].get("file", "")).split())
    command = body.get("command", "")
    return command if isinstance(command, str) else shlex.join(command)


@app.command("show")
def show_job(job: JobId, as_json: Json = False) -> None:
    """Show a job and its definition."""
    with backend() as factory:
        view = factory.job(job)
    if as_json:
        print_json(serialization.as_json(view))
        return
    print_fields({name: value for name, value in view._asdict().items() if name != "definition"})
    typer.echo("")
    typer.echo(_yaml({view.id: _body(view)}, {}), nl=False)


@app.command()
def enable(job: JobId) -> None:
    """Enable a job: allow its starts."""
    with backend() as factory:
        factory.enable(job, True)
    typer.echo(f"job '{job}' is enabled")


@app.command()
def disable(job: JobId) -> None:
    """Disable a job: refuse all starts, by schedule or on demand. Its waiting and running runs continue."""
    with backend() as factory:
        number = waiting.number(factory, job)
        factory.enable(job, False)
    typer.echo(f"job '{job}' is disabled")
    waiting.say(job, number)


@app.command()
def delete(job: JobId, yes: Yes = False) -> None:
    """Delete a job. Its history stays, and its waiting and running runs continue."""
    with backend() as factory:
        factory.job(job)  # which raises if there is none
        confirm(f"Delete the job '{job}' and its schedules?", yes)
        number = waiting.number(factory, job)
        factory.delete(job)
    typer.echo(f"job '{job}' is deleted")
    waiting.say(job, number)


@app.command()
def history(job: JobId, as_json: Json = False) -> None:
    """List the versions of a job, newest first."""
    with backend() as factory:
        found = factory.versions(job)
    before = {one.version: older.definition for one, older in pairwise(found)}
    columns: Columns[VersionView] = {
        "VERSION": "version",
        "WHEN": "created_at",
        "BY": "created_by",
        "IN FORCE": lambda one: coloured("yes", "green") if one.current else "",
        "CHANGED": lambda one: ", ".join(_paths(before.get(one.version), one.definition)),
    }
    print_list(found, columns, "no versions", as_json)


def _paths(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    from jobfac.definitions.plan import differences

    return ["(first)"] if before is None else [one.path for one in differences(before, after)]


@app.command()
def diff(
    job: JobId,
    first: Annotated[int | None, typer.Argument(min=1, help="A version; default: the one before the current.")] = None,
    second: Annotated[int | None, typer.Argument(min=1, help="Another one; default: the current.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two versions of a job."""
    from jobfac.operations.versions import difference, no_version

    with backend() as factory:
        found = {one.version: one for one in factory.versions(job)}
    current = next(version for version, one in found.items() if one.current)
    after = current if second is None else second
    before = max((one for one in found if one < after), default=after) if first is None else first
    for version in (before, after):
        if version not in found:
            raise no_version(job, version)
    changes = difference(found[before], found[after])
    if as_json:
        print_json(serialization.all_as_json(changes))
        return
    if not changes:
        note(f"Versions {before} and {after} of job '{job}' are the same.")
    for one in changes:
        typer.echo(f"{one.path}: {changed_value(one.before)} -> {changed_value(one.after)}")


@app.command()
def rollback(
    job: JobId,
    version: Annotated[
        int, typer.Argument(min=1, max=MAX_VERSION, help="The version to return to, as `jobs history` shows it.")
    ],
    as_json: Json = False,
) -> None:
    """Return to an earlier version of a job. It becomes a new version."""
    with backend() as factory:
        number = waiting.number(factory, job)
        found = factory.rollback(job, version)
        waiting.say_version(number)
        if as_json:
            print_json(serialization.as_json(found))
        else:
            typer.echo(f"job '{job}' has the definition of version {version} again, as version {found.version}")
        if paused := [one.name for one in factory.schedules(job) if one.paused]:
            note(f"Paused: {', '.join(paused)}; `jobfac schedule resume {job} NAME` resumes one.")


@app.command()
def url(
    job: JobId,
    name: Annotated[str, typer.Option(help="Who calls; shown in events and in the audit.")] = "caller",
    list_: Annotated[bool, typer.Option("--list", help="List the URLs of the job instead.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke the URLs of the job instead.")] = False,
    url_id: Annotated[
        int | None, typer.Option("--id", min=1, max=MAX_ID, help="With --revoke: only this one, as --list shows it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a URL that starts a job without a key, and print it. It cannot be shown again.

    A POST to the URL starts the job. `call` in the definition says what it takes from the request.
    """
    if list_ and revoke:
        fail(USAGE, "Give one of --list and --revoke.")
    if url_id is not None and not revoke:
        fail(USAGE, "--id is only for --revoke.")
    if not 1 <= len(name) <= 100:
        fail(USAGE, "--name must be 1 to 100 characters.")
    with backend() as factory:
        if revoke:
            _print_revoked(job, factory.revoke_start_url(job, url_id), as_json)
        elif list_:
            _print_urls(job, factory.start_urls(job), as_json)
        else:
            made = factory.create_start_url(job, name)
            if as_json:
                print_json(made)
                return
            note(f"URL {made['id']} of job '{job}'. Keep it safe: it is not shown again.")
            typer.echo(made["url"])


def _print_revoked(job: str, ids: list[int], as_json: bool) -> None:
    if as_json:
        print_json({"revoked": ids})
    elif ids:
        typer.echo(f"job '{job}': {'URL' if len(ids) == 1 else 'URLs'} {', '.join(map(str, ids))} revoked")
    else:
        typer.echo(f"job '{job}' has no active URL; nothing was changed")


def _print_urls(job: str, found: list[StartUrlView], as_json: bool) -> None:
    columns: Columns[StartUrlView] = {
        "URL": "id",
        "NAME": "name",
        "PREFIX": "prefix",
        "CREATED": "created_at",
        "BY": "created_by",
        "LAST USED": "used_at",
        "REVOKED": "revoked_at",
    }
    print_list(found, columns, f"no URLs; `jobfac jobs url {job}` makes one", as_json)


def _body(job: JobView) -> dict[str, Any]:
    return job.definition if job.enabled else {**job.definition, "enabled": False}


def _yaml(bodies: dict[str, Any], defaults: dict[str, Any]) -> str:
    from jobfac.definitions.document import write_document

    return write_document({"jobs": bodies} | ({"defaults": defaults} if defaults else {}))
