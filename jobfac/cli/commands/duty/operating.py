"""hold, release, holds, note, approve: what the people on duty do."""

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.commands.start import SetOption
from jobfac.cli.common import MAX_ID, USAGE, Json, RunId, fail, instant, seconds
from jobfac.cli.parameters import read_pairs
from jobfac.cli.rendering.printing import Columns, print_json, print_list
from jobfac.cli.rendering.text import text_of
from jobfac.cli.streams import escaped
from jobfac.cli.times import write_time
from jobfac.views.holds import HoldView
from jobfac.views.serialization import as_json

HoldId = Annotated[int, typer.Argument(min=1, max=MAX_ID, help="The hold's id, as `jobfac holds` shows it.")]


def hold(
    reason: Annotated[str, typer.Option(help="The reason, shown to everybody who waits.")],
    pool: Annotated[str | None, typer.Option(help="Only runs of this pool.")] = None,
    category: Annotated[str | None, typer.Option(help="Only jobs of this category.")] = None,
    job: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it ends automatically: a time or a duration (2h)."),
    ] = None,
    json: Json = False,
) -> None:
    """Hold a pool, a category, a job or everything: no new starts. Running programs continue."""
    from jobfac.store.holds.placing import Scope

    scope = Scope(pool, category, job)
    if sum(one is not None for one in scope) > 1:
        fail(USAGE, "Give one of --pool, --category and --job; place several holds for more.")
    with backend() as factory:
        placed = factory.hold(scope, reason, None if until is None else _ahead(until))
    if json:
        print_json(as_json(placed))
        return
    ends = "until it is released" if placed.until is None else f"until {text_of(placed.until)}"
    typer.echo(
        f"hold {placed.id} of {escaped(str(placed.scope))} is placed, {ends}: `jobfac release {placed.id}` ends it"
    )


def _ahead(text: str) -> datetime | timedelta:
    """A time, or a duration from now."""
    if re.fullmatch(r"[\d.]+[a-z].*", text):
        return timedelta(seconds=seconds(text, "--until"))
    return instant(text, "--until")


def release(hold: HoldId, json: Json = False) -> None:
    """End a hold. The runs that it held start as soon as there are free slots."""
    with backend() as factory:
        released = factory.release(hold)
    end = released.until
    word = f"had ended at {write_time(end)}" if end and end <= (released.released_at or end) else "is released"
    print_json(as_json(released)) if json else typer.echo(f"hold {hold} of {escaped(str(released.scope))} {word}")


def list_holds(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have ended, newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of holds.")] = 1000,
    json: Json = False,
) -> None:
    """List the active holds, oldest first."""
    with backend() as factory:
        found = factory.holds(ended, limit)
    columns: Columns[HoldView] = {
        "HOLD": "id",
        "OF": _scope,
        "UNTIL": "until",
        "BY": "created_by",
        "SINCE": "created_at",
        "REASON": "reason",
    }
    if ended:
        columns = {**columns, "RELEASED": "released_at"}
    print_list(found, columns, "nothing is held", json)


def _scope(hold: HoldView) -> str:
    return text_of(hold.scope)


def note_run(
    run: RunId,
    text: Annotated[str, typer.Argument(help="What you found or did.")],
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge its failure, too.")] = False,
    json: Json = False,
) -> None:
    """Write a note about a run."""
    with backend() as factory:
        written = factory.note(run, text, ack)
    if json:
        print_json(as_json(written))
    else:
        typer.echo(f"note {written.id} about run {run} is written" + (", its failure is acknowledged" if ack else ""))


def approve(
    run: RunId,
    step: Annotated[str, typer.Argument(help="The step that waits.")],
    reject: Annotated[bool, typer.Option("--reject", help="Reject it: the step fails.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; shown with the run.")] = None,
    set_: SetOption = None,
    as_json: Json = False,
) -> None:
    """Decide about a step that waits for a person."""
    given = read_pairs(set_ or [], "--set")
    with backend() as factory:
        decision = factory.approve(run, step, not reject, reason, given)
    if as_json:
        print_json({"run": run, "step": step, "decision": decision})
    else:
        typer.echo(f"step '{step}' of run {run} is {decision}")
