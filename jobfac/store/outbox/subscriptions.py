"""Who wants to hear of what: pure decisions over the ``notify`` entries of definitions, categories and starts."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobfac.definitions import Notify
from jobfac.states import FINAL, RunState

ALL = "all"
"""In place of events: any of them might be wanted, it was not looked up."""

RECOVERED = "recovered"


class Interest(NamedTuple):
    """The events that somebody wants to hear of, as words in one text; None: nobody wants to hear anything.

    ``notify``: of the run itself; ``notify_jobs``: of the runs of the jobs in it.
    """

    notify: str | None
    notify_jobs: str | None


NONE = Interest(None, None)


def interest(entries: Sequence[Notify], inherited: str | None = None) -> Interest:
    """What is wanted of a run about which these entries speak; ``inherited``: ``notify_jobs`` of its sequence."""
    above = set((inherited or "").split())
    own = above | _events(entry for entry in entries if entry.of != "jobs")
    jobs = above | _events(entry for entry in entries if entry.of != "sequence")
    return Interest(" ".join(sorted(own)) or None, " ".join(sorted(jobs)) or None)


def _events(entries: Iterable[Notify]) -> set[str]:
    found = {str(event) for entry in entries for event in entry.on}
    return found - {"finished"} | set(FINAL) if "finished" in found else found


def wants(notify: str | None, event: str) -> bool:
    """Whether ``notify`` of a run names this event."""
    if notify is None:
        return False
    words = notify.split()
    return event in words or ALL in words


def told_as(on: Sequence[str], event: str) -> str | None:
    """By which name an entry hears of an event, None: it does not. Who knows no ``recovered`` hears ``succeeded``."""
    if event in on:
        return event
    plain = RunState.SUCCEEDED.value if event == RECOVERED else event
    return plain if plain in on or (plain in FINAL and "finished" in on) else None
