"""Start PostgreSQL and the server for tests, return URLs for both drivers, and use the control port."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mssql_python_odbc
from sqlalchemy import URL

from tests.tds_server import postgres
from tests.tds_server.wire import login

DRIVERS = ("pyodbc", "mssqlpython")


def odbc_driver() -> str:
    """Return the path of Microsoft's ODBC driver for this machine. Raises FileNotFoundError if it is missing."""
    found = sorted(Path(mssql_python_odbc.get_libs_dir()).glob("linux/debian_ubuntu/*/lib/libmsodbcsql-18*.so*"))
    for path in found:
        if os.uname().machine in path.parts or len(found) == 1:
            return str(path)
    raise FileNotFoundError("Microsoft's ODBC driver was not found: install mssql-python-odbc")


def url(port: int, driver: str, database: str = "jobfac", program: str = "", encrypt: str = "no") -> URL:
    """Return SQLAlchemy's URL for one of ``DRIVERS``. Round trips are counted by ``program``."""
    options = {"Encrypt": encrypt, "TrustServerCertificate": "yes"}
    if driver == "pyodbc":
        options["driver"] = odbc_driver()
        if program:
            options["APP"] = program
    return URL.create(
        f"mssql+{driver}", login.USER, login.PASSWORD, "127.0.0.1", port, database=database, query=options
    )


@dataclass
class TestServer:
    """A running server. ``port`` is for clients; the methods use its control port."""

    __test__ = False

    port: int
    dsn: str
    _control: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def command(self, **command: Any) -> dict[str, Any]:
        """Execute a command of the control port (see ``server``). Any thread may call it.

        Raises:
            ValueError: the server refuses it.
        """
        with self._lock:  # an answer does not say to which command it belongs
            received = self._ask(command)
        answer: dict[str, Any] = json.loads(received)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def _ask(self, command: dict[str, Any]) -> bytes:
        self._control.sendall(json.dumps(command).encode() + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            chunk = self._control.recv(65536)
            if not chunk:
                raise ConnectionError("the test server's control port is closed")
            received += chunk
        return received

    def faults(self, *rules: str, seed: int = 0) -> None:
        """The rules in force from now on; none ends them."""
        self.command(faults=list(rules), seed=seed)

    def stats(self) -> dict[str, Any]:
        """Return the counts since the last reset, and the rules.

        Keys: ``round_trips``, ``by_program``, ``by_process`` (by process id as text), ``busy_by_process`` (seconds from
        a request
        until its answer is ready, without waits for work), ``logins`` (by program), ``connections`` (open now),
        ``faults``
        (``rule``, ``seen``, ``fired``).
        """
        return self.command(stats=True)

    @contextlib.contextmanager
    def database(self, name: str, template: str = postgres.TEMPLATE) -> Iterator[str]:
        """Create a database that is dropped at the end. ``template``: the database to copy, which must have no
        connections.
        """
        postgres.create_database(self.dsn, name, template)
        try:
            yield name
        finally:
            postgres.drop_database(self.dsn, name)


def batches(script: str) -> list[str]:
    """Split a script for sqlcmd into its batches, at the lines that contain GO."""
    return [part for part in re.split(r"(?im)^[ \t]*GO[ \t]*;?[ \t]*$", script) if part.strip()]


@contextlib.contextmanager
def serving(dsn: str, rules: Sequence[str] = (), capture: Path | None = None) -> Iterator[TestServer]:
    """Run the server in a separate process on a PostgreSQL that is already running."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if capture is not None:
        environment["JOBFAC_TDS_CAPTURE"] = str(capture)
    command = [sys.executable, "-m", "tests.tds_server.server", dsn, *rules]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", ports["control"])) as control:
                yield TestServer(ports["port"], dsn, control)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def running() -> Iterator[TestServer]:
    """Run PostgreSQL and the server."""
    with postgres.running() as dsn, serving(dsn) as server:
        yield server
