"""The life of a run and of a worker: states, groups of states, and which step from one to the next is legal.

Everything else (CHECK constraints, queries, the command line's choices) is derived from this page.
"""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands. The values are the words stored in the tables."""

    SCHEDULED = "scheduled"  # waits for its time: a delayed start, or a retry
    BLOCKED = "blocked"  # waits for a concurrency rule
    QUEUED = "queued"  # any suitable worker may claim it
    RUNNING = "running"  # claimed: a worker holds it under its lease
    STOPPING = "stopping"  # a stop was asked for; the worker obeys or the lease's expiry settles it
    SUCCEEDED = "succeeded"
    MIXED = "mixed"  # a sequence of which some jobs succeeded and some did not
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    START_FAILED = "start_failed"
    LOST = "lost"  # its worker died and the job is not restartable
    DENIED = "denied"  # the already-running policy refused it


WAITING = frozenset({RunState.SCHEDULED, RunState.BLOCKED, RunState.QUEUED})
HELD = frozenset({RunState.RUNNING, RunState.STOPPING})
"""States in which a worker holds the run (for a sequence: in which its steps are under way)."""

ACTIVE = WAITING | HELD
FINAL = frozenset(RunState) - ACTIVE
OCCUPYING = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.STOPPING})
"""States that count against a concurrency limit: started, or free to start at any moment."""

FAILURES = FINAL - {RunState.SUCCEEDED, RunState.MIXED, RunState.STOPPED}
"""What a sequence counts as a failure."""

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.SCHEDULED: frozenset({RunState.QUEUED, RunState.BLOCKED, RunState.STOPPED, RunState.DENIED}),
    RunState.BLOCKED: frozenset({RunState.QUEUED, RunState.STOPPED, RunState.DENIED}),
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.STOPPED}),
    RunState.RUNNING: frozenset({RunState.STOPPING, RunState.QUEUED, RunState.SCHEDULED}) | (FINAL - {RunState.DENIED}),
    RunState.STOPPING: FINAL - {RunState.DENIED},
} | {state: frozenset() for state in FINAL}


def is_legal(before: RunState, after: RunState) -> bool:
    """Whether a run may go from ``before`` to ``after`` in one step."""
    return after in TRANSITIONS[before]


class WorkerState(StrEnum):
    """Where a worker process stands."""

    ACTIVE = "active"
    DRAINING = "draining"  # finishes what it has, claims nothing more
    STOPPED = "stopped"  # said goodbye
    DEAD = "dead"  # its lease ran out


ALIVE = frozenset({WorkerState.ACTIVE, WorkerState.DRAINING})


class Stop(StrEnum):
    """How a run is to be stopped."""

    POLITE = "polite"  # TERM, the job's grace, KILL
    NOW = "now"  # KILL at once


class JobKind(StrEnum):
    """What stands behind a job: one console program, or a series of jobs."""

    PROGRAM = "program"
    SEQUENCE = "sequence"


class StepStart(StrEnum):
    """What became of a step when a sequence came to it."""

    STARTED = "started"
    SKIPPED = "skipped"  # its ``start_if`` did not hold
    FAILED = "failed"  # what it hands to its jobs could not be made


class StepResult(StrEnum):
    """How a visit of a step ended; the step's ``on_...`` says where it goes from there."""

    SUCCESS = "success"
    FAILURE = "failure"
    MIXED = "mixed"
    SKIPPED = "skipped"
    AT_ONCE = "at_once"  # it did not wait for its jobs


class Delivery(StrEnum):
    """What became of a notification."""

    WAITING = "waiting"  # to be delivered, perhaps not for the first time
    DELIVERED = "delivered"
    DEAD = "dead"  # given up; an operator may requeue it


class Role(StrEnum):
    """What a caller of the API may do; each role may also do what the ones before it may."""

    VIEWER = "viewer"  # read
    OPERATOR = "operator"  # start, stop, retry, pause, drain
    ADMIN = "admin"  # change definitions, which means running any program on the workers

    def allows(self, needed: "Role") -> bool:
        """Whether a caller of this role may do what needs the role ``needed``."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
