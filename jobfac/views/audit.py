"""The view of an entry of the audit."""

from datetime import datetime
from typing import NamedTuple


class AuditView(NamedTuple):
    """Who did what, with the state before and after where there is one."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    before: str | None
    after: str | None
