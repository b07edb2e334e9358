"""The API on a real port for tests, with a key and a client for each role."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import httpx

from jobfac.api import Server
from jobfac.database.engine import Database
from jobfac.settings import Settings
from jobfac.store import api_keys
from jobfac.store.api_keys import Role
from jobfac.web import site
from jobfac.worker import Worker
from tests.support.factory import wait_for

NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of a server without TLS: to load all authorities takes longer than most requests."""


class Served:
    """A running server. It closes all its clients at the end."""

    def __init__(self, db: Database, settings: Settings, behind_proxy: bool = False) -> None:
        self.db = db
        self.settings = settings
        self.server = Server(db, settings, behind_proxy, site())
        self.url = self.server.url
        self.keys = {role: self.key(role) for role in Role}
        self._stack = ExitStack()
        self._thread = threading.Thread(target=self.server.run, name="api", daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        self.viewer, self.operator, self.admin = (self.client(self.keys[role]) for role in Role)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self.server.stop()
        self._thread.join()

    def key(self, role: Role, categories: Sequence[str] | None = None, lifetime: float | None = None) -> str:
        """Create a key with this role."""
        return self.db.transact(api_keys.create, str(role), role, "tests", categories, lifetime).key

    def client(self, key: str | None, **options: Any) -> httpx.Client:
        """A client with this key."""
        headers = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **options.pop("headers", {})}
        options = {"verify": NO_AUTHORITIES, "timeout": 30, **options}
        return self._stack.enter_context(httpx.Client(base_url=self.url, headers=headers, **options))

    def define(self, job: str, **definition: Any) -> None:
        """Define a job."""
        answer = self.admin.put(f"/v1/jobs/{job}", json={"command": ["true"], **definition})
        assert answer.is_success, answer.text

    def start(self, job: str, **body: Any) -> int:
        """Start a job; returns the run id."""
        answer = self.operator.post(f"/v1/jobs/{job}/runs", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    @contextmanager
    def worker(self, slots: int = 4) -> Iterator[Worker]:
        """Start a worker in this process and wait until it is registered. It is drained at the end of the block."""
        worker = Worker(self.db, self.settings, name="w1", slots=slots)
        thread = threading.Thread(target=worker.run, name="worker", daemon=True)
        thread.start()
        try:
            wait_for(lambda: self.viewer.get("/v1/workers").json()["items"], "the worker is registered")
            yield worker
        finally:
            worker.drain(0.0)
            thread.join()


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the server-sent events of a stream, each with `event`, `data` and an optional `id`. Skips comments."""
    found: dict[str, str] = {}
    for line in lines:
        if not line and found:
            yield found
            found = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value
