"""The queues from which a worker may claim."""

from collections.abc import Sequence
from typing import Any

from jobfac.errors import Unreachable
from jobfac.store.holds.reading import claimable_queues
from jobfac.store.runs import queue_of_worker
from jobfac.store.workers import Registration
from jobfac.worker.loop.database import LoopDatabase


class ServedQueues:
    """The queues that a worker serves, by its pools, labels and slots. Only the worker's loop uses it.

    Attributes:
        slots: by queue, how many slots each of its runs takes. Queues that a hold closes are left out.
        closed: whether a hold closes one.
    """

    def __init__(self, database: LoopDatabase, who: Registration, log: Any) -> None:
        """``log``: the worker's logger."""
        self.slots: dict[str, int] = {}
        self.closed = False
        self._database = database
        self._who = who
        self._log = log

    @property
    def names(self) -> Sequence[str]:
        """The names of the queues, and of the queue of runs that are pinned to this worker unless a hold closes one."""
        return list(self.slots) if self.closed else [*self.slots, queue_of_worker(self._who.name)]

    def read(self) -> bool:
        """Read the queues from the database. False: it did not answer, and the known queues stay."""
        who = self._who
        try:
            found = self._database.query(claimable_queues, who.pools, who.labels, who.slots, retry_for=1.0)
            self.slots, self.closed = found
        except Unreachable as error:
            self._log.outage("queues not read", action="turn_failed", reason=str(error))
            return False
        return True
