"""The API as a role: listens, serves, stops."""

import ipaddress
import logging
import socket
from typing import Any

import uvicorn

from jobfac.api.app import Site, create_app
from jobfac.api.serving.connections import BATCH, Door, protocol, share
from jobfac.api.serving.guard import LOOPBACK
from jobfac.api.serving.seldom import OncePerMinute
from jobfac.database.engine import Database
from jobfac.settings import Settings, SettingsError
from jobfac.telemetry.logs import logger

log = logger("jobfac.api")

FAREWELL = 10
"""Seconds that requests under way have to end when the server stops."""

QUEUE = 2048
"""Connections that wait in the kernel to be accepted."""

KEEP_ALIVE = 60
"""Seconds that an idle connection is kept: longer than clients keep theirs, so that none sends into a closing one."""


class Server:
    """Listens from the moment it is made; serves in ``run``, until ``stop``."""

    def __init__(self, db: Database, settings: Settings, behind_proxy: bool = False, site: Site | None = None) -> None:
        """Listen on the settings' address and port (0: any free one).

        Args:
            behind_proxy: a proxy in front of it speaks TLS and sets X-Forwarded-For; nothing else can reach it. The
                setting ``api_proxy_hops`` says how many proxies a request passes.
            site: the pages; None: it serves the API alone.

        Raises:
            SettingsError: the address cannot be listened on, or must not be without TLS.
        """
        host, certificate = settings.api_host, settings.api_tls_certificate
        local = is_loopback(host)
        if not (local or certificate or behind_proxy):
            raise SettingsError(
                f"The API does not listen on {host} without TLS, since keys would cross the network in the clear: set "
                "api_tls_certificate and api_tls_key, or say --behind-proxy if something before it speaks TLS."
            )
        connections = share(settings.api_connections)
        self._socket = _listen(host, settings.api_port, connections)
        self.connections = self._socket.connections
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if certificate else 'http'}://{shown}:{self.port}"
        self.app = create_app(
            db,
            hosts={*LOOPBACK, host} if local and not behind_proxy else None,
            hops=settings.api_proxy_hops if behind_proxy else 0,
            connections=connections,
            site=site,
        )
        config = self._config(settings)
        try:
            config.load()
        except OSError as error:  # ssl's errors are some, too
            self._socket.close()
            raise SettingsError(
                f"api_tls_certificate ({certificate}) or api_tls_key ({settings.api_tls_key}) cannot be used: {error}."
            ) from None
        self._server = _Uvicorn(config)
        for name in ("uvicorn.error", "asyncio"):  # a client can make them log without end
            if not any(isinstance(one, OncePerMinute) for one in logging.getLogger(name).filters):
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
            timeout_graceful_shutdown=FAREWELL,
            timeout_keep_alive=KEEP_ALIVE,
        )

    def link(self, name: str) -> str:
        """The address with a token that logs one browser in, once, as the administrator ``name``."""
        return f"{self.url}/login?token={self.app.state.service.gate.new_link(name)}"

    def run(self) -> None:
        """Serve until ``stop``, from any thread."""
        log.info("api listens", action="api_started", url=self.url)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
        log.info("api stopped", action="api_stopped", url=self.url)

    def stop(self) -> None:
        """End ``run`` soon; from any thread or a signal handler."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the command line, and ends event streams before it waits for requests to end."""

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(QUEUE)  # the event loop has set it to the number that it accepts in one turn

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.service.live.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int, connections: int) -> Door:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = found[0]
        # With the protocol named asyncio switches off the delay of small packets, which costs 40 ms an answer.
        listening = Door(family, kind, number, connections)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(QUEUE)  # clients that come before `run` wait for it
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SettingsError(f"The API cannot listen on {host}, port {port}: {error.strerror}.") from None
    return listening
