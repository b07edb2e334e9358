"""What the worker's loop has to do, and when. Decisions without threads, processes or a database."""

from jobfac.worker.inbox import Messages


class Agenda:
    """Owned by the worker's loop alone.

    Attributes:
        more: there may be runs to claim.
        uncertain: the answer to a commit was lost, so the database may hold claims that this worker does not know of.
        doubtful: the database counts another number of runs for this worker than the worker holds.
        overdue: the lease of some worker has ended, and its runs are not requeued yet.
        stops: runs to stop, as (run, attempt, how).
        not_before: before this time (monotonic seconds) the database is left alone.
    """

    def __init__(self) -> None:
        self.more = True
        self.uncertain = False
        self.doubtful = False
        self.overdue = False
        self.stops: list[tuple[int, int, str]] = []
        self.not_before = 0.0
        self._queues = 0  # how many queues there are; when that changes, they are read again
        self._queues_read = -1

    def absorb(self, messages: Messages) -> None:
        """Add what has arrived."""
        self.more |= messages.work
        if (news := messages.news) is not None:
            self.stops = news.beat.stops
            self.overdue = news.beat.expiry <= 0
            # Between the commit of a turn and what follows from it here the numbers differ, too; then the next turn
            # compares without finding anything.
            self.doubtful = news.differs
            self._queues = news.beat.queues

    def has_to_act(self, free: int, to_store: bool) -> bool:
        """Whether a turn is due. ``free``: slots; ``to_store``: there are outcomes or events to store."""
        return to_store or self.overdue or self.doubtful or ((self.more or self.uncertain) and free > 0)

    def begin_turn(self) -> bool:
        """A turn begins; returns whether it has to compare what the database holds for this worker."""
        self.more = False  # before the claim: what arrives after it sets this again
        doubtful, self.doubtful = self.doubtful, False
        return doubtful

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
