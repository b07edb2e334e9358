"""A worker's telemetry: its log, metrics and traces."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobfac.states import FINAL, RunState
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed, Expiry
from jobfac.telemetry import traces
from jobfac.telemetry.logs import log_expiry, logger
from jobfac.telemetry.metrics import Metric, Timing

ENDS = sorted((FINAL - {RunState.MIXED, RunState.DENIED, RunState.LOST}) | {RunState.QUEUED})
"""The states in which an execution can leave its run. `queued` means that the run was requeued."""


class WorkerTelemetry:
    """Records what a worker does. Only the worker's loop may call it; ``log``, ``worker`` and ``metrics`` are safe
    from any thread."""

    def __init__(self, worker: str) -> None:
        self.log = logger("jobfac.worker").bind(worker=worker)
        self.worker = worker
        self._traces = traces.begin("worker")
        self._turns = self._claimed = self._expired = self._fenced = 0
        self._finished: Counter[str] = Counter()
        self._claims = Timing()

    def turned(self, claimed: int, seconds: float, left: int = 0) -> None:
        """Count a committed turn of the loop, which claimed ``claimed`` runs and took ``seconds``.

        ``left``: outcomes that it could not store, because a lock that they need was not free.
        """
        self._turns += 1
        self._claimed += claimed
        if claimed:
            self._claims.add(seconds)
        if left:
            why = "an open transaction holds their runs, or the lock of their job or of its concurrency key"
            self.log.outage("outcomes are not stored yet", action="outcomes_wait", reason=why, runs=left)

    def begins(self, claimed: Claimed, since: int) -> Mapping[str, str]:
        """Record the start of an execution.

        Args:
            since: when the claiming transaction began, in nanoseconds since the epoch.

        Returns:
            Environment variables with which the program continues the trace.
        """
        return self._traces.claimed(claimed, self.worker, since)

    def ended(self, log: Any, outcome: Outcome) -> None:
        """Record a stored outcome. ``log`` is the execution's logger."""
        self._finished[outcome.state] += 1
        self._traces.ended(outcome)
        # Successes are logged at debug level: a worker may run a thousand programs a second.
        is_usual = outcome.state == RunState.SUCCEEDED or (outcome.state == RunState.QUEUED and not outcome.retry_after)
        write = log.debug if is_usual else log.warning
        names = ("exit_code", "signal", "reason", "exit_message", "retry_after")
        known = {name: value for name in names if (value := getattr(outcome, name)) is not None}
        write("a run ended", action="run_ended", state=outcome.state, **known)

    def fenced(self, log: Any, key: tuple[int, int], why: str) -> None:
        """Record that an execution was killed because this worker no longer holds its run; ``why`` is the cause."""
        self._fenced += 1
        self._traces.lost(*key, why)
        log.warning("an execution was killed, since this worker lost its run", action="run_fenced", reason=why)

    def expired(self, expiry: Expiry) -> None:
        """Record the dead workers that this worker expired, and their runs that it requeued or ended."""
        self._expired += len(expiry.workers)
        log_expiry(self.log, expiry, self.worker)

    def metrics(self) -> list[Metric]:
        """Return all counters and timings."""
        finished = {str(state): self._finished[state] for state in ENDS}
        return [
            Metric("counter", "jobfac_worker_turns", "Committed turns of the worker's loop", self._turns),
            Metric("counter", "jobfac_worker_claimed", "Runs claimed", self._claimed),
            Metric("counter", "jobfac_worker_finished", "Executions that ended", finished, label="state"),
            Metric("counter", "jobfac_worker_fenced", "Executions killed because the lease was lost", self._fenced),
            Metric("counter", "jobfac_worker_expired_leases", "Dead workers expired", self._expired),
            Metric("timing", "jobfac_worker_claim_seconds", "Duration of turns that claimed runs", self._claims),
        ]

    def close(self) -> None:
        """Send the last traces. ``log`` remains usable."""
        self._traces.close()
