"""The view of an API key, without its secret and its hash."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import Role


class KeyView(NamedTuple):
    """An API key. ``categories`` None: the key may access all categories. ``prefix``: the part that is not secret."""

    id: int
    name: str
    role: Role
    categories: list[str] | None
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
