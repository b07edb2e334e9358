"""The options that say which runs, of `runs list`, `retry` and `stop`."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobfac.cli import completion
from jobfac.cli.common import USAGE, fail, instant, period_end
from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.store.history.search import Filter

Job = Annotated[str | None, typer.Option(help="Only runs of this job.", autocompletion=completion.jobs)]
States = Annotated[
    list[str] | None,
    typer.Option("--state", help="Only runs in this state; may be repeated.", autocompletion=completion.states),
]
Category = Annotated[
    str | None, typer.Option(help="Only runs of jobs of this category.", autocompletion=completion.categories)
]
WorkerName = Annotated[
    str | None,
    typer.Option("--worker", help="Only runs that this worker executed last.", autocompletion=completion.workers),
]
Since = Annotated[str | None, typer.Option(help="Only runs created since this time: 2h, yesterday, a day, or a time.")]
Until = Annotated[str | None, typer.Option(help="Only runs created before this time, or up to the end of this day.")]
InSequence = Annotated[
    int | None, typer.Option("--sequence", min=1, metavar="RUN", help="Only runs of this sequence run.")
]
Key = Annotated[str | None, typer.Option(help="Only runs started with this key.")]
TextOption = Annotated[
    str | None, typer.Option("--text", help="Only runs with this text in the job, the reason, a message or the key.")
]


def selection(
    job: str | None,
    states: list[str] | None,
    category: str | None,
    worker: str | None,
    since: str | None,
    until: str | None,
    sequence: int | None,
    key: str | None,
    text: str | None,
) -> "Filter":
    """Return the filter that the options describe."""
    from jobfac.store.history.search import Filter

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
