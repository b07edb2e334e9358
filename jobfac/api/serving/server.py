"""The API role: listen, serve, stop."""

import errno
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from jobfac.api.app import Site, create_app
from jobfac.api.serving.connections import BATCH, LimitedListener, connection_limit, protocol
from jobfac.api.serving.guard import LOOPBACK
from jobfac.api.serving.loop_watch import LoopWatch
from jobfac.api.single_sign_on import SingleSignOn
from jobfac.database.engine import Database
from jobfac.errors import DatabaseReplaced, NotReady
from jobfac.settings import Settings, SettingsError
from jobfac.telemetry.log_throttle import OncePerMinute
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

SHUTDOWN_TIMEOUT = 10
"""Seconds that requests have to finish when the server stops."""

BACKLOG = 2048
"""The maximum number of connections that wait in the kernel to be accepted."""

KEEP_ALIVE = 75
"""Seconds until an idle connection is closed: longer than clients keep theirs, so that no client sends a request into a
connection that is being closed. Proxies and load balancers usually keep theirs for 60 s."""


class Server:
    """Listens from its creation on; serves in ``run`` until ``stop``."""

    def __init__(self, db: Database, settings: Settings, behind_proxy: bool = False, site: Site | None = None) -> None:
        """Listen on the configured address and port (0: any free port).

        Args:
            behind_proxy: a proxy terminates TLS and sets X-Forwarded-For, and clients cannot bypass it. The setting
                ``api_proxy_hops`` says how many proxies a request passes.
            site: the pages; None: it serves the API alone.

        Raises:
            NotReady: the address is in use or not there, or the certificate cannot be used.
            SettingsError: the address needs TLS, or a setting of the proxy cannot be used.
        """
        host, certificate = settings.api_host, settings.api_tls_certificate
        local = is_loopback(host)
        if not (local or certificate or behind_proxy):
            raise SettingsError(
                f"The API does not listen on {host} without TLS, since keys would cross the network in the clear: set "
                "api_tls_certificate and api_tls_key, or use --behind-proxy if a proxy terminates TLS."
            )
        single_sign_on = SingleSignOn(settings)
        connections = connection_limit(settings.api_connections)
        self._socket = _listen(host, settings.api_port, connections)
        self.connections = self._socket.connections
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if certificate else 'http'}://{shown}:{self.port}"
        here = self.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        is_public = settings.public_url and (behind_proxy or not local)
        self._browsed = settings.public_url.rstrip("/") if is_public else here
        self.app = create_app(
            db,
            hosts={*LOOPBACK, host} if local and not behind_proxy else None,
            hops=settings.api_proxy_hops if behind_proxy else 0,
            connections=connections,
            site=site,
            single_sign_on=single_sign_on,
            public_url=settings.public_url,
        )
        config = self._config(settings)
        try:
            config.load()
        except OSError as error:  # the base class of ssl.SSLError
            self._socket.close()
            raise NotReady(
                f"api_tls_certificate ({certificate}) or api_tls_key ({settings.api_tls_key}) cannot be used: {error}."
            ) from None
        self._server = _Uvicorn(config, db)
        for name in ("uvicorn.error", "asyncio"):  # clients can cause any number of their log lines
            if not any(isinstance(known, OncePerMinute) for known in logging.getLogger(name).filters):
                logging.getLogger(name).addFilter(OncePerMinute())

    def _config(self, settings: Settings) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            loop="asyncio",
            http=protocol(self.connections),
            ws="none",
            backlog=BATCH,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=settings.api_tls_certificate or None,
            ssl_keyfile=settings.api_tls_key or None,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
            timeout_keep_alive=KEEP_ALIVE,
        )

    def link(self, name: str) -> str:
        """Create a link that logs one browser in, once, as the administrator ``name``.

        It begins with the setting ``public_url``. Without it, or on a loopback address without a proxy, it is for
        browsers on this machine.
        """
        return f"{self._browsed}/login?token={self.app.state.service.authenticator.new_link(name)}"

    def run(self) -> None:
        """Serve until ``stop`` is called.

        Raises:
            DatabaseReplaced: the database file was deleted or replaced.
        """
        log.info("api started", action="api_started", url=self.url)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
        if self._server.fault is not None:
            raise self._server.fault
        log.info("api stopped", action="api_stopped", url=self.url)

    def when_stuck(self, call: Callable[[], object]) -> None:
        """Call this once the event loop has not turned for a minute; to be said before ``run``."""
        self._server.watch.on_stuck = call

    @property
    def is_stuck(self) -> bool:
        """Whether the event loop has not turned for a minute, so that ``run`` may never return."""
        return self._server.watch.is_stuck

    def stop(self) -> None:
        """Make ``run`` return soon. May be called from any thread and from a signal handler."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the command line, and ends event streams before it waits for requests.

    Attributes:
        fault: the error that stopped the server; None: there was none.
        watch: watches the event loop while the server answers requests.
    """

    def __init__(self, config: uvicorn.Config, db: Database) -> None:
        super().__init__(config)
        self.fault: DatabaseReplaced | None = None
        self.watch = LoopWatch()
        self._db = db

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second. Returns whether to stop: it would serve from a file that nobody else uses."""
        self.watch.turned()
        if counter % 10 == 0:
            try:
                self._db.dialect.check_file()
            except DatabaseReplaced as error:
                self.fault = error
                return True
        return await super().on_tick(counter)

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)  # the event loop has set it to BATCH
        self.watch.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.watch.close()
        self.config.app.state.service.live.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int, connections: int) -> LimitedListener:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = addresses[0]
        # With an explicit protocol asyncio sets TCP_NODELAY. Without it a response may be delayed by 40 ms.
        listening = LimitedListener(family, kind, number, connections)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)  # clients that connect before `run` wait
        except OSError:
            listening.close()
            raise
    except OSError as error:
        remedy = "; stop what uses the port, or choose another with --port or JOBFAC_API_PORT"
        remedy = remedy if error.errno == errno.EADDRINUSE else ""
        raise NotReady(f"The API cannot listen on {host}, port {port}: {error.strerror}{remedy}.") from None
    return listening
