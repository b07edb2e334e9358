"""HTTP to the API of jobfac: the key, time limits, repetition and problem documents. The clients are built on it."""

import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import httpx
import tenacity

from jobfac.errors import IN_DOUBT, InDoubt, JobfacError, Kind, Unreachable, Way
from jobfac.settings.passwords import without_password
from jobfac.views.serialization import View, from_json

Object = dict[str, Any]
"""A JSON object."""

MAX_WAIT = 10.0
"""The maximum seconds for which one request waits for the end of a run. Proxies end one that lasts for longer."""

ANSWER = 60.0
"""Seconds within which the API answers: a transaction may wait for others."""

RETRY_FOR = 15.0
"""Seconds for which a request that is safe to repeat is repeated while the API or its database is unreachable."""

LARGEST = 64 * 2**20
"""Bytes of an answer, or of an event of a stream, at most. Those of the API are far shorter: long lists have pages."""

HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
"""A key that can be the value of a header. HTTP libraries quote another one in their errors."""


NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Errors before a request is sent."""

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""Variables with paths that are read, or written, for a connection with TLS."""


class ProblemError(JobfacError):
    """The API refused a request. ``str()`` is its sentence, with a remedy as a command; ``over_http`` has the call.

    Attributes:
        status: the HTTP status.
        problem: the problem document (RFC 9457), empty if the response had none.
    """

    kind = Kind.INVALID

    def __init__(self, sentence: str, status: int, problem: Mapping[str, Any]) -> None:
        advice = problem.get("advice")
        way = None
        if isinstance(advice, dict) and {*Way._fields} <= advice.keys():
            way = Way(str(advice["command"]), str(advice["http"]))
        super().__init__(sentence if way is None else sentence.replace(way.http, "{way}"), way)
        self.status = status
        self.problem = problem

    def with_more(self, text: str) -> "ProblemError":
        return ProblemError(f"{self} {text}", self.status, self.problem)

    @property
    def exit_code(self) -> int:
        return (Kind.of_status(self.status) or self.kind).exit_code


def authorities(url: str) -> ssl.SSLContext:
    """Return those that vouch for the server: none without TLS, because loading them takes longer than a request.

    They are those that the environment names, or else the library's and the machine's: an own authority is among these.
    """
    if not url.lower().startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = httpx.create_ssl_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        context.load_default_certs()
    return context


class _Foreign(Exception):
    """The answer is none of the API; ``str()`` says what it is."""


class ApiTransport:
    """Connections to one API with one key. Threads may share it.

    Args:
        url: where the API listens.
        key: an API key, as ``HEADER_VALUE`` allows it.
        retry_for: seconds for which a repeatable request is repeated.

    Raises:
        Unreachable: the URL, or a proxy or a file of certificates that the environment names, cannot be used.
    """

    def __init__(self, url: str, key: str, *, retry_for: float = RETRY_FOR) -> None:
        self._url = url.rstrip("/")
        self._shown = without_password(self._url)
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(ANSWER)
        try:
            base = httpx.URL(self._url)
            if base.host:  # which decodes it, and what follows is as the look-up does: some names are none
                base.raw_host.decode("ascii").encode("idna")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Unreachable(
                f"The API's URL '{self._shown}' cannot be used: {fault(error)}. Check JOBFAC_API_URL."
            ) from error
        try:
            self._http = httpx.Client(base_url=base, headers=headers, timeout=timeout, verify=authorities(self._url))
        except (httpx.InvalidURL, ValueError, ImportError) as error:
            why = fault(error).rstrip(".")
            raise Unreachable(
                f"The proxy that the environment names cannot be used: {why}. Correct http_proxy, https_proxy and "
                "all_proxy, or list the API's host in no_proxy."
            ) from error
        except OSError as error:  # OpenSSL's own have no name
            named = " or ".join(name for name in CERTIFICATES if os.environ.get(name))
            raise Unreachable(
                f"The certificates that vouch for {self._shown} cannot be read: {error.strerror or error}. Correct "
                f"{named or 'the certificates of this machine'}."
            ) from error
        self._retry_for = retry_for

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, /, **query: Any) -> Object:
        """Return the JSON object at a path. Raises as ``call`` does."""
        return self.call("GET", path, repeatable=True, params=query)

    def call(self, method: str, path: str, *, repeatable: bool, **options: Any) -> Object:
        """Send a request and return the JSON object of its response, empty if it has no body.

        Raises:
            ProblemError: the API refused the request.
            Unreachable: as for ``send``, or the API failed.
        """
        return self.read(self.send(method, path, repeatable=repeatable, **options))

    def send(self, method: str, path: str, *, repeatable: bool, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request and return its response, which may be a refusal.

        Args:
            repeatable: repeat the request while the API or its database is unreachable.
            stream: leave the body of a success unread; the caller closes the response.
            options: those of ``httpx.Client.build_request``.

        Raises:
            Unreachable: there was no response.
            InDoubt: the same, and the API may have done what a request asked for.
        """
        request = self._http.build_request(method, path, **options)
        doubtful = False

        def once() -> httpx.Response:
            nonlocal doubtful
            try:
                response = self._answer(request, stream)
            except httpx.TransportError as error:
                doubtful |= method != "GET" and not isinstance(error, NOT_SENT)
                raise
            if _is_unavailable(response):
                doubtful |= method != "GET" and _leaves_doubt(response)
            return response

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(httpx.TransportError) | tenacity.retry_if_result(_is_unavailable),
            stop=self._stop(request) if repeatable else tenacity.stop_after_attempt(1),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        try:
            response = retrying(once)
        except (httpx.TransportError, UnicodeError) as error:  # UnicodeError: the host of a proxy is no name
            way, check = proxy_words(request.url)
            why = str(error).rstrip(".")
            sentence = f"The API at {self._shown} cannot be reached{way}: {why}. Check JOBFAC_API_URL{check}."
            if doubtful:
                raise InDoubt(f"{sentence} {IN_DOUBT}") from error
            raise Unreachable(sentence) from error
        except _Foreign as error:
            if method != "GET":
                raise InDoubt(f"{self.foreign(str(error))} {IN_DOUBT}") from error
            raise self.foreign(str(error)) from error
        if doubtful and _is_unavailable(response):
            said = self._said(response)
            raise InDoubt(said if IN_DOUBT in said else f"{said} {IN_DOUBT}")
        return response

    def _stop(self, request: httpx.Request) -> Callable[[tenacity.RetryCallState], bool]:
        """Return what ends the repetition. A long poll may fail late. What switches something, and has no key by which
        its repetition is known, is not repeated late: somebody may have switched it back."""
        is_harmless = request.method == "GET" or "Idempotency-Key" in request.headers
        return _failing_for(self._retry_for) if is_harmless else tenacity.stop_after_delay(self._retry_for)

    def _answer(self, request: httpx.Request, stream: bool) -> httpx.Response:
        """Send a request once and return its response.

        Raises:
            httpx.TransportError: there was none.
            _Foreign: it is longer than ``LARGEST``, or a success that is compressed, although that was not asked for.
        """
        response = self._http.send(request, stream=True)
        if response.headers.get("Content-Encoding", "").lower() not in ("", "identity"):
            response.close()
            if response.is_success:
                raise _Foreign("a compressed body")
            return httpx.Response(response.status_code)  # the page of a proxy
        return response if stream and response.is_success else _whole(response)

    def read(self, response: httpx.Response) -> Object:
        """Return the JSON object of a response, empty if it has no body. Raises as ``call`` does."""
        self.check(response)
        if not response.content:
            return {}
        try:
            found = response.json()
        except (ValueError, RecursionError, MemoryError):
            found = None
        if not isinstance(found, dict):
            raise self.foreign("no JSON object")
        return found

    def foreign(self, what: str) -> Unreachable:
        """Return the error for an answer that an API of this version does not give."""
        return Unreachable(
            f"{self._shown} answered with {what}, so it may not be the API of jobfac, or has another version; check "
            "JOBFAC_API_URL."
        )

    def view(self, view: type[View], document: Any) -> View:
        """Return the view of a JSON object of an answer.

        Raises:
            Unreachable: it is none.
        """
        try:
            return from_json(view, document)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise self.foreign(f"something else than a {view.__name__}") from None

    def items(self, page: Object) -> list[Object]:
        """Return the items of a list in an answer. Raises as ``view`` does."""
        found = page.get("items")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.foreign("no list")
        return found

    def check(self, response: httpx.Response) -> None:
        """Raise the error of a response that is not a success, as ``call`` does."""
        if response.is_success:
            return
        problem, status, sentence = problem_of(response), response.status_code, self._said(response)
        if status >= Kind.BUG.status:
            raise Unreachable(sentence)
        raise ProblemError(sentence, status, problem)

    def _said(self, response: httpx.Response) -> str:
        """Return the sentence of a response that is not a success."""
        unexplained = f"{self._shown} answered {response.status_code} and may not be the API of jobfac; "
        return str(problem_of(response).get("detail") or f"{unexplained}check JOBFAC_API_URL.")


def fault(error: Exception) -> str:
    """Return what is wrong, without a part of a URL: what follows an unencoded / in a password is taken for a path, and
    the beginning of the password for the port."""
    return str(error).partition(":")[0] if isinstance(error, httpx.InvalidURL) else str(error)


def proxy_words(url: httpx.URL) -> tuple[str, str]:
    """Return the words that name the proxy of the environment through which a URL is reached, and what to check."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.host):
        return "", " and the server"
    where = proxy.rpartition("@")[2].rpartition("//")[2]
    return f" through the proxy {where}", f", {url.scheme}_proxy and no_proxy"


def problem_of(response: httpx.Response) -> Object:
    """Return the problem document of a response, empty if it has none."""
    try:
        found = response.json()
    except (ValueError, RecursionError, MemoryError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(response: httpx.Response) -> httpx.Response:
    """Return the response with its body.

    Raises:
        _Foreign: it is longer than ``LARGEST``.
    """
    body = bytearray()
    with closing(response):
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LARGEST:
                raise _Foreign(f"more than {LARGEST:,} bytes")
    return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))


def _failing_for(seconds: float) -> Callable[[tenacity.RetryCallState], bool]:
    """Return what stops the repetition so long after the first failure. A long poll may fail later than that."""
    first: float | None = None

    def stop(state: tenacity.RetryCallState) -> bool:
        nonlocal first
        now = state.outcome_timestamp or 0.0
        first = now if first is None else first
        return now - first >= seconds

    return stop


def _is_unavailable(response: httpx.Response) -> bool:
    """Whether the API does not work for the moment, by its own words or by those of a proxy before it."""
    return response.status_code in (Kind.UNAVAILABLE.status, 502, 504)


def _leaves_doubt(response: httpx.Response) -> bool:
    """Whether the API may have done what was asked, by the words of a proxy before it or by its own."""
    return response.status_code in (502, 504) or IN_DOUBT in str(problem_of(response).get("detail"))
