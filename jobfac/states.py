"""States of runs and workers, groups of states, and the legal transitions of a run.

CHECK constraints, queries and the choices of the command line are derived from this module.
"""

from enum import StrEnum


class RunState(StrEnum):
    """The state of a run. The values are stored in the tables."""

    SCHEDULED = "scheduled"  # waits for its time: a delayed start, or a retry
    BLOCKED = "blocked"  # waits for a concurrency limit, or for the end of a hold
    QUEUED = "queued"  # any suitable worker may claim it
    RUNNING = "running"  # a worker claimed it and holds it under its lease
    STOPPING = "stopping"  # a stop was requested; the worker stops it, or it ends when the lease expires
    SUCCEEDED = "succeeded"
    MIXED = "mixed"  # a sequence: some of its jobs succeeded and some did not
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    START_FAILED = "start_failed"
    LOST = "lost"  # its worker died and the job is not restartable
    DENIED = "denied"  # the already-running policy refused it


WAITING = frozenset({RunState.SCHEDULED, RunState.BLOCKED, RunState.QUEUED})
HELD = frozenset({RunState.RUNNING, RunState.STOPPING})
"""States in which a worker holds the run. For a sequence: states in which its steps are in progress."""

ACTIVE = WAITING | HELD
FINAL = frozenset(RunState) - ACTIVE
OCCUPYING = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.STOPPING})
"""States that count against a concurrency limit: started, or free to start at any moment."""

FAILED = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.START_FAILED, RunState.LOST})
"""The one meaning of 'failed' in headers, filters, reports, metrics and views: it was to run, and it went wrong."""

FAILURES = FAILED | {RunState.DENIED}
"""Final states after which a sequence goes on as ``on_failure`` says: a start that was denied is a failure there."""

TO_ACKNOWLEDGE = FAILED
"""Final states that ask for a person's attention until somebody, or a later success of the job, acknowledges them."""

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.SCHEDULED: frozenset({RunState.QUEUED, RunState.BLOCKED, RunState.STOPPED, RunState.DENIED}),
    RunState.BLOCKED: frozenset({RunState.QUEUED, RunState.STOPPED, RunState.DENIED}),
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.STOPPED, RunState.BLOCKED}),
    RunState.RUNNING: frozenset({RunState.STOPPING, RunState.QUEUED, RunState.SCHEDULED}) | (FINAL - {RunState.DENIED}),
    RunState.STOPPING: FINAL - {RunState.DENIED},
} | {state: frozenset() for state in FINAL}


def is_legal(before: RunState, after: RunState) -> bool:
    """Whether a run may change from ``before`` to ``after`` in one transition."""
    return after in TRANSITIONS[before]


class WorkerState(StrEnum):
    """The state of a worker process."""

    ACTIVE = "active"
    DRAINING = "draining"  # finishes its runs and claims no more
    STOPPED = "stopped"  # deregistered
    DEAD = "dead"  # its lease expired


ALIVE = frozenset({WorkerState.ACTIVE, WorkerState.DRAINING})


class Stop(StrEnum):
    """How to stop a run."""

    POLITE = "polite"  # TERM, then KILL after the job's grace
    NOW = "now"  # KILL at once


class JobKind(StrEnum):
    """What a job runs: one console program, or a sequence of jobs."""

    PROGRAM = "program"
    SEQUENCE = "sequence"


class StepStart(StrEnum):
    """What happened to a step when its sequence reached it."""

    STARTED = "started"
    SKIPPED = "skipped"  # its ``start_if`` did not hold
    FAILED = "failed"  # the values it passes to its jobs could not be computed


class StepResult(StrEnum):
    """The result of one visit of a step. The step's ``on_...`` fields say which step follows."""

    SUCCESS = "success"
    FAILURE = "failure"
    MIXED = "mixed"
    SKIPPED = "skipped"
    AT_ONCE = "at_once"  # it did not wait for its jobs


class Waiting(StrEnum):
    """What a visit of a step waits for, if not for runs."""

    APPROVAL = "approval"
    TIME = "time"
    FILE = "file"
    HTTP = "http"


class Decision(StrEnum):
    """How the waiting of a visit ended."""

    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"  # nobody decided in time, or what it waited for was not there in time
    ELAPSED = "elapsed"  # the time that it waited for has come
    FOUND = "found"  # the file is there, or the address has answered


class Delivery(StrEnum):
    """The delivery state of a notification."""

    WAITING = "waiting"  # due for delivery: the first try or a later one
    DELIVERED = "delivered"
    DEAD = "dead"  # no more tries; an operator may requeue it


class Role(StrEnum):
    """What an API caller may do. Each role includes the roles before it."""

    VIEWER = "viewer"  # read
    OPERATOR = "operator"  # start, stop, retry, pause, drain
    ADMIN = "admin"  # change definitions, and therefore run any program on the workers

    def allows(self, needed: "Role") -> bool:
        """Whether this role includes the role ``needed``."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
