"""The outbox: what somebody wants to be told of is recorded in the transaction in which it happens, and delivered
later by any scheduler.

``record`` writes news down; ``address`` turns them into notifications, one for each recipient; ``take``, ``delivered``
and ``failed`` are the delivery. What is to be told of a run at all is decided when it starts (``interest``), so that
runs of which nobody wants to hear cost nothing.
"""

from jobfac.store.outbox.addressing import address, unaddressed
from jobfac.store.outbox.delivery import Taken, delivered, failed, find, forget, requeue, take
from jobfac.store.outbox.recording import News, record
from jobfac.store.outbox.subscriptions import NONE, RECOVERED, Interest, interest, wants

__all__ = [
    "NONE",
    "RECOVERED",
    "Interest",
    "News",
    "Taken",
    "address",
    "delivered",
    "failed",
    "find",
    "forget",
    "interest",
    "record",
    "requeue",
    "take",
    "unaddressed",
    "wants",
]
