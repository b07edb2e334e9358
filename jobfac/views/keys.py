"""What is shown of an API key: neither its secret nor its hash."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import Role


class KeyView(NamedTuple):
    """A key. ``categories`` None: it is not limited to some; ``prefix``: the part of it that is not secret."""

    id: int
    name: str
    role: Role
    categories: list[str] | None
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
