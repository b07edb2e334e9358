"""The server's process: ``python -m tests.tds_server.server DSN [RULE]...``

It prints one line of JSON when it is ready, ``{"port": ..., "control": ...}``, and ends when its standard input does.
The control port takes lines of JSON and answers each with one:

    {"faults": ["error 1205 every 50", ...], "seed": 1}    the script in force from now on (see faults)
    {"stats": true}         round trips by program and by process id, logins, open connections, rules
    {"reset": true}         sets the counts to zero
    {"cut": ""}             cuts the connections of the programs whose name contains the text (all: "")
    {"failover": 3}         cuts all, and refuses for that many seconds
    {"refuse": true}        refuses new connections until it is false
    {"stall": 2.5}          answers no client for that many seconds
    {"declarations": true}  texts that came with more than one declaration of their parameters, by one program
    {"declared": "regex"}   texts that match, with the declarations of their parameters
    {"keep": "database"}    keeps its connections to PostgreSQL for the next sessions
    {"quiet": "database"}   cuts its connections; answers whether all of them have ended
    {"forget": "database"}  ends what "keep" began, before the database is dropped
    {"capture": "dir"}      writes every distinct text of T-SQL into that directory (null: ends it)

``JOBFAC_TDS_CAPTURE`` names such a directory from the start.
"""

import contextlib
import gc
import hashlib
import itertools
import json
import logging
import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from pysqlbridge.certificate import self_signed, server_context

from tests.tds_server.errors import CancelledError, SqlError, standard
from tests.tds_server.faults import LOGIN, Event, Rule, Script
from tests.tds_server.protocol import Conversation
from tests.tds_server.session.backends import Backends
from tests.tds_server.session.executor import Session
from tests.tds_server.session.storage import Storage
from tests.tds_server.wire import login, tokens, transport
from tests.tds_server.wire.transport import Transport

log = logging.getLogger(__name__)
DEFAULT_DATABASE = "jobfac"
ENCRYPTED_LOGINS = 10
"""SQL Server encrypts each login. This server encrypts one of so many: that is half the cost of a connection."""


class Server:
    """The state that all connections share."""

    def __init__(self, dsn: str, rules: list[str], capture: str | None) -> None:
        self.backends = Backends(dsn)
        self.present: Counter[str] = Counter()  # sessions by database, from the first to the last moment
        self.tls = server_context(self_signed("localhost"))
        self.script = Script(rules)
        self.capture = capture
        self.connections: dict[int, Client] = {}
        self.round_trips: Counter[str] = Counter()
        self.round_trips_by_process: Counter[int] = Counter()
        self.busy_by_process: Counter[int] = Counter()
        self.logins: Counter[str] = Counter()
        self.refused_until = 0.0
        self.stalled_until = 0.0
        self.lock = threading.Lock()
        self.arrivals = itertools.count()
        self._captured: set[str] = set()
        self.declared: dict[tuple[str, str], set[str]] = {}

    def matching(self, event: Event) -> list[Rule]:
        with self.lock:
            return self.script.matching(event)

    def record(self, text: str, declarations: str) -> None:
        """Write a text to the capture directory once. Its first declarations of parameters are a comment in the first
        line.
        """
        if self.capture is None:
            return
        content = f"-- {declarations}\n{text}\n" if declarations else f"{text}\n"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        if digest not in self._captured:
            self._captured.add(digest)
            Path(self.capture).mkdir(parents=True, exist_ok=True)
            Path(self.capture, f"{digest}.sql").write_text(content, encoding="utf-8")

    def cut(self, program: str = "", but: "Client | None" = None) -> int:
        """Cut connections; returns how many."""
        with self.lock:
            found = [one for one in self.connections.values() if program in one.program and one is not but]
        for client in found:
            client.cut()
        return len(found)

    def quiet(self, database: str) -> bool:
        """Cut the connections to a database; returns whether they have ended within some seconds."""
        until = time.monotonic() + 5
        while self.present[database] and time.monotonic() < until:
            with self.lock:
                found = [one for one in self.connections.values() if one.database == database]
            for client in found:
                client.cut()
            time.sleep(0.001)
        return not self.present[database]

    def failover(self, seconds: float, at: "Client | None" = None) -> int:
        """Cut all connections and refuse logins for ``seconds``.

        ``at``: the connection whose request triggered the failover. It ends last, with an error.
        """
        self.refused_until = time.monotonic() + seconds
        return self.cut(but=at)

    def stats(self) -> dict[str, Any]:
        with self.lock:
            return {
                "round_trips": sum(self.round_trips.values()),
                "by_program": dict(self.round_trips),
                "by_process": dict(self.round_trips_by_process),
                "busy_by_process": {process: busy / 1e6 for process, busy in self.busy_by_process.items()},
                "logins": dict(self.logins),
                "connections": len(self.connections),
                "faults": [{"rule": rule.line, "seen": rule.seen, "fired": rule.fired} for rule in self.script.rules],
            }

    def control(self, command: dict[str, Any]) -> dict[str, Any]:
        """Execute a command of the control port; an unknown command is answered with an error."""
        match command:
            case {"faults": list(rules)}:
                self.script = Script(rules, command.get("seed", 0))
            case {"stats": _}:
                return self.stats()
            case {"reset": _}:
                with self.lock:
                    self.round_trips.clear()
                    self.round_trips_by_process.clear()
                    self.busy_by_process.clear()
                    self.logins.clear()
            case {"cut": str(program)}:
                return {"cut": self.cut(program)}
            case {"failover": int() | float() as seconds}:
                return {"cut": self.failover(seconds)}
            case {"refuse": bool(refuse)}:
                self.refused_until = float("inf") if refuse else 0.0
            case {"stall": int() | float() as seconds}:
                self.stalled_until = time.monotonic() + seconds
            case {"keep": str(database)}:
                self.backends.keep(database)
            case {"quiet": str(database)}:
                return {"quiet": self.quiet(database)}
            case {"forget": str(database)}:
                self.backends.forget(database)
            case {"declarations": _}:
                return {"texts": [[text, sorted(made)] for (_, text), made in self.declared.items() if len(made) > 1]}
            case {"declared": str(pattern)}:
                found = [[text, sorted(made)] for (_, text), made in self.declared.items() if re.search(pattern, text)]
                return {"texts": found}
            case {"capture": directory}:
                self.capture = directory
                self._captured.clear()
            case _:
                return {"error": f"unknown command: {command}"}
        return {"ok": True}


class Client:
    """One connection from accept to close."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self.server = server
        self.socket = connection
        self.wire = Transport(connection)
        self.program = ""
        self.process = 0
        self.database = ""
        self._dropped_after: list[Rule] = []
        self._requested_at = 0
        self._storage: Storage | None = None

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Log in and answer requests until the client disconnects."""
        request = login.receive(self.wire, self.server.tls, next(self.server.arrivals) % ENCRYPTED_LOGINS == 0)
        self.program, self.process = request.program, request.process
        self.database = request.database or DEFAULT_DATABASE
        with self.server.lock:
            self.server.present[self.database] += 1
        try:
            self._converse(request)
        finally:
            with self.server.lock:
                self.server.present[self.database] -= 1

    def _converse(self, request: login.Login) -> None:
        try:
            self._inject(Event(LOGIN, request.database, request.program))
            self._storage = self._open(request)
        except SqlError as error:
            login.refuse(self.wire, error.number, str(error))
            return
        try:
            with self.server.lock:
                self.server.connections[id(self)] = self
                self.server.logins[self.program] += 1
            login.accept(self.wire, self.database, request.packet_size)
            Conversation(self.wire, Session(self._storage), self).run()
        finally:
            with self.server.lock:
                self.server.connections.pop(id(self), None)
            self.server.backends.give(self.database, self._storage.connection)

    def _open(self, request: login.Login) -> Storage:
        if (request.user, request.password) != (login.USER, login.PASSWORD):
            raise SqlError(18456, f"Login failed for user '{request.user}'.", 14)
        try:
            return Storage(self.server.backends.take(self.database), self.wire.interrupted)
        except psycopg.OperationalError:
            text = f'Cannot open database "{self.database}" requested by the login. The login failed.'
            raise SqlError(4060, text, 11) from None

    # The methods of ``protocol.Watcher``

    def request(self, text: str, kind: str) -> None:
        with self.server.lock:
            self.server.round_trips[self.program] += 1
            self.server.round_trips_by_process[self.process] += 1
        # A request that waits for work is not delayed by this server.
        self._requested_at = 0 if "WAITFOR" in text else time.perf_counter_ns() // 1000
        self._pause(self.server.stalled_until - time.monotonic())
        self._dropped_after = []
        self._inject(Event(kind, text, self.program))

    def answered(self) -> None:
        if self._requested_at:
            with self.server.lock:
                self.server.busy_by_process[self.process] += time.perf_counter_ns() // 1000 - self._requested_at
        if self._dropped_after:
            raise ConnectionError("a fault rule drops the connection after its work")

    def record(self, text: str, declarations: str) -> None:
        if declarations:
            with self.server.lock:
                self.server.declared.setdefault((self.program, text), set()).add(declarations)
        self.server.record(text, declarations)

    def _inject(self, event: Event) -> None:
        for rule in self.server.matching(event):
            match rule.action:
                case "error":
                    raise standard(int(rule.value))
                case "stall":
                    self._pause(rule.value)
                case "silence":
                    self._pause(rule.value, ignore_cancel=True)
                case "drop before":
                    raise ConnectionError("a fault rule drops the connection")
                case "drop after":
                    self._dropped_after.append(rule)
                case "kill":
                    # Sources: [MS-TDS] DONE, DONE_ERROR and DONE_SRVERROR; microsoft/mssql-jdbc issue 1846.
                    self.wire.write(transport.ANSWER, tokens.done(tokens.DONE, tokens.ERROR | tokens.SERVER_ERROR))
                    raise ConnectionError("a fault rule has the session killed")
                case "failover":
                    self.server.failover(rule.value, self)
                    raise ConnectionError("a fault rule has the server fail over")

    def _pause(self, seconds: float, ignore_cancel: bool = False) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.wire.interrupted() and not ignore_cancel:
                raise CancelledError
            time.sleep(min(left, 0.02))


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: Server) -> None:
        self.shared = server
        super().__init__(("127.0.0.1", 0), ClientHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return time.monotonic() >= self.shared.refused_until


class ClientHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            Client(self.server.shared, self.request).serve()  # type: ignore[attr-defined]
        except OSError:
            pass  # the client disconnected or was cut off
        except Exception:
            log.exception("a connection ended by an error of the test server's own")


class Control(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, server: Server) -> None:
        self.shared = server
        super().__init__(("127.0.0.1", 0), ControlHandler)


class ControlHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            try:
                answer = self.server.shared.control(json.loads(line))  # type: ignore[attr-defined]
            except ValueError as error:
                answer = {"error": str(error)}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # psycopg warns of every error in a pipeline
    dsn, *rules = sys.argv[1:]
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # parse trees are many objects, and live as long as the server
    server = Server(dsn, rules, os.environ.get("JOBFAC_TDS_CAPTURE"))
    with Listener(server) as listener, Control(server) as control:
        for part in (listener, control):
            threading.Thread(target=part.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()
        ports = {"port": listener.server_address[1], "control": control.server_address[1]}
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.cut()


if __name__ == "__main__":
    main()
