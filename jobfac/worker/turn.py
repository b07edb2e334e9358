"""One turn of the worker's loop as one transaction: store outcomes, claim for the free slots.

Scheduled runs that are due and queued sequences are left to transactions of their own, which take other named locks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.definitions import AnyJob
from jobfac.errors import Unreachable
from jobfac.states import WorkerState
from jobfac.store import fleet_load, jobs, output, runs, schedules, sequences, workers
from jobfac.store.runs import Finished, Outcome
from jobfac.store.runs.event import Event
from jobfac.store.workers import Claimed
from jobfac.worker.failpoints import failpoint
from jobfac.worker.loop.fair_share import Share, share_of

Key = tuple[int, int]
"""Run and attempt: an execution."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What the executions have brought that is to be stored.

    Attributes:
        chunks: output.
        cuts: output that outgrew its limit, as (run, attempt, stream, end of the head, start of the tail).
        progress: what programs that have ended reported last, as (run, attempt, progress, message).
        outcomes: how executions ended.
        sequences: the sequence runs to which the runs of these outcomes belong.
        events: what else is to be recorded.
        live: the executions that run here.
        stored: executions whose end was stored before.
    """

    chunks: Sequence[output.Stored]
    cuts: Sequence[tuple[int, int, str, int, int]]
    progress: Sequence[tuple[int, int, float | None, str | None]]
    outcomes: Sequence[Outcome]
    sequences: Collection[int]
    events: Sequence[Event]
    live: Collection[Key]
    stored: Collection[Key]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What one turn is to do.

    Attributes:
        queues: what this worker may take from.
        free: how many runs it may claim at most.
        uncertain: an earlier answer was lost, so the database may hold claims that this worker does not know of.
        doubtful: the database held another number of runs for this worker than the worker did, as after a failover
            that lost its last commits.
        fair: claim no more than this worker's share of what is queued.
        message: what the fleet is to show of this worker's health; empty: nothing; None: as it is.
    """

    worker_id: int
    name: str
    queues: Sequence[str]
    free: int
    deliveries: Deliveries
    uncertain: bool = False
    doubtful: bool = False
    fair: bool = False
    message: str | None = None


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What came of a turn.

    Attributes:
        state: the worker's, in the database.
        claimed: runs to start.
        unowned: executions that run here although the run is not this worker's; they have to end.
        due: there are scheduled runs to promote.
        begin: there are queued sequences to begin.
        share: what the claim was limited to; None: it was not limited.
    """

    state: WorkerState
    claimed: Sequence[Claimed] = ()
    unowned: Sequence[Key] = ()
    due: bool = False
    begin: bool = False
    share: Share | None = None


@dataclass(slots=True)
class Turn:
    """One turn, safe to be repeated as a whole. ``definitions``: those known here, by job and version; added to."""

    request: TurnRequest
    definitions: dict[tuple[str, int], AnyJob]
    _tried: bool = field(default=False, init=False)  # should a commit's answer be lost, the next try compares first

    def take(self, conn: sa.Connection) -> TurnResult:
        """Do it.

        Raises:
            LeaseLost: the lease has run out; nothing of the turn happened.
        """
        request = self.request
        lock_rules(conn, request)
        state, due, begin = workers.hold(conn, request.worker_id)
        failpoint("turn_began")
        if request.message is not None:
            workers.set_message(conn, request.worker_id, request.message or None)
        sequences.settle(conn, save(conn, request), request.name)
        failpoint("outcomes_written")
        claimed: list[Claimed] = []
        unowned: list[Key] = []
        share: Share | None = None
        if self._tried or request.uncertain or request.doubtful:
            claimed, unowned = self._compare(conn)
        self._tried = True
        if state == WorkerState.ACTIVE:
            share, taken = _claim(conn, request, request.free - len(claimed))
            # What runs here already, because its first claim was lost with its commit, goes on, and is begun but once.
            again = {one.key for one in taken if one.key in request.deliveries.live}
            unowned = [key for key in unowned if key not in again]
            claimed += [one for one in taken if one.key not in again]
        for one in claimed:
            key = (one.job, one.job_version)
            if key not in self.definitions:
                self.definitions[key] = jobs.load_version(conn, *key)
        failpoint("claimed_uncommitted")
        return TurnResult(state, claimed, unowned, due, begin, share)

    def _compare(self, conn: sa.Connection) -> tuple[list[Claimed], list[Key]]:
        """Compare what the database and this worker say that it holds: runs to start, executions to end."""
        request, live = self.request, self.request.deliveries.live
        ours = {claimed.key: claimed for claimed in workers.held_by(conn, request.worker_id)}
        unowned = workers.unowned(conn, request.worker_id, [key for key in live if key not in ours])
        unknown = [key for key in ours if key not in live]
        # Without a lost answer it is no claim of ours, and what was stored before is none in any case.
        lost_answer = self._tried or request.uncertain
        claimed = [ours[key] for key in unknown if lost_answer and key not in request.deliveries.stored]
        begun = {one.id for one in claimed}
        lost = [run_id for run_id, _ in unknown if run_id not in begun]
        why = "the database forgot how it ended, as after a failover that lost its last commits"
        sequences.settle(conn, workers.give_up(conn, lost, why, request.name), request.name)
        return claimed, unowned


def _claim(conn: sa.Connection, request: TurnRequest, free: int) -> tuple[Share | None, list[Claimed]]:
    """Claim for the free slots, no more than this worker's share of what is queued if the request says so."""
    programs = [queue for queue in request.queues if queue != jobs.SEQUENCE_QUEUE]
    share = None
    if request.fair and programs and free > 0:
        fleet = fleet_load.fleet(conn, programs)
        most = sum(load.slots for load in fleet) + 1
        share = share_of(request.worker_id, fleet, fleet_load.queued(conn, programs, most))
    limits = None if share is None else share.most
    return share, workers.claim(conn, request.worker_id, request.name, programs, free, limits)


def lock_rules(conn: sa.Connection, request: TurnRequest) -> None:
    """Take the named locks that storing the outcomes may need; before the transaction locks a row."""
    rules = runs.rules_of(conn, request.deliveries.outcomes)
    sequences.lock_rules(conn, rules, request.deliveries.sequences)


def save(conn: sa.Connection, request: TurnRequest) -> list[Finished]:
    """Store what has ended, without holding the lease: the fence of each outcome tells whether it still counts.

    The caller has called ``lock_rules``, and advances the sequences of the runs that are returned: they reached their
    end.
    """
    given = request.deliveries
    sequences.lock(conn, given.sequences)
    output.append(conn, given.chunks)
    for cut in given.cuts:
        output.cut(conn, *cut)
    for reported in sorted(given.progress, key=lambda one: one[0]):
        runs.report_progress(conn, *reported)
    runs.record(conn, given.events)
    return runs.finish(conn, request.worker_id, schedules.hold_back(conn, given.outcomes), request.name)


def move_on(db: Database, name: str, result: TurnResult, log: Any) -> int:
    """After a turn: promote scheduled runs that are due and begin queued sequences, each in a transaction of its own;
    returns how many runs have moved."""
    moved = 0
    try:
        if result.due:
            moved += db.transact(runs.promote_due, name, retry_for=0)
        if result.begin and result.state == WorkerState.ACTIVE:
            moved += db.transact(sequences.begin, name, retry_for=0).number
    except Unreachable as error:  # the next turn, or a scheduler, does it
        log.warning("runs not moved", action="move_failed", reason=str(error))
    return moved
