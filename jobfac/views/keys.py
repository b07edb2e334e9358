"""The views of API keys and of start URLs, without their secrets and hashes."""

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


class StartUrlView(NamedTuple):
    """A URL that starts a job. ``prefix``: the part of its token that is not secret. ``used_at``: its last start."""

    id: int
    job: str
    name: str
    categories: list[str] | None
    prefix: str
    created_at: datetime
    created_by: str
    used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
