"""What the worker's loop has to do, and when. Decisions without threads, processes or a database."""

from jobfac.worker.loop.fair_share import FairClaims
from jobfac.worker.loop.inbox import Messages


class Agenda:
    """Owned by the worker's loop alone.

    Attributes:
        more: there may be runs to claim.
        reported: the poller found work, and no turn has come of it yet.
        uncertain: the answer to a commit was lost, so the database may hold claims that this worker does not know of.
        doubtful: the database counts another number of runs for this worker than the worker holds.
        overdue: the lease of some worker has ended, and its runs are not requeued yet.
        stops: runs to stop, as (run, attempt, how).
        not_before: before this time (monotonic seconds) the database is left alone.
        fair: whether a claim is limited to this worker's share.
        look_at: when to look again at runs that were left to other workers (monotonic seconds).
    """

    def __init__(self, heartbeat: float) -> None:
        """``heartbeat``: seconds for which one difference between database and worker is not looked into again."""
        self.more = True
        self.reported = False
        self.uncertain = False
        self.doubtful = False
        self.overdue = False
        self.stops: list[tuple[int, int, str]] = []
        self.not_before = 0.0
        self.fair = FairClaims()
        self.look_at: float | None = None
        self._heartbeat = heartbeat
        self._doubt_again = 0.0  # when a difference is looked into again
        self._queues = 0  # how many queues there are; when that changes, they are read again
        self._queues_read = -1

    def absorb(self, messages: Messages, now: float) -> None:
        """Add what has arrived; ``now`` in monotonic seconds."""
        self.more |= messages.work
        if self.look_at is not None and now >= self.look_at:
            self.more, self.look_at = True, None
        self.reported |= messages.reported
        if messages.beat is not None:
            self.overdue = messages.beat.expiry <= 0
        if messages.survey is not None:
            survey = messages.survey.survey
            self.stops = survey.stops
            self._queues = survey.queues
            self.fair.fleet = survey.fleet
            # Between the commit of a turn and what follows from it here the numbers differ, too; then the next turn
            # compares without finding anything.
            if messages.survey.differs and now >= self._doubt_again:
                self._doubt_again = now + self._heartbeat
                self.doubtful = True

    def has_to_act(self, free: int, to_store: bool) -> bool:
        """Whether a turn is due. ``free``: slots; ``to_store``: there are outcomes or events to store."""
        return to_store or self.overdue or self.doubtful or ((self.more or self.uncertain) and free > 0)

    def begin_turn(self) -> tuple[bool, bool]:
        """A turn begins; returns whether the poller had reported work, and whether the turn has to compare what the
        database holds for this worker."""
        self.more = False  # before the claim: what arrives after it sets this again
        reported, self.reported = self.reported, False
        doubtful, self.doubtful = self.doubtful, False
        return reported, doubtful

    def turn_failed(self, doubtful: bool, again: float) -> None:
        """The database did not answer. ``doubtful``: as the turn had it; ``again``: when to try (monotonic)."""
        self.uncertain = self.more = True
        self.doubtful |= doubtful
        self.not_before = again

    def turn_done(self, free: int, claimed: int) -> bool:
        """A turn is committed; returns whether the queues are empty, so that the worker waits for new work.

        Args:
            free: slots for which it claimed.
            claimed: runs that it took.
        """
        self.uncertain = False
        self.more |= 0 < free <= claimed
        return free > claimed

    def registered(self) -> None:
        """There is a fresh lease: nothing of the former one counts any more."""
        self.stops = []
        self.uncertain = False
        self.more = True

    @property
    def queues_to_read(self) -> int | None:
        """How many queues there are, if they have to be read; None: they are known."""
        return None if self._queues_read == self._queues else self._queues

    def queues_read(self, number: int) -> None:
        """The queues were read when there were so many."""
        self._queues_read = number
