"""The roles: `worker`, `scheduler` and `api`, and `up`, which runs all of them."""

import gc
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli.common import REFUSED, USAGE, caller, fail, role_database, settings, upgrade_file
from jobfac.cli.signals import on_signal, run_in_thread
from jobfac.control_characters import check_name
from jobfac.errors import DatabaseDamaged, Kind

if TYPE_CHECKING:
    from jobfac.api import Server
    from jobfac.database.engine import Database
    from jobfac.settings import Settings
    from jobfac.worker import Worker


Slots = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Programs that run at once; default: twice the processors.")
]
Pools = Annotated[
    list[str] | None,
    typer.Option("--pool", help="Claim runs of this pool; may be repeated.", autocompletion=completion.pools),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="K=V", help="A label of this worker; may be repeated.")
]
Name = Annotated[str | None, typer.Option(help="The name of the worker; default: host and process id.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
BehindProxy = Annotated[
    bool, typer.Option("--behind-proxy", help="A proxy terminates TLS: allow any address without TLS.")
]
Metrics = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus here; default: not served.")
]
Pressure = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        metavar="PERCENT",
        help="Claim nothing above this CPU pressure; default: no limit.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Claim nothing below this much free memory, such as 2GiB; default: no limit."),
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
    """Claim and execute runs until TERM or INT. The first signal drains the worker, a second one stops at once."""
    from jobfac.cli.without_asyncio import import_sqlalchemy
    from jobfac.settings import worker_name

    loaded = _executing(metrics=metrics, **_limits(max_cpu_pressure, min_free_memory))
    import_sqlalchemy(loaded.database_url)  # before the imports that follow
    from jobfac.worker import lock_wait

    with role_database(loaded, f"jobfac worker {name or worker_name()}", lock_wait(loaded)) as db:
        role = _worker(db, loaded, slots, pool, label, name)
        with _exporter(db, loaded, role):
            on_signal(_drain_on_signal(role, loaded))
            run_in_thread(role.run)


def scheduler(metrics: Metrics = None) -> None:
    """Insert due runs, expire dead workers, notify, purge. Several may run side by side."""
    from jobfac.scheduler import Scheduler
    from jobfac.settings import worker_name
    from jobfac.worker import lock_wait

    loaded = _configured(metrics=metrics)
    with role_database(loaded, f"jobfac scheduler {worker_name()}", min(3.0, lock_wait(loaded))) as db:
        role = Scheduler(db, loaded, worker_name())
        with _exporter(db, loaded, role):
            on_signal(lambda first: role.stop())
            run_in_thread(role.run)


def api(
    host: Host = None,
    port: Port = None,
    behind_proxy: BehindProxy = False,
) -> None:
    """Serve the pages and the HTTP API."""
    from jobfac.api import LOCK_WAIT, Server
    from jobfac.web import site

    loaded = _configured(api_host=host, api_port=port)
    with role_database(loaded, "jobfac api", LOCK_WAIT) as db:
        db.check_schema()
        server = Server(db, loaded, behind_proxy=behind_proxy, site=site())
        server.when_stuck(_end_at_once)
        on_signal(lambda first: server.stop())
        # What was imported lives as long as the process, so a full collection, which delays a page, skips it.
        gc.freeze()
        server.run()


def _end_at_once() -> None:
    """End an API that is stuck, so that its service manager starts it again. Nothing is lost: it keeps no state."""
    os._exit(Kind.UNAVAILABLE.exit_code)


def up(
    slots: Slots = None,
    pool: Pools = None,
    label: Labels = None,
    name: Name = None,
    max_cpu_pressure: Pressure = None,
    min_free_memory: Memory = None,
    host: Host = None,
    port: Port = None,
    behind_proxy: BehindProxy = False,
    metrics: Metrics = None,
) -> None:
    """Run all roles in one process on the configured database. On SQLite it also upgrades the schema.

    Where there is no SQLite file it makes a new, empty one and logs a warning.
    """
    from jobfac.api import Server
    from jobfac.scheduler import Scheduler
    from jobfac.settings import worker_name
    from jobfac.web import site
    from jobfac.worker import lock_wait

    loaded = _executing(api_host=host, api_port=port, metrics=metrics, **_limits(max_cpu_pressure, min_free_memory))
    upgrade_file(loaded)
    with role_database(loaded, f"jobfac up {name or worker_name()}", lock_wait(loaded)) as db, ExitStack() as exporters:
        db.check_schema()
        worker_role = _worker(db, loaded, slots, pool, label, name)
        roles: list[Any] = [Scheduler(db, loaded, worker_role.name), Server(db, loaded, behind_proxy, site())]
        exporters.enter_context(_exporter(db, loaded, worker_role, roles[0]))
        failures: list[BaseException] = []

        def run(role: Any) -> None:
            try:
                role.run()
            except Exception as error:
                failures.append(error)
                worker_role.drain(None if isinstance(error, DatabaseDamaged) else 0.0)

        threads = [_thread(run, role) for role in roles]
        on_signal(_drain_on_signal(worker_role, loaded))
        try:
            _begin(threads)
            _say(f"The factory is up: {roles[1].link(caller())}")
            run_in_thread(worker_role.run)
        finally:
            for role in roles:
                role.stop()
            _join(threads, roles[1])
        if failures:
            raise failures[0]


def _thread(run: Callable[[Any], None], role: Any) -> threading.Thread:
    # A daemon, so that a role that is stuck does not keep the process.
    return threading.Thread(target=run, args=(role,), name=type(role).__name__.lower(), daemon=True)


def _join(threads: Sequence[threading.Thread], api: "Server") -> None:
    """Wait until the scheduler and the API have ended. An API that is stuck never does."""
    scheduler, server = threads
    while scheduler.is_alive():
        scheduler.join(1.0)
    while server.is_alive() and not api.is_stuck:
        server.join(1.0)


def _begin(threads: Sequence[threading.Thread]) -> None:
    gc.freeze()  # as in ``api``
    for thread in threads:
        thread.start()


def _drain_on_signal(worker: "Worker", loaded: "Settings") -> Callable[[bool], None]:
    """Return a signal handler that drains the worker and prints what it waits for."""

    def drain(first: bool) -> None:
        running = worker.running  # before the worker's thread stops them
        sentence = stop_sentence(running, worker.unstored, loaded.drain_limit, first)
        worker.drain(None if first else 0.0, gives_up=not first)
        _announce(sentence, loaded)

    return drain


def stop_sentence(running: int, unstored: int, limit: float, first: bool) -> str:
    """Return the message of a worker that received a signal.

    Args:
        running: the number of running programs.
        unstored: the number of outcomes that wait for the database.
        limit: seconds that they have to end.
        first: whether it is the first signal.
    """
    from jobfac.definitions import write_duration

    if not running and not unstored:
        return "Stopping: no program runs."
    again = "Press Ctrl-C again (or send a second signal) to stop without waiting"
    if not running:
        wait, whose = ("1 outcome waits", "its run") if unstored == 1 else (f"{unstored} outcomes wait", "their runs")
        if first:
            return f"Stopping: {wait} for the database. {again}; then {whose} may be executed again."
        return (
            f"Stopping at once: {wait} for the database. What it does not store now is lost, and such a run may be "
            "executed again."
        )
    programs = "1 program runs" if running == 1 else f"{running} programs run"
    if not first:
        return f"Stopping at once: {programs} and will be stopped; restartable runs go back into the queue."
    return (
        f"Stopping: {programs}; waiting up to {write_duration(limit)}, then restartable runs go back into the queue. "
        f"{again}."
    )


def _announce(sentence: str, loaded: "Settings") -> None:
    """Write a line in the form of the log to standard error, unless nobody reads it. Runs in a signal handler."""
    import json
    import sys
    from datetime import UTC, datetime

    if (loaded.log_format or ("text" if sys.stderr.isatty() else "json")) == "json":
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        sentence = json.dumps(
            {"timestamp": now, "level": "info", "event": sentence, "action": "stop_requested"}, ensure_ascii=False
        )
    _say(sentence)


def _say(sentence: str) -> None:
    """Write a line to standard error, unless nobody reads it.

    A signal handler, which calls this, may have interrupted a write to a buffer, so it writes to the descriptor. A main
    thread that waited for a reader here would never end.
    """
    import select

    poll = select.poll()
    poll.register(2, select.POLLOUT)
    with suppress(OSError):  # the reader has closed the pipe, the terminal is gone, or the disk of the log is full
        if poll.poll(0):
            os.write(2, f"{sentence}\n".encode())


def _exporter(db: "Database", loaded: "Settings", *roles: Any) -> AbstractContextManager[object]:
    """Return a context that serves the metrics of these roles, if the settings name an address."""
    if not loaded.metrics:
        return nullcontext()
    from jobfac.telemetry.exporter import Exporter

    return Exporter(loaded.metrics, db, [role.metrics for role in roles])


def _limits(pressure: float | None, memory: str | None) -> dict[str, Any]:
    """The settings of ``--max-cpu-pressure`` and ``--min-free-memory``."""
    from jobfac.definitions.values import read_size

    try:
        size = None if memory is None else read_size(memory)
    except ValueError as error:
        fail(USAGE, f"--min-free-memory {error}.")
    return {"max_cpu_pressure": pressure, "min_free_memory": size}


def _configured(**overrides: Any) -> "Settings":
    """Load the settings of a role and configure its log."""
    from jobfac.machine.marks import unmark
    from jobfac.telemetry.logs import configure

    unmark()
    loaded = settings(**overrides)
    configure(loaded)
    return loaded


def _executing(**overrides: Any) -> "Settings":
    """Do what ``_configured`` does, for a role that runs programs. Fails if another user decides which ones."""
    from jobfac.settings import sqlite_path
    from jobfac.settings.ownership import database_fault

    loaded = _configured(**overrides)
    path = sqlite_path(loaded.database_url)
    if path is not None and (fault := database_fault(path)) is not None:
        fail(REFUSED, fault)
    return loaded


def _worker(
    db: "Database",
    loaded: "Settings",
    slots: int | None,
    pools: list[str] | None,
    labels: list[str] | None,
    name: str | None,
) -> "Worker":
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
    try:
        check_name(name or "")
    except ValueError as error:
        fail(USAGE, f"--name {error}.")
    if name and name != truncate_utf16(name, 200):
        fail(USAGE, f"--name must have at most 200 characters, not {len(name)}.")
    unignore_signals()
    return Worker(
        db,
        loaded,
        name=name or worker_name(),
        slots=slots or 2 * (os.cpu_count() or 1),
        pools=pools or ["default"],
        labels=pairs,
    )
