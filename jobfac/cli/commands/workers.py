"""`workers list / drain`: the workers of the fleet."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import MAX_ID, Json, group
from jobfac.cli.rendering.printing import Columns, print_json, print_table
from jobfac.cli.rendering.text import cell, memory_text
from jobfac.views.serialization import all_as_json
from jobfac.views.workers import WorkerView

app = group("List and drain workers.")


@app.command("list")
def list_workers(
    include_gone: Annotated[bool, typer.Option("--all", help="Include workers that have left or died.")] = False,
    as_json: Json = False,
) -> None:
    """List workers, newest first."""
    with backend() as factory:
        views = factory.workers(alive_only=not include_gone)
    if as_json:
        print_json(all_as_json(views))
        return
    columns: Columns[WorkerView] = {
        "WORKER": "id",
        "NAME": "name",
        "HOST": "host",
        "STATE": "state",
        "BUSY": _busy,
        "POOLS": _pools,
        "STARTED": "started_at",
        "SEEN": "seen_at",
        "CPU WAIT": _pressure,
        "FREE MEMORY": _memory,
        "MESSAGE": "message",
    }
    print_table(views, columns, "no workers; `jobfac worker` starts one")


def _busy(worker: WorkerView) -> str:
    return f"{worker.busy} of {worker.slots}"


def _pressure(worker: WorkerView) -> str:
    return "" if worker.cpu_pressure is None else f"{worker.cpu_pressure:.0f} %"


def _memory(worker: WorkerView) -> str:
    return "" if worker.free_memory is None else memory_text(worker.free_memory)


def _pools(worker: WorkerView) -> str:
    return cell(", ".join(worker.pools))


@app.command()
def drain(
    worker: Annotated[list[int], typer.Argument(min=1, max=MAX_ID, help="Worker ids, from `workers list`.")],
) -> None:
    """Drain workers. They claim no more runs and exit when their runs have ended. `jobfac up` exits with its worker."""
    with backend() as factory:
        for worker_id in worker:
            factory.drain(worker_id)
            typer.echo(f"worker {worker_id} is draining")
