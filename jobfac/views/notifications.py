"""The view of a notification, and the JSON object that is sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jobfac.states import Delivery

Body = Mapping[str, Any]
"""The JSON object that a receiver gets: the run as it was, or what happened to a job, with ``event`` and ``detail``.

It is stored when the event happens and sent as it is, so a version of jobfac that has more columns can deliver it.
"""


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
