"""The view of a notification."""

from datetime import datetime
from typing import NamedTuple

from jobfac.states import Delivery


class NotificationView(NamedTuple):
    """A message to one recipient. ``channel`` and ``to`` name the recipient, without secrets. ``tries``: the number of
    deliveries that were begun. ``due_at``: when the next one may begin."""

    id: int
    run_id: int | None
    job: str
    event: str
    dedupe: str
    state: Delivery
    tries: int
    due_at: datetime
    error: str | None
    created_at: datetime
    delivered_at: datetime | None
    channel: str
    to: str
