"""The roles (`worker`, `scheduler`, `api`, `up`) and `workers list / drain`."""

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli.backend import backend
from jobfac.cli.common import USAGE, Json, database, fail, group, note, print_json, print_table, settings, state

if TYPE_CHECKING:
    from jobfac.database import Database
    from jobfac.settings import Settings
    from jobfac.worker import Worker

app = group("The fleet.")

Slots = Annotated[int | None, typer.Option(min=1, max=1000, help="Programs at once; default: twice the processors.")]
Pools = Annotated[list[str] | None, typer.Option("--pool", help="A pool to take runs from; repeat.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="What this machine has; repeat.")]
Name = Annotated[str | None, typer.Option(help="How the fleet calls it; default: host and process number.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]


def worker(slots: Slots = None, pool: Pools = None, label: Labels = None, name: Name = None) -> None:
    """Claim and run runs until told to stop: TERM or INT drains, a second one does not wait."""
    found = _role()
    with database() as db:
        one = _worker(db, found, slots, pool, label, name)
        _on_signal(lambda first: one.drain(None if first else 0.0))
        one.run()


def scheduler() -> None:
    """Insert due runs, notice dead workers, purge what is old. Any number may run side by side."""
    from jobfac.scheduler import Scheduler
    from jobfac.settings import worker_name

    found = _role()
    with database() as db:
        one = Scheduler(db, found, worker_name())
        _on_signal(lambda first: one.stop())
        one.run()


def api(
    host: Host = None,
    port: Port = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Something before it speaks TLS; listen on any address.")
    ] = False,
) -> None:
    """Serve the HTTP API."""
    from jobfac.api import Server

    found = _role(api_host=host, api_port=port)
    with database() as db:
        db.check_schema()
        server = Server(db, found, behind_proxy=behind_proxy)
        _on_signal(lambda first: server.stop())
        server.run()


def up(
    slots: Slots = None,
    pool: Pools = None,
    label: Labels = None,
    name: Name = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """All roles in one process, on the configured database; SQLite's schema is made or upgraded."""
    from jobfac.api import Server
    from jobfac.scheduler import Scheduler

    found = _role(api_host=host, api_port=port)
    with database() as db:
        if db.dialect.name == "sqlite":
            db.upgrade()
        db.check_schema()
        one = _worker(db, found, slots, pool, label, name)
        roles: list[Any] = [Scheduler(db, found, one.name), Server(db, found)]
        failures: list[BaseException] = []

        def play(role: Any) -> None:
            try:
                role.run()
            except Exception as error:
                failures.append(error)
                one.drain(0.0)

        threads = [threading.Thread(target=play, args=(role,), name=type(role).__name__.lower()) for role in roles]
        _on_signal(lambda first: one.drain(None if first else 0.0))
        for thread in threads:
            thread.start()
        note(f"The factory is up: {roles[1].link()}")
        try:
            one.run()
        finally:
            for role in roles:
                role.stop()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]


def _role(**overrides: Any) -> "Settings":
    """The settings of a role, and its log set up."""
    from jobfac.logs import configure

    found = settings(**overrides)
    configure(found)
    return found


def _worker(
    db: "Database",
    found: "Settings",
    slots: int | None,
    pools: list[str] | None,
    labels: list[str] | None,
    name: str | None,
) -> "Worker":
    import os

    from jobfac.process import unignore_signals
    from jobfac.settings import worker_name
    from jobfac.worker import Worker

    pairs = dict(label.partition("=")[::2] for label in labels or [])
    for label in labels or []:
        if not label.partition("=")[2]:
            fail(USAGE, f"--label must be K=V, such as zone=a, not '{label}'.")
    unignore_signals()
    return Worker(
        db,
        found,
        name=name or worker_name(),
        slots=slots or 2 * (os.cpu_count() or 1),
        pools=pools or ["default"],
        labels=pairs,
    )


def _on_signal(act: Callable[[bool], None]) -> None:
    """Call ``act(True)`` at the first TERM or INT, ``act(False)`` at later ones. Handlers only set flags."""
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        act(count == 1)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


@app.command("list")
def list_workers(
    everyone: Annotated[bool, typer.Option("--all", help="Also those that left or died.")] = False,
    as_json: Json = False,
) -> None:
    """The workers, newest first."""
    with backend() as factory:
        found = factory.workers(alive_only=not everyone)
    if as_json:
        print_json(found)
        return
    columns = {"WORKER": "id", "NAME": "name", "HOST": "host", "STATE": state, "BUSY": _busy, "POOLS": _pools,
               "STARTED": "started_at", "SEEN": "seen_at"}  # fmt: skip
    print_table(found, columns, "no workers; `jobfac worker` starts one")


def _busy(worker: Any) -> str:
    return f"{worker['busy']} of {worker['slots']}"


def _pools(worker: Any) -> str:
    return ", ".join(worker["pools"])


@app.command()
def drain(worker: Annotated[list[int], typer.Argument(help="Worker ids, as `workers list` shows them.")]) -> None:
    """Ask workers to take nothing more and to leave when their runs are done."""
    with backend() as factory:
        for one in worker:
            factory.drain(one)
            typer.echo(f"worker {one} is draining")
