"""`sequence simulate / graph`: predict and draw the steps of a sequence."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.client import backend
from jobfac.cli.commands.start import SetOption
from jobfac.cli.common import NOT_FOUND, USAGE, Json, fail, group, instant, settings
from jobfac.cli.parameters import read_pairs
from jobfac.cli.rendering.printing import print_drawn, print_json
from jobfac.cli.streams import escaped
from jobfac.states import FINAL, Decision, RunState

if TYPE_CHECKING:
    from jobfac.definitions import Sequence
    from jobfac.store.sequences.plans.simulate import Decisions, Outcomes, Walk

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
    set_: SetOption = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="The time of the start; default: now.")] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Show which steps a sequence would visit. Nothing is run.

    With for_each, STEP.JOB[2]=failed is the run of the third value. STEP=approved, rejected or expired is the decision
    about a step that waits for a person; STEP=found or expired is how the waiting for a file or an address ends.
    """
    from jobfac.store.sequences.plans.simulate import simulate

    sequence = _sequence(job, file)
    begin = datetime.now(UTC) if at is None else instant(at, "--at")
    jobs, decisions = _outcomes(sequence, outcome or [])
    values = _values(job, sequence, begin, read_pairs(set_ or [], "--set"))
    walk = simulate(sequence, jobs, begin, decisions, values, settings().sequence_limit)
    if as_json:
        print_json(_document(job, walk))
        return
    from jobfac.cli.rendering.tree import walk_tree

    print_drawn(walk_tree(job, walk))
    typer.echo(f"ends {walk.state}" + (f": {escaped(walk.reason)}" if walk.reason else ""))


@app.command()
def graph(
    job: Annotated[str, typer.Argument(help="The sequence's id.", autocompletion=completion.jobs)],
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG image to this file.")] = None,
    file: File = None,
) -> None:
    """Draw a sequence as a Mermaid flowchart or an SVG image."""
    from jobfac.store.sequences.plans import graph as drawing

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


def _values(job: str, sequence: "Sequence", moment: datetime, given: dict[str, Any]) -> dict[str, Any]:
    """The values of the sequence's parameters, as a start at that moment would have them."""
    from jobfac.definitions.parameters import Context, read_parameters

    wanted = {name: one for name, one in sequence.parameters.items() if name in given or not one.required}
    unknown = {name: value for name, value in given.items() if name not in sequence.parameters}
    known = {name: one for name, one in wanted.items() if name in given or one.many}
    return read_parameters(job, known, {**given, **unknown}, Context(due=moment, run_id=0, previous=moment))


def _outcomes(sequence: "Sequence", given: list[str]) -> "tuple[Outcomes, Decisions]":
    places = {f"{step.name}.{job}": (step.name, job) for step in sequence.steps for job in step.jobs}
    fans = {step.name for step in sequence.steps if step.for_each}
    waiting = {step.name: _DECIDED if step.approve else _AWAITED for step in sequence.steps if step.otherwise}
    found: dict[tuple[str, str], list[RunState]] = {}
    decided: dict[str, list[Decision]] = {}
    for one in given:
        place, _, words = one.partition("=")
        if place in waiting:
            decided[place] = [Decision(_word(one, word, waiting[place])) for word in words.split(",")]
            continue
        whole, bracket, number = place.removesuffix("]").partition("[")
        is_one = place.endswith("]") and number.isdecimal()
        if whole not in places or (bracket and not (is_one and places[whole][0] in fans)):
            fail(USAGE, f"--outcome {one} must name a step and its job: one of {', '.join([*places, *waiting])}.")
        step, job = places[whole]
        name = f"{job}[{int(number)}]" if bracket else job
        found[step, name] = [RunState(_word(one, word, FINAL)) for word in words.split(",")]
    return found, decided


_DECIDED = frozenset({Decision.APPROVED, Decision.REJECTED, Decision.EXPIRED})
_AWAITED = frozenset({Decision.FOUND, Decision.EXPIRED})


def _word(option: str, word: str, known: Collection[str]) -> str:
    if word not in known:
        fail(USAGE, f"--outcome {option} must give one of {', '.join(sorted(known))}, not '{word}'.")
    return word


def _document(job: str, walk: "Walk") -> dict[str, Any]:
    """Return the simulated steps in the form in which `runs show` shows those of a run."""
    path = [
        {
            "step": stop.visit.step,
            "number": stop.number,
            "result": stop.visit.result,
            **({} if stop.visit.decision is None else {"decision": stop.visit.decision}),
            **({} if stop.reason is None else {"reason": stop.reason}),
            "next": None if stop.visit.to is None else stop.visit.to.step or stop.visit.to.kind,
            "runs": [{"job": step_job, "state": state} for step_job, state in stop.jobs.items()],
        }
        for stop in walk.stops
    ]
    return {"job": job, "state": walk.state, "reason": walk.reason, "path": path}
