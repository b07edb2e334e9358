"""A visit: one request for a page, and its response."""

import gzip
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobfac.api.auth import RETRY_FOR, cookie_name
from jobfac.api.routing import Service
from jobfac.api.serving.kept import takes_gzip
from jobfac.operations import caller as operations
from jobfac.store.api_keys import Caller, Role
from jobfac.store.history import counts
from jobfac.views.overview import Counts
from jobfac.web import assets, templating

T = TypeVar("T")

POLICY = (
    "default-src 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    # Browsers send `Origin: null` with forms of pages that allow no referrer at all.
    "Referrer-Policy": "same-origin",
    "Vary": "Accept, Cookie, HX-Request, Accept-Encoding",
}

THEMES = ("", "light", "dark")
"""The themes of the pages; empty: that of the system."""

NOTICE_BYTES = 800
"""The most bytes of a text of a notice as JSON."""

NOTICE_AGE = 60
"""The lifetime of the cookie of a notice, in seconds."""

ONCE = re.compile("[0-9a-f]{24}")
"""What ``Visit.once`` looks like."""

Form = Mapping[str, Sequence[str]]


class Query(dict[str, str]):
    """The parameters of a URL. A missing one is an empty text."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass(frozen=True)
class Notice:
    """A message about the previous action. ``command``: the command line that does the same."""

    text: str
    command: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Visit:
    """One request. ``caller`` None: nobody is logged in. Only the login pages allow that."""

    request: Request
    service: Service
    who: Caller | None
    body: Form

    @property
    def caller(self) -> Caller:
        """The user who is logged in."""
        assert self.who is not None
        return self.who

    @property
    def by(self) -> operations.Caller:
        """The caller in the form that operations take."""
        return operations.Caller(
            self.caller.name, self.caller.categories, RETRY_FOR, self.service.traces, None, self.caller.role
        )

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the browser; UTC if it is unknown."""
        name = self.request.cookies.get("jobfac-zone", "")
        try:
            return ZoneInfo(unquote(name)) if name else ZoneInfo("UTC")
        except (ValueError, KeyError, OSError):
            return ZoneInfo("UTC")

    @cached_property
    def once(self) -> str:
        """A value for the forms of this page that start runs. If one is sent again with it, nothing is started again.

        A browser resends a form automatically if the connection ends before the answer; a user resends it by reloading.
        """
        return secrets.token_hex(12)

    @property
    def key(self) -> str | None:
        """The key of a start by this form; None: the form has none."""
        return f"page {once}" if ONCE.fullmatch(once := self.field("once")) else None

    @property
    def theme(self) -> str:
        """``light``, ``dark``, or empty: the theme of the system."""
        word = self.request.cookies.get("jobfac-theme", "")
        return word if word in THEMES else ""

    @property
    def query(self) -> Query:
        """The parameters of the URL; the last value of a name counts, and empty ones are left out."""
        return Query({name: value.strip() for name, value in self.request.query_params.items() if value.strip()})

    def path(self, name: str) -> Any:
        """Return a parameter of the path."""
        return self.request.path_params[name]

    def number(self, name: str) -> int | None:
        """A number in the URL; None if it is missing, or no number that the database could hold."""
        return read_number(self.query[name])

    def field(self, name: str) -> str:
        """Return a field of the form; empty if it is missing."""
        values = self.body.get(name)
        return values[-1] if values else ""

    def may(self, role: str = Role.OPERATOR, everywhere: bool = False) -> bool:
        """Whether the caller has this role; ``everywhere``: for all categories."""
        return self.caller.role.allows(Role(role)) and not (everywhere and self.caller.categories is not None)

    def read(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Read from the database, as ``Service.read``."""
        return self.service.read(work, *arguments, **named)

    def together(self, work: Callable[[sa.Connection], T]) -> tuple[Counts, T]:
        """Read the content of a page and the numbers in its header on one connection."""

        def both(conn: sa.Connection) -> tuple[Counts, T]:
            return counts.read(conn, self.caller.categories), work(conn)

        return self.read(both)

    def render(self, template: str, status: int = 200, /, **context: Any) -> Response:
        """Return a page made from a template. One that says what failed leaves the notice to the next."""
        notice = None if "hx-request" in self.request.headers or status >= 400 else self._notice()
        html = templating.environment().get_template(template).render(visit=self, notice=notice, **context).encode()
        headers = dict(HEADERS)
        if len(html) >= assets.LEAST and takes_gzip(self.request):
            html = gzip.compress(html, 3, mtime=0)
            headers["Content-Encoding"] = "gzip"
        answer = Response(html, status, headers, "text/html; charset=utf-8")
        if notice is not None:
            answer.delete_cookie(self._notice_name)
        return answer

    def go(self, path: str, notice: Notice | None = None) -> Response:
        """Return a redirect to a page of this site, which shows the notice."""
        answer = RedirectResponse(path, 303, HEADERS)
        if notice is not None:
            # Cut, because browsers drop a cookie of more than 4 KiB, and proxies an answer with such a head.
            words = json.dumps([_cut(notice.text), _cut(notice.command), notice.bad], ensure_ascii=False)
            value = self.service.authenticator.sessions.sign("notice", words)
            # It may hold a new start URL or key, so it is sent as its page is.
            secure = self.request.url.scheme == "https"
            answer.set_cookie(
                self._notice_name, value, max_age=NOTICE_AGE, httponly=True, samesite="lax", secure=secure
            )
        return answer

    def back(self, notice: Notice | None = None, otherwise: str = "/") -> Response:
        """Return a redirect to the page from which a form was sent."""
        return self.go(local_path(self.field("back")) or self.came_from() or otherwise, notice)

    def came_from(self) -> str:
        """The path of the referring page of this site; empty: none."""
        before = urlsplit(self.request.headers.get("referer", ""))
        if before.netloc != self.request.headers.get("host", "") or not before.path:
            return ""
        return local_path(before.path + (f"?{before.query}" if before.query else ""))

    @property
    def here(self) -> str:
        """The path and query of this page."""
        url = self.request.url
        return url.path + (f"?{url.query}" if url.query else "")

    @property
    def _notice_name(self) -> str:
        return f"{cookie_name(self.request)}-notice"

    def _notice(self) -> Notice | None:
        cookie = self.request.cookies.get(self._notice_name)
        words = None if cookie is None else self.service.authenticator.sessions.verify("notice", cookie)
        return None if words is None else Notice(*json.loads(words))


def _cut(text: str) -> str:
    """Cut a text so that a cookie has room for two."""
    while (length := len(json.dumps(text, ensure_ascii=False).encode())) > NOTICE_BYTES:
        text = text[: min(len(text) - 1, len(text) * NOTICE_BYTES // length)]
    return text


def local_path(text: str) -> str:
    """Return the path if it leads to a page of this site, else an empty text."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) and "\\" not in text else ""


def read_number(text: str) -> int | None:
    """Return the number of a text; None if it is none, or none that the database could hold."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def login_path(visit_or_request: Request) -> str:
    """Return the path of the login page, which leads back to the requested page."""
    url = visit_or_request.url
    here = url.path + (f"?{url.query}" if url.query else "")
    return "/login" if here == "/" else f"/login?next={quote(here, safe='')}"


def read_form(body: bytes) -> Form:
    """Return the fields of a form that a browser sent.

    Raises:
        ValueError: it is not a form in UTF-8, has too many fields, or has a NUL, which no command line can hold.
    """
    form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=5000, errors="strict")
    if any("\0" in text for name, values in form.items() for text in (name, *values)):
        raise ValueError("it has a NUL")
    return form
