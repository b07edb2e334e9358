"""`approve`: decide about a step that waits for a person."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import Json, RunId
from jobfac.cli.rendering.printing import print_json


def approve(
    run: RunId,
    step: Annotated[str, typer.Argument(help="The step that waits.")],
    reject: Annotated[bool, typer.Option("--reject", help="Reject it: the step fails.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; shown with the run.")] = None,
    as_json: Json = False,
) -> None:
    """Decide about a step that waits for a person."""
    with backend() as factory:
        decision = factory.approve(run, step, not reject, reason)
    if as_json:
        print_json({"run": run, "step": step, "decision": decision})
    else:
        typer.echo(f"step '{step}' of run {run} is {decision}")
