"""`apply`, `export`, and `jobs list / show / enable / disable / delete`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.client import backend
from jobfac.cli.common import USAGE, Failure, Json, group
from jobfac.cli.rendering.printing import Columns, note, print_fields, print_json, print_table, print_text
from jobfac.cli.rendering.text import cell
from jobfac.views import serialization
from jobfac.views.jobs import JobView
from jobfac.views.results.plans import PlanView

app = group("List, show, enable, disable and delete jobs and sequences.")


def apply(
    files: Annotated[list[Path], typer.Argument(help="Files of definitions in YAML or JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove jobs that no file defines.")] = False,
    as_json: Json = False,
) -> None:
    """Apply definitions, all of them or none, and show the changes."""
    from jobfac.definitions import DefinitionError

    try:
        with backend() as factory:
            applied = factory.apply(files, prune, dry_run)
    except (DefinitionError, Failure) as error:
        if error.exit_code != USAGE:
            raise
        raise Failure(USAGE, f"{error}\nNothing was changed.") from None
    for warning in applied.warnings:
        note(f"warning: {warning}")
    if as_json:
        print_json(applied.jobs._asdict() | {"defaults": applied.defaults._asdict()})
    else:
        _print_changes(applied.defaults, "defaults of ")
        _print_changes(applied.jobs)
        _print_count(applied.jobs, dry_run)


def _print_changes(plan: PlanView, prefix: str = "") -> None:
    for name in plan.add:
        typer.secho(f"+ {prefix}{name}", fg="green")
    for name, changes in plan.change.items():
        typer.secho(f"~ {prefix}{name}", fg="yellow")
        for change in changes:
            typer.echo(f"    {change['path']}: {_value(change['before'])} -> {_value(change['after'])}")
    for name in plan.remove:
        typer.secho(f"- {prefix}{name}", fg="red")


def _print_count(plan: PlanView, dry_run: bool) -> None:
    added, changed, removed = ("to add", "to change", "to remove") if dry_run else ("added", "changed", "removed")
    typer.echo(
        f"{len(plan.add)} {added}, {len(plan.change)} {changed}, {len(plan.remove)} {removed}, "
        f"{len(plan.same)} unchanged" + ("; nothing was changed" if dry_run else "")
    )


def _value(value: Any) -> str:
    import json

    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)


def export(
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Job ids; default: all.", autocompletion=completion.jobs)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the stored definitions in a form that `apply` reads."""
    with backend() as factory:
        views = [factory.job(job) for job in jobs] if jobs else factory.jobs()
        defaults = {} if jobs else factory.defaults()
    bodies = {job.id: _body(job) for job in views}
    if as_json:
        print_json({"jobs": bodies} | ({"defaults": defaults} if defaults else {}))
    else:
        print_text(_yaml(bodies, defaults))


@app.command("list")
def list_jobs(as_json: Json = False) -> None:
    """List all jobs and sequences."""
    with backend() as factory:
        views = factory.jobs()
    if as_json:
        print_json(serialization.all_as_json(views))
        return
    columns: Columns[JobView] = {
        "JOB": "id",
        "KIND": "kind",
        "VERSION": "version",
        "ENABLED": _enabled,
        "CATEGORY": "category",
        "SCHEDULES": _schedules,
        "RUNS": _program,
    }
    print_table(views, columns, "no jobs; `jobfac apply FILE` creates some")


def _enabled(job: JobView) -> str:
    return "yes" if job.enabled else "[yellow]no[/]"


def _schedules(job: JobView) -> str:
    return str(len(job.definition.get("schedules", [])) or "")


def _program(job: JobView) -> str:
    import shlex

    body = job.definition
    if "steps" in body:
        return cell(" > ".join(step["name"] for step in body["steps"]))
    command = body["command"]
    return cell(command if isinstance(command, str) else shlex.join(command))


@app.command("show")
def show_job(
    job: Annotated[str, typer.Argument(help="The job's id.", autocompletion=completion.jobs)], as_json: Json = False
) -> None:
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
def enable(job: Annotated[str, typer.Argument(help="The job's id.", autocompletion=completion.jobs)]) -> None:
    """Enable a job: allow its starts."""
    with backend() as factory:
        factory.enable(job, True)
    typer.echo(f"job '{job}' is enabled")


@app.command()
def disable(job: Annotated[str, typer.Argument(help="The job's id.", autocompletion=completion.jobs)]) -> None:
    """Disable a job: refuse all starts, by schedule or on demand. Running runs continue."""
    with backend() as factory:
        factory.enable(job, False)
    typer.echo(f"job '{job}' is disabled")


@app.command()
def delete(job: Annotated[str, typer.Argument(help="The job's id.", autocompletion=completion.jobs)]) -> None:
    """Delete a job. Its history stays, and its waiting and running runs continue."""
    with backend() as factory:
        factory.delete(job)
    typer.echo(f"job '{job}' is deleted")


def _body(job: JobView) -> dict[str, Any]:
    return job.definition if job.enabled else {**job.definition, "enabled": False}


def _yaml(bodies: dict[str, Any], defaults: dict[str, Any]) -> str:
    from jobfac import definitions as d

    jobs = {job: d.from_canonical(job, body, body.pop("enabled", True)) for job, body in bodies.items()}
    categories = {category: d.Defaults.model_validate(entry) for category, entry in defaults.items()}
    return d.dump(d.Definitions(jobs, categories))
