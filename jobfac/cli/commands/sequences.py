"""`sequence simulate / graph`: predict and draw the steps of a sequence."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.client import backend
from jobfac.cli.common import NOT_FOUND, USAGE, Json, fail, group, instant
from jobfac.cli.rendering.printing import print_drawn, print_json
from jobfac.states import FINAL, RunState

if TYPE_CHECKING:
    from jobfac.definitions import Sequence
    from jobfac.store.sequences.simulate import Outcomes, Walk

app = group("Simulate and draw sequences.")

File = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Read this file of definitions; default: the factory.")
]


@app.command()
def simulate(
    job: Annotated[str, typer.Argument(help="The sequence's id.", autocompletion=completion.jobs)],
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP.JOB=STATE,...",
            help="How a job ends at each visit of its step; may be repeated. Jobs end in this order; others succeed.",
        ),
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The time of the start; default: now.")] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Show which steps a sequence would visit. Nothing is run."""
    from jobfac.store.sequences.simulate import simulate

    sequence = _sequence(job, file)
    begin = datetime.now(UTC) if at is None else instant(at, "--at")
    walk = simulate(sequence, _outcomes(sequence, outcome or []), begin)
    if as_json:
        print_json(_document(job, walk))
        return
    from jobfac.cli.rendering.tree import walk_tree

    print_drawn(walk_tree(job, walk))
    typer.echo(f"ends {walk.state}" + (f": {walk.reason}" if walk.reason else ""))


@app.command()
def graph(
    job: Annotated[str, typer.Argument(help="The sequence's id.", autocompletion=completion.jobs)],
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG image to this file.")] = None,
    file: File = None,
) -> None:
    """Draw a sequence as a Mermaid flowchart or an SVG image."""
    from jobfac.store.sequences import graph as drawing

    sequence = _sequence(job, file)
    if svg is None:
        typer.echo(drawing.mermaid(sequence), nl=False)
        return
    try:
        svg.write_text(drawing.svg(job, sequence), encoding="utf-8")
    except OSError as error:
        fail(USAGE, f"{svg} cannot be written: {error.strerror}.")


def _sequence(job: str, file: Path | None) -> "Sequence":
    from jobfac import definitions as d

    if file is None:
        with backend() as factory:
            definition: d.AnyJob | None = d.from_canonical(job, factory.job(job).definition)
    else:
        definition = d.load(file).jobs.get(job)
    if definition is None:
        fail(NOT_FOUND, f"There is no job '{job}' in {file}.")
    if not isinstance(definition, d.Sequence):
        fail(USAGE, f"Job '{job}' is a program, not a sequence.")
    return definition


def _outcomes(sequence: "Sequence", options: list[str]) -> "Outcomes":
    places = {f"{step.name}.{job}": (step.name, job) for step in sequence.steps for job in step.jobs}
    outcomes: dict[tuple[str, str], list[RunState]] = {}
    for option in options:
        place, _, words = option.partition("=")
        if place not in places:
            fail(USAGE, f"--outcome {option} must name a step and its job: one of {', '.join(places)}.")
        for word in words.split(","):
            if word not in FINAL:
                fail(USAGE, f"--outcome {option} must give one of {', '.join(sorted(FINAL))}, not '{word}'.")
            outcomes.setdefault(places[place], []).append(RunState(word))
    return outcomes


def _document(job: str, walk: "Walk") -> dict[str, Any]:
    """Return the simulated steps in the form in which `runs show` shows those of a run."""
    path = [
        {
            "step": stop.visit.step,
            "number": stop.number,
            "result": stop.visit.result,
            "next": None if stop.visit.to is None else stop.visit.to.step or stop.visit.to.kind,
            "runs": [{"job": step_job, "state": state} for step_job, state in stop.jobs.items()],
        }
        for stop in walk.stops
    ]
    return {"job": job, "state": walk.state, "reason": walk.reason, "path": path}
