"""Slow clients of the API: they send headers and bodies byte by byte, or read nothing of what they asked for."""

import contextlib
import http.client
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Callable

NUMBER = 120
"""Connections of one fault. The API of a chaos run takes fewer (``CONNECTIONS``)."""

CONNECTIONS = 60

PATIENCE = 30.0
"""Seconds within which the API must answer others meanwhile."""


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Clients:
    """Clients of one API. ``refused``: one sentence for each time that the API did not answer others."""

    def __init__(self, port: int, key: str, seed: float) -> None:
        self.refused: list[str] = []
        self._port = port
        self._key = key
        self._chance = random.Random(seed)

    def press(self, seconds: float, is_alive: Callable[[], bool]) -> None:
        """Occupy the API for so long, in a thread. ``is_alive``: whether its process is still alive."""
        threading.Thread(target=self._press, args=(seconds, is_alive), daemon=True).start()

    def _answers(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            url = f"http://127.0.0.1:{self._port}/healthz"
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(url, timeout=left) as answer,
            ):
                if answer.status == 200:
                    return True
            time.sleep(0.2)
        return False

    def _check(self, is_alive: Callable[[], bool]) -> None:
        """Record it if the API does not answer within ``PATIENCE``, although nobody has killed it."""
        if not self._answers(PATIENCE) and is_alive():
            self.refused.append(f"beside {NUMBER} slow clients the API did not answer within {PATIENCE:.0f} s")

    def _press(self, seconds: float, is_alive: Callable[[], bool]) -> None:
        if not self._answers(PATIENCE):  # it is starting
            return
        end = time.monotonic() + seconds
        with contextlib.ExitStack() as opened:
            connections = [one for _ in range(NUMBER) if (one := self._connect()) is not None]
            for one in connections:
                opened.enter_context(one)
            checking = threading.Thread(target=self._check, args=(is_alive,), daemon=True)
            checking.start()
            while time.monotonic() < end or checking.is_alive():
                for one in connections:
                    with contextlib.suppress(OSError):  # the API has closed it
                        one.send(b"a")
                time.sleep(0.5)

    def _connect(self) -> socket.socket | None:
        head = f"Host: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._key}\r\n"
        begin = self._chance.choice(
            [
                "GET /v1/run",
                f"GET /v1/events?after=0 HTTP/1.1\r\n{head}Accept: text/event-stream\r\n\r\n",
                f"GET /v1/runs?limit=1000 HTTP/1.1\r\n{head}\r\n" * 20,
                f"POST /v1/runs:stop HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 99999\r\n\r\n",
            ]
        )
        try:
            one = socket.create_connection(("127.0.0.1", self._port), 2.0)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            one.send(begin.encode())
        except OSError:
            return None
        return one
