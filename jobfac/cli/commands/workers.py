"""`workers list / drain / undrain`: the workers of the fleet."""

from typing import Annotated

import typer

from jobfac.cli import completion
from jobfac.cli.client import Backend, backend
from jobfac.cli.common import NOT_FOUND, Json, fail, group
from jobfac.cli.rendering.printing import Columns, note, print_list
from jobfac.cli.rendering.text import coloured, memory_text
from jobfac.cli.times import write_time
from jobfac.views.workers import AFTER_LIMIT, MOST, WorkerView

app = group("List and drain workers, or cancel a drain.")


@app.command("list")
def list_workers(
    include_gone: Annotated[bool, typer.Option("--all", help="Include workers that have exited or died.")] = False,
    as_json: Json = False,
) -> None:
    """List workers, newest first, and after them those that have left.

    `silent`: its lease is over, so it is probably dead.
    """
    with backend() as factory:
        views = factory.workers(alive_only=not include_gone)
    columns: Columns[WorkerView] = {
        "WORKER": "id",
        "NAME": "name",
        "HOST": "host",
        "STATE": _state,
        "BUSY": _busy,
        "POOLS": _pools,
        "STARTED": "started_at",
        "SEEN": "seen_at",
        "CPU WAIT": _pressure,
        "FREE MEMORY": _memory,
        "MESSAGE": "message",
    }
    print_list(views, columns, "no workers; `jobfac worker` starts one", as_json)
    if len(views) >= MOST:
        note(f"These are {MOST:,} workers; a list contains no more, so older ones may be missing.")


def _state(worker: WorkerView) -> object:
    return coloured("silent", "red") if worker.silent else worker.state


def _busy(worker: WorkerView) -> str:
    return f"{worker.busy} of {worker.slots}"


def _pressure(worker: WorkerView) -> str:
    return "" if worker.cpu_pressure is None else f"{worker.cpu_pressure:.0f} %"


def _memory(worker: WorkerView) -> str:
    return "" if worker.free_memory is None else memory_text(worker.free_memory)


def _pools(worker: WorkerView) -> str:
    return ", ".join(worker.pools)


Workers = Annotated[
    list[str],
    typer.Argument(
        metavar="WORKER...",
        help="Names or ids of live workers, from `workers list`.",
        autocompletion=completion.workers,
    ),
]


@app.command()
def drain(worker: Workers) -> None:
    """Drain workers. They claim no more runs and exit when their runs have ended. `jobfac up` exits with its worker.

    Runs that take longer than the worker's `drain_limit` (60 s by default) are stopped and queued again, or end as lost
    if their job has `restartable: false`.
    """
    with backend() as factory:
        ids = _ids(factory, worker)
        for worker_id in ids:
            factory.drain(worker_id)
            typer.echo(f"worker {worker_id} is draining")
        _note_silent(factory, ids)
        note(f"A draining worker exits when its runs have ended. {AFTER_LIMIT}")


@app.command()
def undrain(worker: Workers) -> None:
    """Take a drain back: let workers claim runs again."""
    with backend() as factory:
        ids = _ids(factory, worker)
        for worker_id in ids:
            factory.undrain(worker_id)
            typer.echo(f"worker {worker_id} is active")
        _note_silent(factory, ids)


def _note_silent(factory: Backend, ids: list[int]) -> None:
    for one in factory.workers(alive_only=True):
        if one.silent and one.id in ids:
            note(
                f"Worker {one.id} is silent since {write_time(one.seen_at)}, so it is probably dead; "
                "it leaves the list when any worker or scheduler runs."
            )


def _ids(factory: Backend, words: list[str]) -> list[int]:
    """Return the ids of workers that are named or given by id.

    A name means all live workers of this name. Without any it means the last worker of this name, which has left: the
    refusal says so.
    """
    if all(word.isdecimal() for word in words):
        return [int(word) for word in words]
    live = factory.workers(alive_only=True)
    ids: list[int] = []
    for word in words:
        found = [view.id for view in live if view.name == word] or ([int(word)] if word.isdecimal() else [])
        if not found:
            found = [view.id for view in factory.workers(alive_only=False) if view.name == word][:1]
        if not found:
            names = ", ".join(sorted({view.name for view in live})[:10])
            fail(NOT_FOUND, f"There is no live worker '{word}'; {f'live are {names}' if names else 'none is alive'}.")
        ids += found
    return ids
