"""The outbox: an event is recorded in the transaction in which it happens, and any scheduler delivers it later.

``record`` stores outbox events. ``address`` turns them into notifications, one for each recipient. ``take``,
``delivered`` and ``failed`` deliver the notifications. The subscribed events of a run are computed when it starts
(``subscription``), so runs without a subscription cost nothing.
"""

from jobfac.store.outbox.addressing import address, unaddressed
from jobfac.store.outbox.delivery import (
    Leased,
    dead_ids,
    delivered,
    failed,
    find,
    follow_clock,
    forget,
    requeue,
    take,
)
from jobfac.store.outbox.recording import OutboxEvent, record
from jobfac.store.outbox.shares import Room, Taken, places
from jobfac.store.outbox.subscriptions import RECOVERED, subscription, wants

__all__ = [
    "RECOVERED", "Leased", "OutboxEvent", "Room", "Taken", "address", "dead_ids", "delivered", "failed", "find",
    "follow_clock", "forget", "places", "record", "requeue", "subscription", "take", "unaddressed", "wants",
]  # fmt: skip
