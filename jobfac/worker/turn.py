"""One turn of the worker's loop as one transaction: store outcomes, promote what is due, claim for the free slots."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from jobfac import leases, output, runs, schedules, sequences
from jobfac.definitions import AnyJob, store
from jobfac.leases import Claimed
from jobfac.runs import Finished, Outcome
from jobfac.runs.events import Event
from jobfac.states import WorkerState
from jobfac.worker.crash import checkpoint


@dataclass
class Turn:
    """What one turn is to do, and what came of it. Safe to be tried again as a whole.

    ``progress``: what programs that have ended reported last, as (run, attempt, progress, message).
    ``sequences``: the sequence runs to which the outcomes' runs belong.
    ``known``: the executions, as (run, attempt), that this worker has or has just ended. ``uncertain``: an earlier
    answer was lost, so look first what the database says is ours.
    """

    worker_id: int
    name: str
    queues: Sequence[str]
    free: int
    chunks: list[output.Stored]
    cuts: list[tuple[int, int, str, int, int]]
    progress: list[tuple[int, int, float | None, str | None]]
    outcomes: list[Outcome]
    sequences: Collection[int]
    events: list[Event]
    known: Collection[tuple[int, int]]
    definitions: dict[tuple[str, int], AnyJob]
    uncertain: bool = False
    state: WorkerState = WorkerState.ACTIVE
    claimed: list[Claimed] = field(default_factory=list)

    def take(self, conn: sa.Connection) -> None:
        """Do it.

        Raises:
            LeaseLost: the lease has run out; nothing of the turn happened.
        """
        self.state, due = leases.hold(conn, self.worker_id)
        checkpoint("turn_began")
        sequences.settle(conn, self.save(conn), self.name)
        checkpoint("outcomes_written")
        if due:
            runs.promote_due(conn, self.name)
        ours = leases.held_by(conn, self.worker_id) if self.uncertain else []
        self.claimed = [c for c in ours if (c.id, c.attempt) not in self.known]
        self.uncertain = True  # should this commit's answer be lost, the next try looks first
        if self.state == WorkerState.ACTIVE:
            if store.SEQUENCE_QUEUE in self.queues:
                sequences.begin_queued(conn, self.name)
            programs = [queue for queue in self.queues if queue != store.SEQUENCE_QUEUE]
            self.claimed += leases.claim(conn, self.worker_id, self.name, programs, self.free - len(self.claimed))
        for claimed in self.claimed:
            key = (claimed.job, claimed.job_version)
            if key not in self.definitions:
                self.definitions[key] = store.load_version(conn, *key)
        checkpoint("claimed_uncommitted")

    def save(self, conn: sa.Connection) -> list[Finished]:
        """Store what has ended, without holding the lease: the fence of each outcome tells whether it still counts.

        The caller settles the sequences of the runs that reached their end.
        """
        output.append(conn, self.chunks)
        for cut in self.cuts:
            output.cut(conn, *cut)
        for told in self.progress:
            runs.report_progress(conn, *told)
        runs.record(conn, self.events)
        sequences.lock(conn, self.sequences)
        return runs.finish(conn, self.worker_id, schedules.hold_back(conn, self.outcomes), self.name)
