"""Subscriptions: pure functions over the ``notify`` entries of definitions, categories and starts."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobfac.definitions import Notify
from jobfac.states import FINAL, RunState

ALL = "all"
"""Stands for all events, when the subscribed events are not known."""

RECOVERED = "recovered"


class Subscription(NamedTuple):
    """The subscribed events, as words in one text; None: there is no subscription.

    ``notify``: events of the run itself. ``notify_jobs``: events of the runs of the jobs in it.
    """

    notify: str | None
    notify_jobs: str | None


NONE = Subscription(None, None)


def subscription(entries: Sequence[Notify], inherited: str | None = None) -> Subscription:
    """Return the subscribed events of a run with these entries. ``inherited``: ``notify_jobs`` of its sequence."""
    above = set((inherited or "").split())
    own = above | _events(entry for entry in entries if entry.of != "jobs")
    jobs = above | _events(entry for entry in entries if entry.of != "sequence")
    return Subscription(" ".join(sorted(own)) or None, " ".join(sorted(jobs)) or None)


def _events(entries: Iterable[Notify]) -> set[str]:
    found = {str(event) for entry in entries for event in entry.on}
    return found - {"finished"} | set(FINAL) if "finished" in found else found


def wants(notify: str | None, event: str) -> bool:
    """Whether ``notify`` of a run includes this event."""
    if notify is None:
        return False
    words = notify.split()
    return event in words or ALL in words


def event_name_for(on: Sequence[str], event: str) -> str | None:
    """Return the event name under which an entry is notified, or None if it does not subscribe to the event.

    An entry that does not name ``recovered`` gets a ``recovered`` event as ``succeeded``.
    """
    if event in on:
        return event
    plain = RunState.SUCCEEDED.value if event == RECOVERED else event
    return plain if plain in on or (plain in FINAL and "finished" in on) else None
