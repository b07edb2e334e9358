"""The roles: `worker`, `scheduler`, `api`, and all of them as `up`."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli.common import USAGE, database, fail, on_signal, settings
from jobfac.cli.rendering.printing import note

if TYPE_CHECKING:
    from jobfac.database.engine import Database
    from jobfac.settings import Settings
    from jobfac.worker import Worker


Slots = Annotated[int | None, typer.Option(min=1, max=1000, help="Programs at once; default: twice the processors.")]
Pools = Annotated[list[str] | None, typer.Option("--pool", help="A pool to take runs from; repeat.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="What this machine has; repeat.")]
Name = Annotated[str | None, typer.Option(help="How the fleet calls it; default: host and process number.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Metrics = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus there; default: nowhere.")
]
Pressure = Annotated[
    float | None,
    typer.Option(
        min=0, max=100, metavar="PERCENT", help="Claim nothing while work waits for a processor longer; default: any."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Claim nothing while less memory is free, such as 2GiB; default: any."),
]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]


def worker(
    slots: Slots = None,
    pool: Pools = None,
    label: Labels = None,
    name: Name = None,
    max_cpu_pressure: Pressure = None,
    min_free_memory: Memory = None,
    metrics: Metrics = None,
) -> None:
    """Claim and execute runs until TERM or INT: the first drains, a second one does not wait."""
    from jobfac.settings import worker_name

    found = _role(metrics=metrics, **_limits(max_cpu_pressure, min_free_memory))
    with database(f"jobfac worker {name or worker_name()}") as db:
        one = _worker(db, found, slots, pool, label, name)
        with _measured(db, found, one):
            on_signal(_drains(one, found))
            one.run()


def scheduler(metrics: Metrics = None) -> None:
    """Insert due runs, notice dead workers, purge what is old. Any number may run side by side."""
    from jobfac.scheduler import Scheduler
    from jobfac.settings import worker_name

    found = _role(metrics=metrics)
    with database(f"jobfac scheduler {worker_name()}") as db:
        one = Scheduler(db, found, worker_name())
        with _measured(db, found, one):
            on_signal(lambda first: one.stop())
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
    with database("jobfac api") as db:
        db.check_schema()
        server = Server(db, found, behind_proxy=behind_proxy)
        on_signal(lambda first: server.stop())
        server.run()


def up(
    slots: Slots = None,
    pool: Pools = None,
    label: Labels = None,
    name: Name = None,
    max_cpu_pressure: Pressure = None,
    min_free_memory: Memory = None,
    host: Host = None,
    port: Port = None,
    metrics: Metrics = None,
) -> None:
    """All roles in one process, on the configured database; SQLite's schema is made or upgraded."""
    from jobfac.api import Server
    from jobfac.scheduler import Scheduler
    from jobfac.settings import worker_name

    found = _role(api_host=host, api_port=port, metrics=metrics, **_limits(max_cpu_pressure, min_free_memory))
    with database(f"jobfac up {name or worker_name()}") as db, ExitStack() as measured:
        if db.dialect.name == "sqlite":
            db.upgrade()
        db.check_schema()
        one = _worker(db, found, slots, pool, label, name)
        roles: list[Any] = [Scheduler(db, found, one.name), Server(db, found)]
        measured.enter_context(_measured(db, found, one, roles[0]))
        failures: list[BaseException] = []

        def play(role: Any) -> None:
            try:
                role.run()
            except Exception as error:
                failures.append(error)
                one.drain(0.0)

        threads = [threading.Thread(target=play, args=(role,), name=type(role).__name__.lower()) for role in roles]
        on_signal(_drains(one, found))
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


def _drains(one: "Worker", found: "Settings") -> Callable[[bool], None]:
    """What a signal does: drain the worker, and say on standard error what it waits for."""

    def act(first: bool) -> None:
        one.drain(None if first else 0.0)
        _announce(stop_sentence(one.running, found.drain_limit, first), found)

    return act


def stop_sentence(running: int, limit: float, first: bool) -> str:
    """What a worker that is to stop waits for, how long, and what a second signal does.

    Args:
        running: programs that run.
        limit: seconds that they have.
        first: this is the first signal.
    """
    from jobfac.definitions import write_duration

    if not running:
        return "Stopping: no program runs."
    programs = "1 program runs" if running == 1 else f"{running} programs run"
    if not first:
        return f"Stopping at once: {programs} and will be stopped; restartable runs go back into the queue."
    return (
        f"Stopping: {programs}; waiting up to {write_duration(limit)}, then restartable runs go back into the queue. "
        "Press Ctrl-C again (or send a second signal) to stop without waiting."
    )


def _announce(sentence: str, found: "Settings") -> None:
    """Write a sentence to standard error, in the form of the log; from a signal handler, which may have interrupted the
    log in the midst of a line's buffer, so past all buffers."""
    import json
    import os
    import sys
    from datetime import UTC, datetime

    if (found.log_format or ("text" if sys.stderr.isatty() else "json")) == "json":
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        sentence = json.dumps(
            {"event": sentence, "action": "stop_requested", "level": "info", "timestamp": now}, ensure_ascii=False
        )
    with suppress(OSError):  # nobody reads it any more
        os.write(2, f"{sentence}\n".encode())


def _measured(db: "Database", found: "Settings", *roles: Any) -> AbstractContextManager[object]:
    """Meanwhile the metrics of these roles are served, where the settings say so."""
    if not found.metrics:
        return nullcontext()
    from jobfac.telemetry.exporter import Exporter

    return Exporter(found.metrics, db, [role.metrics for role in roles])


def _limits(pressure: float | None, memory: str | None) -> dict[str, Any]:
    """The settings of ``--max-cpu-pressure`` and ``--min-free-memory``."""
    from jobfac.definitions.values import read_size

    try:
        size = None if memory is None else read_size(memory)
    except ValueError as error:
        fail(USAGE, f"--min-free-memory {error}.")
    return {"max_cpu_pressure": pressure, "min_free_memory": size}


def _role(**overrides: Any) -> "Settings":
    """The settings of a role, and its log set up."""
    from jobfac.telemetry.logs import configure

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

    from jobfac.database.types import truncate_utf16
    from jobfac.definitions.values import read_id
    from jobfac.programs import unignore_signals
    from jobfac.settings import worker_name
    from jobfac.worker import Worker

    for pool in pools or []:
        try:
            read_id(pool)
        except ValueError as error:
            fail(USAGE, f"--pool {error}.")
    pairs = dict(label.partition("=")[::2] for label in labels or [])
    for label in labels or []:
        if not all(label.partition("=")[::2]):
            fail(USAGE, f"--label must be K=V, such as zone=a, not '{label}'.")
    if name and name != truncate_utf16(name, 200):
        fail(USAGE, f"--name must have at most 200 characters, not {len(name)}.")
    unignore_signals()
    return Worker(
        db,
        found,
        name=name or worker_name(),
        slots=slots or 2 * (os.cpu_count() or 1),
        pools=pools or ["default"],
        labels=pairs,
    )
