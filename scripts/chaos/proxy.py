"""A TCP proxy in front of a server that can cut all connections for a while."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 65536


class Proxy:
    """Passes every connection on to ``target`` (host and port). ``port``: where it listens, on 127.0.0.1."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept_forever, name="proxy", daemon=True).start()

    def cut(self, seconds: float) -> None:
        """Close all connections, and refuse new ones for some seconds."""
        with self._lock:
            self._is_cut = True
        self.kill()
        time.sleep(seconds)
        with self._lock:
            self._is_cut = False

    def kill(self) -> None:
        """Close all connections."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._listener.close()
        self.kill()

    def _accept_forever(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            self._registered(client),
            socket.create_connection(self._target, timeout=10) as server,
            self._registered(server),
        ):
            server.settimeout(None)
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()

    @contextmanager
    def _registered(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._is_cut:
                raise ConnectionAbortedError
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until either side closes; then close both directions of the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for connection in (source, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
