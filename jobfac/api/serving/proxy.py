"""Behind a reverse proxy: the client's address and scheme, as the proxies that we trust report them."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send


class Proxies:
    """Replaces the address of the nearest proxy by that of the client.

    ``hops``: how many proxies of ours a request passes. Each appends the address that it saw to X-Forwarded-For, so the
    client's is the ``hops``-th from the right; what stands further left was sent by the client and proves nothing.
    """

    def __init__(self, app: ASGIApp, hops: int = 1) -> None:
        self._app = app
        self._hops = hops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hops:
            headers = Headers(scope=scope)
            address = client(headers.getlist("x-forwarded-for"), self._hops)
            if address is not None:
                scope["client"] = (address, 0)
            scheme = _from_right(headers.getlist("x-forwarded-proto"), self._hops)
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
        await self._app(scope, receive, send)


def client(forwarded: list[str], hops: int) -> str | None:
    """The client's address from all X-Forwarded-For headers, in order; None: they do not hold a usable one."""
    value = _from_right(forwarded, hops)
    if value is None:
        return None
    host = value[1:].partition("]")[0] if value.startswith("[") else value
    host = host.partition(":")[0] if host.count(":") == 1 else host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _from_right(values: list[str], hops: int) -> str | None:
    """The entry of the outermost trusted proxy; the first entry if there are fewer, as when each proxy replaces it."""
    entries = [entry.strip() for value in values for entry in value.split(",")]
    return entries[max(0, len(entries) - hops)] if entries else None
