"""A worker's telemetry: its log, metrics and traces."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobfac.states import FINAL, RunState
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed, Expiry
from jobfac.telemetry import traces
from jobfac.telemetry.logs import logger, tell_expiry
from jobfac.telemetry.metrics import Metric, Timing

ENDS = sorted((FINAL - {RunState.MIXED, RunState.DENIED, RunState.LOST}) | {RunState.QUEUED})
"""How an execution can end; `queued`: its run was requeued."""


class WorkerTelemetry:
    """Written by the worker's loop alone; ``log``, ``worker`` and ``metrics`` are for any thread."""

    def __init__(self, worker: str) -> None:
        self.log = logger("jobfac.worker").bind(worker=worker)
        self.worker = worker
        self._traces = traces.begin("worker")
        self._turns = self._claimed = self._expired = self._fenced = 0
        self._finished: Counter[str] = Counter()
        self._claims = Timing()

    def turned(self, claimed: int, seconds: float) -> None:
        """One turn of the loop is committed: it claimed ``claimed`` runs and took ``seconds``."""
        self._turns += 1
        self._claimed += claimed
        if claimed:
            self._claims.add(seconds)

    def begins(self, claimed: Claimed, since: int) -> Mapping[str, str]:
        """An execution is about to start; returns the variables by which its program continues the trace.

        Args:
            since: when the transaction that claimed it began, nanoseconds since the epoch.
        """
        return self._traces.claimed(claimed, self.worker, since)

    def ended(self, log: Any, outcome: Outcome) -> None:
        """This outcome is stored. ``log``: that of its execution."""
        self._finished[outcome.state] += 1
        self._traces.ended(outcome)
        # A worker that carries out a thousand programs a second does not write a line for each that went well.
        say = log.debug if outcome.state in (RunState.SUCCEEDED, RunState.QUEUED) else log.warning
        facts = ("exit_code", "signal", "reason", "exit_message", "retry_after")
        known = {name: value for name in facts if (value := getattr(outcome, name)) is not None}
        say("a run ended", action="run_ended", state=outcome.state, **known)

    def fenced(self, log: Any, key: tuple[int, int], why: str) -> None:
        """An execution was ended, since this worker no longer holds its run; ``why`` says how that came."""
        self._fenced += 1
        self._traces.lost(*key, why)
        log.warning("a run was cut off", action="run_fenced", reason=why)

    def expired(self, expiry: Expiry) -> None:
        """Dead workers were found, and their runs requeued or ended."""
        self._expired += len(expiry.workers)
        tell_expiry(self.log, expiry, self.worker)

    def metrics(self) -> list[Metric]:
        """All counters and timings."""
        finished = {str(state): self._finished[state] for state in ENDS}
        return [
            Metric("counter", "jobfac_worker_turns", "Transactions of its loop", self._turns),
            Metric("counter", "jobfac_worker_claimed", "Runs that it took", self._claimed),
            Metric("counter", "jobfac_worker_finished", "Executions that ended", finished, label="state"),
            Metric("counter", "jobfac_worker_fenced", "Executions cut off with a lost lease", self._fenced),
            Metric("counter", "jobfac_worker_expired_leases", "Workers that it found dead", self._expired),
            Metric("timing", "jobfac_worker_claim_seconds", "Turns that took runs", self._claims),
        ]

    def close(self) -> None:
        """Send the last traces; ``log`` stays usable."""
        self._traces.close()
