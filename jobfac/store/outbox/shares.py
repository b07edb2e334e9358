"""Which notifications share places for their deliveries, so that one receiver delays no others. Pure functions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobfac.definitions import Recipient
from jobfac.states import FAILED
from jobfac.store.outbox.addressing import BY_START
from jobfac.views.notifications import Body

MAILS = "email"
"""The group of all emails: one server takes them."""

MAILS_BY_START = "email of starts"
"""The group of the emails to recipients whom starts have named."""

LARGE = "large"
"""The group of all notifications with a large body. To deliver one takes many times its size in memory."""

LARGE_BY_START = "large of starts"
"""The group of notifications with a large body to recipients whom starts have named."""

OF_MAILS = "@"
"""The end of the group of a recipient of emails."""

WITH_JOB = "|"
"""What stands between recipient and job in the group of the ordered messages about that job to that recipient."""

ORDERED = frozenset({*FAILED, "mixed", "overdue", "on_time_again", "recovered"})
"""Events that say whether a job works: of these the last message about a job has to be the last one that arrives."""


class Taken(NamedTuple):
    """A notification that the caller must deliver now.

    ``tries`` includes the current try and fences the caller's result.
    """

    id: int
    tries: int
    dedupe: str
    run_id: int | None
    job: str
    event: str
    recipient: Recipient
    body: Body
    is_large: bool = False

    @property
    def attempt(self) -> int | None:
        """The attempt of the run at the time of the event, None for an event of a job."""
        return self.body.get("attempt")

    @property
    def worker(self) -> str | None:
        """The worker of the run at the time of the event, None if it had none."""
        return self.body.get("worker")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that share deliveries.

        Those to the same recipient, all emails, all whom starts have named, the emails to these, ``ORDERED`` events of
        the same job to the same recipient, all with a large body, and those of them whom starts have named.
        """
        to = self.dedupe.rpartition(".")[2]
        is_mail = self.recipient.channel == MAILS
        found = [f"{to}{OF_MAILS}", MAILS] if is_mail else [to]
        found += [f"{to}{WITH_JOB}{self.job}"] if self.event in ORDERED else []
        if self.by_start:
            found += [BY_START, MAILS_BY_START] if is_mail else [BY_START]
        if self.is_large:
            found += [LARGE, LARGE_BY_START] if self.by_start else [LARGE]
        return tuple(found)

    @property
    def by_start(self) -> bool:
        """Whether a start has named the recipient, not a definition."""
        return f"{BY_START}." in self.dedupe  # not the events ``started`` and ``start_failed``


def places(group: str, share: int) -> int:
    """Return how many deliveries of a group may be under way at once: ``share``, except where others would wait.

    Neither one recipient nor the starts have all places of emails, or of what is large. What has an order goes one
    after another.
    """
    if WITH_JOB in group:
        return 1
    if group == LARGE:
        return share + 1
    return max(1, share - 1) if group.endswith(OF_MAILS) or group in (MAILS_BY_START, LARGE_BY_START) else share


class Room(NamedTuple):
    """How many more deliveries of a group may begin. ``share``: of each group; ``busy``: those under way, by group."""

    share: int
    busy: Mapping[str, int]

    @property
    def full(self) -> list[str]:
        """The groups that have no room for another delivery."""
        return [group for group, number in self.busy.items() if number >= places(group, self.share)]


def fitting(found: Sequence[Taken], room: Room) -> list[Taken]:
    """Return those for which there is room, the first ones of each group. A pure function."""
    busy, fit = Counter(room.busy), []
    for one in found:
        if all(busy[group] < places(group, room.share) for group in one.groups):
            fit.append(one)
        busy.update(one.groups)  # also of one that waits: no later one of its groups goes before it
    return fit
