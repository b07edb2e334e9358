"""`workers list / drain`."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import MOST, Json, group
from jobfac.cli.rendering.printing import Columns, print_json, print_table
from jobfac.cli.rendering.text import cell, memory_text
from jobfac.views.serialization import all_as_json
from jobfac.views.workers import WorkerView

app = group("The fleet.")


@app.command("list")
def list_workers(
    everyone: Annotated[bool, typer.Option("--all", help="Also those that left or died.")] = False,
    as_json: Json = False,
) -> None:
    """The workers, newest first."""
    with backend() as factory:
        found = factory.workers(alive_only=not everyone)
    if as_json:
        print_json(all_as_json(found))
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
    print_table(found, columns, "no workers; `jobfac worker` starts one")


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
    worker: Annotated[list[int], typer.Argument(min=1, max=MOST, help="Worker ids, as `workers list` shows them.")],
) -> None:
    """Ask workers to take nothing more and to leave when their runs are done. `jobfac up` leaves with its worker."""
    with backend() as factory:
        for one in worker:
            factory.drain(one)
            typer.echo(f"worker {one} is draining")
