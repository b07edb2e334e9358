"""The transport of the client over the HTTP API: requests, repetition, and errors."""

import re
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx

from jobfac.cli.common import USAGE, Failure
from jobfac.errors import Kind, NotFound, Refused, Unreachable
from jobfac.views.serialization import View, from_json

Object = dict[str, Any]
"""A JSON object."""

MAX_WAIT = 30.0
"""The maximum seconds for which one request waits for the end of a run."""

RETRY_FOR = 15.0
"""Seconds for which a request that is safe to repeat is repeated while the API is unreachable or busy."""

RETRY_DELAY = 0.5
"""Seconds between two tries."""

HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
"""A key that can be the value of a header."""

PAGE = 500
"""The maximum number of runs or jobs in one request."""


class HttpApi:
    """A connection to the HTTP API."""

    def __init__(self, url: str, key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise Failure(USAGE, f"JOBFAC_API_URL must begin with https:// or http://, not '{url}'.")
        if not key:
            raise Failure(USAGE, "JOBFAC_API_URL is set, so set JOBFAC_API_KEY to a key made by `jobfac keys create`.")
        if not HEADER_VALUE.fullmatch(key):
            raise Failure(USAGE, "JOBFAC_API_KEY is not a key made by `jobfac keys create`; set it to such a key.")
        self._url = url
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(MAX_WAIT + 30)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def _pages(self, path: str, limit: int | None, query: Mapping[str, Any]) -> list[Object]:
        """Return all items, or the first ``limit``, page by page."""
        items: list[Object] = []
        page: Object = {"next_cursor": None}
        while limit is None or len(items) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(items))
            cursor = {} if page["next_cursor"] is None else {"cursor": page["next_cursor"]}
            page = self._get(path, **query, **cursor, limit=size)
            items += page["items"]
            if page["next_cursor"] is None:
                break
        return items

    def _list(self, view: type[View], path: str, **query: Any) -> list[View]:
        return [from_json(view, item) for item in self._get(path, **query)["items"]]

    def _get(self, path: str, **query: Any) -> Object:
        return self._read(self._send("GET", path, repeatable=True, params=query))

    def _send(self, method: str, path: str, repeatable: bool, **options: Any) -> httpx.Response:
        """Send a request. A ``repeatable`` one is repeated while the API or its database is unreachable.

        Raises:
            Unreachable: the API is still unreachable after ``RETRY_FOR``.
        """
        end = time.monotonic() + (RETRY_FOR if repeatable else 0.0)
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if time.monotonic() >= end:
                    raise Unreachable(
                        f"The API at {self._url} cannot be reached: {error}. Check JOBFAC_API_URL and the server."
                    ) from None
            else:
                if response.status_code != 503 or time.monotonic() >= end:
                    return response
            time.sleep(RETRY_DELAY)

    def _read(self, response: httpx.Response) -> Object:
        """Return the JSON object of a response, empty if it has no body, or raise the error of its problem."""
        if response.is_success:
            return dict(response.json()) if response.content else {}
        status = response.status_code
        try:
            problem = response.json()
            detail = str(problem["detail"])
            if advice := problem.get("advice"):
                detail = detail.replace(advice["http"], advice["command"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self._url} answered {status} and may not be the API of jobfac; check JOBFAC_API_URL."
        if status >= 500:
            raise Unreachable(detail)
        kind = Kind.of_status(status) or Kind.INVALID
        errors = {error.kind: error for error in (NotFound, Refused)}
        raise errors[kind](detail) if kind in errors else Failure(kind.exit_code, detail)
