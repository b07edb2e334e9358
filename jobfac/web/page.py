"""An entry of the route table: one ``Page`` says the method, the path, the role and what makes the answer."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.responses import Response

from jobfac.store.api_keys import Role
from jobfac.web.visit import Visit


class Page(NamedTuple):
    """A method of a path.

    Attributes:
        handler: makes the answer; runs in a thread.
        role: whom it takes; None: everybody, logged in or not.
        everywhere: not for callers that are limited to categories.
    """

    method: str
    path: str
    handler: Callable[[Visit], Response]
    role: Role | None = Role.VIEWER
    everywhere: bool = False


def get(
    path: str, handler: Callable[[Visit], Response], role: Role | None = Role.VIEWER, *, everywhere: bool = False
) -> Page:
    """A page."""
    return Page("GET", path, handler, role, everywhere)


def act(
    path: str, handler: Callable[[Visit], Response], role: Role | None = Role.OPERATOR, *, everywhere: bool = False
) -> Page:
    """What a button does."""
    return Page("POST", path, handler, role, everywhere)
