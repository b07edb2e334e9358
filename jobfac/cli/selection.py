"""The options that say which runs, of `runs list`, `retry`, `stop` and `ack`."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.common import MAX_ID, USAGE, fail, instant, period_end
from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.store.history.search import Filter

Job = Annotated[str | None, typer.Option(help="Only runs of this job.", autocompletion=completion.jobs)]
Since = Annotated[str | None, typer.Option(help="Only runs created since this time: 2h, yesterday, a day, or a time.")]
Until = Annotated[str | None, typer.Option(help="Only runs created before this time, or up to the end of this day.")]


def selection(
    *,
    job: Job = None,
    states: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only runs in this state; may be repeated.", autocompletion=completion.states),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Only runs of jobs of this category.", autocompletion=completion.categories)
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option("--worker", help="Only runs that this worker executed last.", autocompletion=completion.workers),
    ] = None,
    since: Since = None,
    until: Until = None,
    sequence: Annotated[
        int | None, typer.Option("--sequence", min=1, max=MAX_ID, metavar="RUN", help="Only runs of this sequence run.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only runs started with this key.")] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="Only runs with this text in the job, the reason, a message or the key."),
    ] = None,
) -> "Filter":
    """Return the filter that the options describe."""
    from jobfac.store.history.search import Filter

    for option, given in {"job": job, "category": category, "worker": worker, "key": key, "text": text}.items():
        if given == "":  # as by a variable without a value, which must not choose more runs
            fail(USAGE, f"--{option} is empty; leave the option out to choose all runs.")
    for word in states or []:
        if word not in list(RunState):
            fail(USAGE, f"--state must be one of {', '.join(RunState)}, not '{word}'.")
    return Filter(
        job=job,
        states=[RunState(word) for word in states or []],
        category=category,
        worker=worker,
        since=None if since is None else instant(since, "--since", back=True),
        until=None if until is None else period_end(until, "--until"),
        sequence_run_id=sequence,
        key=key,
        text=text,
    )


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter ``wanted`` of a command with the options of ``selection``, and give it their filter."""
    options, own = inspect.signature(selection).parameters, inspect.signature(command)

    @functools.wraps(command)
    def call(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in options}
        command(wanted=selection(**chosen), **values)

    shown = [one for name, kept in own.parameters.items() for one in (options.values() if name == "wanted" else [kept])]
    call.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in shown}
    return call
