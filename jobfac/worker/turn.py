"""One turn of the worker's loop as one transaction: store outcomes, claim for the free slots.

Scheduled runs that are due and queued sequences are left to transactions of their own, which take other named locks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from jobfac.definitions import AnyJob
from jobfac.states import WorkerState
from jobfac.store import jobs, output, runs, schedules, sequences, workers
from jobfac.store.runs import Finished, Outcome
from jobfac.store.runs.event import Event
from jobfac.store.workers import Claimed
from jobfac.worker.failpoints import failpoint


@dataclass
class Turn:
    """What one turn is to do, and what came of it. Safe to be tried again as a whole.

    ``progress``: what programs that have ended reported last, as (run, attempt, progress, message).
    ``sequences``: the sequence runs to which the outcomes' runs belong.
    ``live`` and ``stored``: the executions, as (run, attempt), that run here, and those whose end was stored before.
    ``uncertain``: an earlier answer was lost, so the database may hold claims for us that we do not know of.
    ``doubtful``: it held another number of runs for us than we did, as after a failover that lost its last commits.
    ``unowned``: what runs here and is not ours; it has to end.
    ``due`` and ``begin``: whether there are scheduled runs to promote, and queued sequences to begin.
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
    live: Collection[tuple[int, int]]
    stored: Collection[tuple[int, int]]
    definitions: dict[tuple[str, int], AnyJob]
    uncertain: bool = False
    doubtful: bool = False
    state: WorkerState = WorkerState.ACTIVE
    claimed: list[Claimed] = field(default_factory=list)
    unowned: list[tuple[int, int]] = field(default_factory=list)
    due: bool = False
    begin: bool = False

    def take(self, conn: sa.Connection) -> None:
        """Do it.

        Raises:
            LeaseLost: the lease has run out; nothing of the turn happened.
        """
        self.lock_rules(conn)
        self.state, self.due, self.begin = workers.hold(conn, self.worker_id)
        failpoint("turn_began")
        sequences.settle(conn, self.save(conn), self.name)
        failpoint("outcomes_written")
        self.claimed, self.unowned = [], []
        if self.uncertain or self.doubtful:
            self._compare(conn)
        self.uncertain = True  # should this commit's answer be lost, the next try looks first
        if self.state == WorkerState.ACTIVE:
            programs = [queue for queue in self.queues if queue != jobs.SEQUENCE_QUEUE]
            taken = workers.claim(conn, self.worker_id, self.name, programs, self.free - len(self.claimed))
            # What runs here already, because its first claim was lost with its commit, goes on, and is begun but once.
            again = {one.key for one in taken if one.key in self.live}
            self.unowned = [key for key in self.unowned if key not in again]
            self.claimed += [one for one in taken if one.key not in again]
        for claimed in self.claimed:
            key = (claimed.job, claimed.job_version)
            if key not in self.definitions:
                self.definitions[key] = jobs.load_version(conn, *key)
        failpoint("claimed_uncommitted")

    def lock_rules(self, conn: sa.Connection) -> None:
        """Take the named locks that storing the outcomes may need; before the transaction locks a row."""
        rules = runs.rules_of(conn, self.outcomes)
        sequences.lock_rules(conn, rules, self.sequences)

    def _compare(self, conn: sa.Connection) -> None:
        """See whether the database and this worker agree on what it holds, and what to do where they do not."""
        ours = {claimed.key: claimed for claimed in workers.held_by(conn, self.worker_id)}
        self.unowned = workers.unowned(conn, self.worker_id, [key for key in self.live if key not in ours])
        unknown = [key for key in ours if key not in self.live]
        # Without a lost answer it is no claim of ours, and what was stored before is none in any case.
        self.claimed = [ours[key] for key in unknown if self.uncertain and key not in self.stored]
        begun = {claimed.id for claimed in self.claimed}
        lost = [run_id for run_id, _ in unknown if run_id not in begun]
        why = "the database forgot how it ended, as after a failover that lost its last commits"
        sequences.settle(conn, workers.give_up(conn, lost, why, self.name), self.name)

    def save(self, conn: sa.Connection) -> list[Finished]:
        """Store what has ended, without holding the lease: the fence of each outcome tells whether it still counts.

        The caller settles the sequences of the runs that reached their end.
        """
        sequences.lock(conn, self.sequences)
        output.append(conn, self.chunks)
        for cut in self.cuts:
            output.cut(conn, *cut)
        for told in sorted(self.progress, key=lambda told: told[0]):
            runs.report_progress(conn, *told)
        runs.record(conn, self.events)
        return runs.finish(conn, self.worker_id, schedules.hold_back(conn, self.outcomes), self.name)
