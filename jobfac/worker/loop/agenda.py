"""The pending work of the worker's loop. Pure decisions: no threads, processes or database."""

from jobfac.worker.loop.fair_share import FairClaims
from jobfac.worker.loop.inbox import Messages

LOCKED_INTERVAL = 0.5
"""Seconds until the worker tries again to store outcomes whose lock was not free."""


class Agenda:
    """The pending work of the worker's loop. Only the loop uses it.

    Attributes:
        more: there may be runs to claim.
        reported: the poller found work, and no turn has begun since.
        uncertain: the answer to a commit was lost, so the database may hold claims unknown to this worker.
        doubtful: the database counts a different number of runs for this worker than the worker holds.
        overdue: a worker's lease has expired, and its runs are not requeued yet.
        orphans: an expiry has left runs of dead workers, to be repeated after the next heartbeat.
        stops: runs to stop, as (run, attempt, how).
        not_before: no turn begins before this time (monotonic seconds).
        fair: decides whether a claim is limited to this worker's share.
        look_at: when to try again to claim runs that were left to other workers (monotonic seconds).
        patient: the next turn waits for the locks that its outcomes need.
        store_at: when to try again to store outcomes whose lock was not free (monotonic seconds); None: there are none.
    """

    def __init__(self, heartbeat: float) -> None:
        """``heartbeat``: minimum seconds between two comparisons with the database because of a difference."""
        self.more = True
        self.reported = False
        self.uncertain = False
        self.doubtful = False
        self.overdue = self.orphans = False
        self.stops: list[tuple[int, int, str]] = []
        self.not_before = 0.0
        self.fair = FairClaims()
        self.look_at: float | None = None
        self.patient = True
        self.store_at: float | None = None
        self._left = 0
        self._heartbeat = heartbeat
        self._doubt_again = 0.0  # earliest time of the next comparison
        self._queues = 0  # number of queues; they are read again when it changes
        self._queues_read = -1

    def absorb(self, messages: Messages, now: float) -> None:
        """Add new messages; ``now`` in monotonic seconds."""
        self.more |= messages.work
        if self.look_at is not None and now >= self.look_at:
            self.more, self.look_at = True, None
        self.reported |= messages.reported
        if messages.beat is not None:
            self.overdue = messages.beat.expiry <= 0 or self.orphans
        if messages.survey is not None:
            survey = messages.survey.survey
            self.stops = survey.stops
            self._queues = survey.queues
            self.fair.fleet = survey.fleet
            # The numbers also differ between the commit of a turn and the update of this worker's state. Then the next
            # turn compares and finds no difference.
            if messages.survey.differs and now >= self._doubt_again:
                self._doubt_again = now + self._heartbeat
                self.doubtful = True

    def has_to_act(self, free: int, to_store: bool) -> bool:
        """Whether a turn is due. ``free``: free slots; ``to_store``: there are outcomes or events to store."""
        return to_store or self.overdue or self.doubtful or ((self.more or self.uncertain) and free > 0)

    def has_to_store(self, number: int, now: float) -> bool:
        """Whether to store outcomes and events. ``number``: how many there are."""
        return number > self._left or (self.store_at is not None and now >= self.store_at)

    def wakes_at(self, acts: bool) -> float | None:
        """When to look again (monotonic seconds); None: a message says so. ``acts``: there is something to do now."""
        return self.not_before if acts else self.store_at

    def begin_turn(self) -> tuple[bool, bool]:
        """Begin a turn.

        Returns whether the poller had reported work, and whether the turn has to compare its claims with the database.
        """
        self.more = False  # reset before the claim: later messages set it again
        reported, self.reported = self.reported, False
        doubtful, self.doubtful = self.doubtful, False
        return reported, doubtful

    def turn_failed(self, doubtful: bool, again: float) -> None:
        """Record that the database did not answer.

        Args:
            doubtful: the value of the turn.
            again: when to retry, in monotonic seconds.
        """
        self.uncertain = self.more = True
        self.doubtful |= doubtful
        self.not_before = again
        self.patient = False  # it may have waited for a lock that an open transaction holds

    def turn_done(self, claimed: int, is_full: bool) -> bool:
        """Record a committed turn; returns whether the queues are empty. Then the worker waits for new work.

        Args:
            claimed: how many runs it claimed.
            is_full: it claimed all that it had room for.
        """
        self.uncertain = False
        self.more |= is_full and claimed > 0
        return not is_full

    def turn_left(self, number: int, now: float) -> None:
        """Record how many outcomes and events a committed turn has left, because a lock was not free."""
        self._left = number
        self.patient = number == 0
        self.store_at = now + LOCKED_INTERVAL if number else None

    def registered(self) -> None:
        """Record a new lease, and discard the state that belongs to the old one."""
        self.stops = []
        self.uncertain = False
        self.more = True
        self.turn_left(0, 0.0)

    @property
    def queues_to_read(self) -> int | None:
        """The number of queues if they have to be read again; None if the known queues are current."""
        return None if self._queues_read == self._queues else self._queues

    def queues_read(self, number: int) -> None:
        """Record that the queues were read when there were ``number`` of them."""
        self._queues_read = number
