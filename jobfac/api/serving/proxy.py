"""Middleware behind reverse proxies: the address and scheme of the client, as trusted proxies report them."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfac.api.single_sign_on import PEER


class ForwardedHeaders:
    """Replaces the address of the nearest proxy by that of the client.

    ``hops``: how many trusted proxies a request passes. Each appends the address of its peer to X-Forwarded-For, so the
    client's address is the ``hops``-th from the right. Entries further left come from the client and are not trusted.
    """

    def __init__(self, app: ASGIApp, hops: int = 1) -> None:
        self._app = app
        self._hops = hops

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = scope.get("client")
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
    """Return the client's address from all X-Forwarded-For headers, in order; None: there is no valid address."""
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
    """Return the entry of the outermost trusted proxy, or the first one if there are fewer because a proxy replaced the
    header instead of appending to it."""
    entries = [entry.strip() for value in values for entry in value.split(",")]
    return entries[max(0, len(entries) - hops)] if entries else None
