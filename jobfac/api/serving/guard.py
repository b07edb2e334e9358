"""Middleware against cross-site requests and DNS rebinding, which misuse the session of a browser."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfac.api.auth import sends_key
from jobfac.api.problems import Problem, response

LOOPBACK = ("localhost", "127.0.0.1", "::1")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Headers of every response that does not set them."""


ONCE = (
    "Authorization", "Host", "Origin", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID",
    "Stripe-Signature", "X-GitHub-Delivery", "X-GitHub-Event", "X-Hub-Signature-256",
)  # fmt: skip
"""Headers that a request has once. Of two, a proxy might read the one and this server the other."""


class OriginGuard:
    """Refuses requests whose Host is not in ``hosts`` (None: any), and requests of pages of another origin.

    There is no CORS. A request that changes something and is authenticated by a session's cookie must come from a page
    of this origin.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None = None, person: str = "", public_url: str = ""
    ) -> None:
        """
        Args:
            person: the header in which a trusted proxy names a person, who is then at a browser.
            public_url: where browsers reach this server, if a proxy shows it there under another Host.
        """
        self._app = app
        self._person = person
        self._public = _origin(public_url)
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        problem = refusal(
            scope["method"], headers, self._hosts, self._person, self._public, scope.get("scheme", "http")
        )
        if problem is None:
            if "cookie" in headers:
                # The scope stays the same object: with it, the connection and its request find each other.
                scope["headers"] = [
                    (name, own_cookies(value) if name == b"cookie" else value) for name, value in scope["headers"]
                ]
            await self._app(scope, receive, with_headers)
        else:
            await response(problem)(scope, receive, with_headers)


def refusal(
    method: str,
    headers: Headers,
    hosts: Collection[str] | None,
    person: str = "",
    public: str = "",
    scheme: str = "http",
) -> Problem | None:
    """Return the problem that refuses a request; None: the request is accepted. ``public``: a further origin of this
    server. ``scheme``: of the request."""
    if "content-length" in headers and "transfer-encoding" in headers:
        # A proxy that believes the other header sees the end of this request elsewhere.
        return Problem(400, "Send Content-Length or Transfer-Encoding, not both.", {"Connection": "close"})
    if twice := next((name for name in ONCE if len(headers.getlist(name)) > 1), None):
        return Problem(400, f"Send the header {twice} once.")
    host = headers.get("host", "")
    if hosts is not None and _name(host) not in hosts:
        return Problem(
            421,
            f"This server listens on the loopback address and does not answer for '{host}'; if a proxy in "
            "front of it sends that name, start it with --behind-proxy.",
        )
    origin = headers.get("origin")
    # A page without TLS may be anybody's. The other way round, a proxy may have ended TLS without saying so.
    if origin not in (None, public) and origin not in (f"{scheme}://{host}", f"https://{host}"):
        return Problem(
            403,
            f"Pages of {origin} may not use this API; if that is its own address behind a proxy, set public_url to it.",
        )
    # Only a key replaces the cookie, because browsers may add an Authorization of type Basic without asking.
    is_person = "cookie" in headers or (person != "" and person in headers)
    by_browser = is_person and not sends_key(headers, person)
    if by_browser and origin is None and method not in ("GET", "HEAD", "OPTIONS"):
        return Problem(403, "A session may only change something from this server's own pages; use a key.")
    return None


def own_cookies(text: bytes) -> bytes:
    """Return the part of a Cookie header that jobfac has set. Other applications of the host share the header.

    None of its values has a backslash. Python before 3.11.10 and 3.12.6 takes a time that grows with the square of the
    number of these (CVE-2024-7592): one request without a key stopped the event loop for 12 s.
    """
    return b"; ".join(
        part for part in (one.strip() for one in text.split(b";")) if part.startswith(b"jobfac-") and b"\\" not in part
    )


def _origin(url: str) -> str:
    """Return the origin of a URL as browsers write it: without the port that is the scheme's own; "": there is none."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in (None, default) else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" if host else ""


def _name(host: str) -> str:
    """Return the name or address in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
