"""An entry of the route table: a ``Page`` has a method, a path, a role and a handler."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.responses import Response

from jobfac.store.api_keys import Role
from jobfac.web.visit import Visit


class Page(NamedTuple):
    """A method of a path.

    Attributes:
        handler: makes the response; runs in a thread.
        role: the role that it needs; None: no login is needed.
        everywhere: callers that are limited to categories are refused.
    """

    method: str
    path: str
    handler: Callable[[Visit], Response]
    role: Role | None = Role.VIEWER
    everywhere: bool = False


def get(
    path: str, handler: Callable[[Visit], Response], role: Role | None = Role.VIEWER, *, everywhere: bool = False
) -> Page:
    """Declare a page."""
    return Page("GET", path, handler, role, everywhere)


def act(
    path: str, handler: Callable[[Visit], Response], role: Role | None = Role.OPERATOR, *, everywhere: bool = False
) -> Page:
    """Declare the action of a form."""
    return Page("POST", path, handler, role, everywhere)
