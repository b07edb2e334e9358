"""What the client over the HTTP API builds on: the connection, lists, and lists of many pages."""

from collections.abc import Mapping
from typing import Any, Self

from jobfac.cli.common import USAGE, Failure
from jobfac.client.transport import HEADER_VALUE, ApiTransport, Object
from jobfac.settings.passwords import without_password
from jobfac.views.serialization import View

PAGE = 500
"""The maximum number of items of a list in one request."""


class HttpApi:
    """A connection to the HTTP API."""

    def __init__(self, url: str, key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise Failure(USAGE, f"JOBFAC_API_URL must begin with https:// or http://, not '{without_password(url)}'.")
        if not key:
            raise Failure(USAGE, "JOBFAC_API_URL is set, so set JOBFAC_API_KEY to a key made by `jobfac keys create`.")
        if not HEADER_VALUE.fullmatch(key):
            raise Failure(USAGE, "JOBFAC_API_KEY is not a key made by `jobfac keys create`; set it to such a key.")
        self._api = ApiTransport(url, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._api.close()

    def _list(self, view: type[View], path: str, **query: Any) -> list[View]:
        return [self._api.view(view, item) for item in self._api.items(self._api.get(path, **query))]

    def _pages(self, path: str, limit: int | None, query: Mapping[str, Any], size: int | None = PAGE) -> list[Object]:
        """Return all items, or the first ``limit``, page by page.

        ``size``: the items of a page; None: the API decides. Before lists had pages, it refused to be asked for it.
        """
        items: list[Object] = []
        at: str | None = None
        while limit is None or len(items) < limit:
            wanted = size if limit is None else min(PAGE, limit - len(items))
            place = {"cursor": at, "limit": wanted}
            page = self._api.get(path, **query, **{name: value for name, value in place.items() if value is not None})
            items += self._api.items(page)
            if page.get("next_cursor") in (None, at):
                break
            at = page["next_cursor"]
        return items

    def _paged(self, view: type[View], path: str, limit: int | None, query: Mapping[str, Any]) -> list[View]:
        """Return the views of all items, or of the first ``limit``, page by page."""
        return [self._api.view(view, item) for item in self._pages(path, limit, query)]
