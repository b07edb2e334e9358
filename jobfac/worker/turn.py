"""One turn of the worker's loop as one transaction: store outcomes, claim runs for the free slots.

Due scheduled runs and queued sequences are moved in separate transactions, because these take other named locks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from jobfac.database import locks
from jobfac.database.engine import Database
from jobfac.definitions import AnyJob, DefinitionError, Usual
from jobfac.definitions.parameters.matching import Match, Pending
from jobfac.errors import Unreachable
from jobfac.states import TO_ACKNOWLEDGE, RunState, WorkerState
from jobfac.store import jobs, output, parameters, runs, schedules, sequences, statistics, workers
from jobfac.store.holds import moving
from jobfac.store.runs import Finished, Outcome
from jobfac.store.workers import Claimed
from jobfac.store.workers.claiming import Room, Suspects
from jobfac.store.workers.suspects import NOTHING, SUSPICION, Suspicion, Waiting, look
from jobfac.worker.executions.deliveries import Deliveries, Key
from jobfac.worker.failpoints import failpoint
from jobfac.worker.loop.fair_share import Share
from jobfac.worker.loop.sharing import share_in

KNOWN = 2000
"""The maximum number of definitions that a worker remembers between turns: every change of a job is another one."""

CLAIMED = "claimed"
"""A mark of a connection on which runs were claimed: what was known of definitions before has been forgotten."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """The input of one turn.

    Attributes:
        queues: the queues that this worker may claim from, each with the slots that its runs take.
        closed: a hold closes others of its queues.
        free: how many slots are free.
        most: how many runs it may claim at most.
        uncertain: the answer to an earlier commit was lost, so the database may hold claims unknown to this worker.
        doubtful: the database counted a different number of runs for this worker than the worker held. This happens
            after a failover that lost its last commits.
        fair: claim at most this worker's share of the queued runs.
        alone: no other worker is alive.
        message: the health message of this worker to store; empty clears it, None keeps it.
        token: that of the registration ``worker_id``.
        patient: wait for the locks that the outcomes need. Otherwise leave out those that need a lock that is not free.
        suspicion: which runs are suspected of killing their workers.
    """

    worker_id: int
    name: str
    queues: Mapping[str, int]
    closed: bool
    free: int
    most: int
    deliveries: Deliveries
    uncertain: bool = False
    doubtful: bool = False
    fair: bool = False
    alone: bool = False
    message: str | None = None
    token: str | None = None
    patient: bool = True
    suspicion: Suspicion = SUSPICION

    def without(self, runs_left: Collection[int]) -> "TurnRequest":
        """Leave the outcomes of these runs to a later turn."""
        return replace(self, deliveries=self.deliveries.without(runs_left)) if runs_left else self


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The result of a turn.

    Attributes:
        state: the worker's state in the database.
        claimed: runs to start.
        unowned: executions on this worker whose run belongs to another worker; they have to end.
        due: there are scheduled runs to promote.
        begin: there are queued sequences to begin.
        share: the limit of the claim; None: the claim was not limited.
        usual: by job, what it usually takes, in seconds, of claimed jobs whose definition asks for it.
        left: runs whose outcomes are not stored, because another transaction holds a lock that they need.
        waiting: suspected runs that wait.
        fenced: executions of the claimed runs that were lost before.
    """

    state: WorkerState
    claimed: Sequence[Claimed] = ()
    unowned: Sequence[Key] = ()
    due: bool = False
    begin: bool = False
    share: Share | None = None
    usual: Mapping[str, float] = field(default_factory=dict)
    left: Collection[int] = ()
    waiting: Waiting = NOTHING
    fenced: Sequence[workers.Fenced] = ()

    @property
    def moves(self) -> bool:
        """Whether there is something for ``move_on``."""
        return self.due or (self.begin and self.state == WorkerState.ACTIVE)


@dataclass(slots=True)
class Turn:
    """One turn. It is safe to repeat as a whole.

    Attributes:
        definitions: a cache by job and version, which the turn fills; an error stands for one that cannot be read.
        was_tried: the last commit may have succeeded, so a retry compares its claims with the database.
    """

    request: TurnRequest
    definitions: dict[tuple[str, int], AnyJob | DefinitionError]
    was_tried: bool = field(default=False, init=False)

    def take(self, conn: sa.Connection) -> TurnResult:
        """Execute the turn.

        Raises:
            LeaseLost: the lease has expired. The turn changed nothing.
        """
        request = self._lock_rules(conn)
        hold = workers.hold(conn, request.worker_id, request.token)
        if not request.patient:
            request = request.without(_not_free(request, sequences.lock_free_rows(conn, _ended(request))))
        failpoint("turn_began")
        if request.message is not None:
            workers.set_message(conn, request.worker_id, request.message or None)
        finished = save(conn, request)
        finished += sequences.advance_after(conn, finished, request.name)
        failpoint("outcomes_written")
        claimed, unowned = list[Claimed](), list[Key]()
        share: Share | None = None
        waiting = NOTHING
        if self.was_tried or request.uncertain or request.doubtful:
            claimed, unowned = self._compare(conn, request, finished)
        self.was_tried = True
        queues = request.queues
        if hold.state == WorkerState.ACTIVE:
            if hold.held:
                queues = {name: queues[name] for name in moving.claimable(conn, queues, request.name)}
            # Runs that are pinned to this worker may be of any pool that it serves, so a closed queue holds them, too.
            is_open = not request.closed and len(queues) == len(request.queues)
            hold = hold._replace(pinned=hold.pinned and is_open)
            is_idle = not request.deliveries.live and not claimed
            suspicion = request.suspicion
            suspects = Suspects(suspicion.losses, is_idle, set(suspicion.waiting), request.worker_id)
            share, taken = _claim(conn, request, queues, claimed, hold, suspects)
            if suspects.waiting:
                waiting = look(conn, request.worker_id, request.name, suspects.waiting, queues, hold.pinned)
            # A failover may have lost the commit of an earlier claim. If that execution still runs here, it continues
            # and is not started again.
            live = request.deliveries.live
            again = {one.key for one in taken if live.get(one.key) == one.identity}
            unowned = [key for key in unowned if key not in again]
            claimed += [one for one in taken if one.key not in live]
            if others := [one for one in taken if one.key in live and one.key not in again]:
                finished += self._give_back(conn, others)
                unowned += [one.key for one in others]
        claimed = self._completed(conn, claimed)
        schedules.pause_failing(conn, finished)
        failpoint("claimed_uncommitted")
        left, usual = _not_free(self.request, _ended(request)), self._usual(conn, claimed)
        lost = workers.fenced(conn, [one.key for one in claimed if one.attempt - 1 > one.failures])
        return TurnResult(hold.state, claimed, unowned, hold.due, hold.begin, share, usual, left, waiting, lost)

    def _lock_rules(self, conn: sa.Connection) -> TurnRequest:
        """Take the named locks that the turn needs. Returns the request with the outcomes that can be stored."""
        request, more = self.request, self._failure_locks(conn)
        if request.patient:
            lock_rules(conn, request, more)
            return request
        given = request.deliveries
        free = sequences.lock_free_ends(conn, given.outcomes, given.sequences)
        missing = more - set(locks.take_free(conn, more))
        waiting = {one.run_id for one in given.outcomes if one.rule and schedules.failure_lock(one.rule.job) in missing}
        return request.without(_not_free(request, free) | waiting)

    def _completed(self, conn: sa.Connection, claimed: list[Claimed]) -> list[Claimed]:
        """Return the claimed runs with the values that their starts left out."""
        # A failover ends all connections, and may have lost versions whose numbers others have now.
        if len(self.definitions) > KNOWN or (claimed and not conn.info.get(CLAIMED)):
            self.definitions.clear()
        if claimed:
            conn.info[CLAIMED] = True
        pending: list[Match] = []
        for place, one in enumerate(claimed):
            key = (one.job, one.job_version)
            if isinstance(
                self.definitions.get(key), DefinitionError | None
            ):  # an error may have had a cause that passes
                self.definitions[key] = jobs.find_version(conn, *key)
            if isinstance(definition := self.definitions[key], DefinitionError):
                continue  # its start fails
            try:
                row = parameters.complete(conn, parameters.row_of(one), definition, one.arguments, one.payload)
            except Pending as error:
                pending += error.matches
                continue
            claimed[place] = one._replace(parameters=row.parameters, sensitive=row.sensitive)
        if pending:  # all at once, so that the turn is repeated once and not for each run
            raise Pending(*pending)
        return claimed

    def _failure_locks(self, conn: sa.Connection) -> set[str]:
        """Return the named locks that ``pause_failing`` needs, as far as the cached definitions tell."""
        ended = [one for one in self.request.deliveries.outcomes if one.state in TO_ACKNOWLEDGE]
        failed = {one.rule.job for one in ended if one.rule is not None and one.retry_after is None}
        if not failed:
            return set()
        counted = {job for (job, _), one in self.definitions.items() if getattr(one, "pause_after", None)}
        return schedules.failure_locks(conn, sorted(failed & counted))

    def _give_back(self, conn: sa.Connection, others: Sequence[Claimed]) -> list[Finished]:
        """Queue runs again whose ids belong to programs that run here: the database has forgotten their runs."""
        why = "not started: the program of a run that the database has forgotten ran here under the same number"
        outcomes = [Outcome(one.id, one.attempt, RunState.QUEUED, reason=why, rule=one.rule) for one in others]
        return runs.finish(conn, self.request.worker_id, outcomes, self.request.name)

    def _usual(self, conn: sa.Connection, claimed: Sequence[Claimed]) -> dict[str, float]:
        """What claimed jobs usually take, if their definition compares with it."""
        compared = {
            one.job
            for one in claimed
            if isinstance(getattr(self.definitions[one.job, one.job_version], "warn_after", None), Usual)
        }
        found = {job: statistics.usual_seconds(conn, job) for job in sorted(compared)}
        return {job: seconds for job, seconds in found.items() if seconds is not None}

    def _compare(
        self, conn: sa.Connection, request: TurnRequest, finished: list[Finished]
    ) -> tuple[list[Claimed], list[Key]]:
        """Compare the claims in the database with the executions here; returns runs to start and executions to end.

        Adds the runs that end to ``finished``.
        """
        live = request.deliveries.live
        ours = {claimed.key: claimed for claimed in workers.held_by(conn, request.worker_id)}
        unowned = workers.unowned(conn, request.worker_id, [key for key in live if key not in ours])
        unknown = [key for key in ours if key not in live]
        # An unknown run is a new claim only if the answer to a claim was lost and its outcome is not stored yet.
        lost_answer = self.was_tried or request.uncertain
        claimed = [ours[key] for key in unknown if lost_answer and key not in request.deliveries.stored]
        begun = {one.id for one in claimed}
        lost = [run_id for run_id, _ in unknown if run_id not in begun]
        why = "the database forgot how it ended, as after a failover that lost its last commits"
        ended = workers.requeue_unknown(conn, lost, why, request.name)
        finished += [*ended, *sequences.advance_after(conn, ended, request.name)]
        return claimed, unowned


def _claim(
    conn: sa.Connection,
    request: TurnRequest,
    queues: Mapping[str, int],
    already: Sequence[Claimed],
    hold: workers.Hold,
    suspects: Suspects,
) -> tuple[Share | None, list[Claimed]]:
    """Claim runs for the free slots. If the request is fair, claim at most this worker's share of the queued runs.

    A suspected run that waits for an idle worker comes first, and nothing with it. Then come runs that are pinned to
    this worker. While one of them waits for slots, nothing else is claimed.
    The result has a share only if it limited the claim. ``already``: runs that take free slots of the request.
    """
    queues = {queue: slots for queue, slots in queues.items() if queue != jobs.SEQUENCE_QUEUE}
    if any(map(suspects.has, already)):
        return None, []
    free, most = request.free - sum(one.weight for one in already), request.most - len(already)
    room = Room(free, most, held=hold.held, suspects=suspects)
    first, is_all = workers.claim_first(conn, request.worker_id, request.name, queues, room, hold.pinned)
    free, most = free - sum(one.weight for one in first), most - len(first)
    if is_all or min(free, most) <= 0 or not queues:
        return None, first
    heavy = {queue for queue, slots in queues.items() if slots > 1}
    share = None
    if request.fair or (heavy and not request.alone):
        share = share_in(conn, request.worker_id, queues, suspects if room.passes_over else None)
    room = Room(free, most, heavy if share is None else share.holds, hold.held, suspects)
    limit = share if request.fair else None
    limits = None if limit is None else limit.most
    return limit, first + workers.claim(conn, request.worker_id, request.name, queues, room, limits)


def lock_rules(conn: sa.Connection, request: TurnRequest, more: Collection[str] = ()) -> None:
    """Take the named locks that storing the outcomes may need, and ``more``, before the transaction locks a row."""
    rules = runs.rules_of(conn, request.deliveries.outcomes)
    sequences.lock_rules(conn, rules, set(request.deliveries.sequences.values()), more)


def _ended(request: TurnRequest) -> set[int]:
    """Return the runs whose outcomes this turn stores."""
    return {outcome.run_id for outcome in request.deliveries.outcomes}


def _not_free(request: TurnRequest, free: Collection[int]) -> set[int]:
    return _ended(request) - set(free)


def save(conn: sa.Connection, request: TurnRequest) -> list[Finished]:
    """Store outcomes. The lease need not be held: the fence of each outcome decides whether it is accepted.

    The caller has called ``lock_rules``. Returns the runs that have finished; the caller advances their sequences.
    """
    deliveries = request.deliveries
    sequences.lock(conn, set(deliveries.sequences.values()))
    output.append(conn, deliveries.chunks)
    for cut in deliveries.cuts:
        output.cut(conn, *cut)
    for reported in sorted(deliveries.progress, key=lambda one: one[0]):
        runs.report_progress(conn, *reported)
    runs.record(conn, deliveries.events)
    return runs.finish(conn, request.worker_id, schedules.hold_back(conn, deliveries.outcomes), request.name)


def move_on(db: Database, name: str, result: TurnResult, log: Any) -> int:
    """After a turn: promote due scheduled runs, begin queued sequences and continue others, in their own transactions.

    Returns how many runs have moved.
    """
    moved = 0
    try:
        if result.due:
            moved += db.transact(runs.promote_due, name, retry_for=0)
        if result.begin and result.state == WorkerState.ACTIVE:
            moved += db.transact(sequences.begin, name, retry_for=0).number
        for unfinished in db.sequences.unfinished():
            db.transact(sequences.go_on, unfinished, name, retry_for=0)
            moved += len(unfinished)
    except Unreachable as error:  # the next turn or a scheduler repeats it
        log.outage("runs not moved", action="move_failed", reason=str(error))
    except Exception:  # what is wrong with one sequence must not end the worker
        log.exception("runs not moved", action="move_failed")
    return moved
