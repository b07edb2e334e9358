"""The data that a turn of the worker's loop has to store."""

import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from jobfac.programs import why_alive
from jobfac.store import output
from jobfac.store.runs import Outcome
from jobfac.store.runs.event import Event
from jobfac.worker.executions.execution import Execution

LAST_OUTPUT = 1024 * 1024
"""Maximum bytes of output that are stored together with an outcome. Longer output is shipped first, in pieces."""

MEMORY = 1000
"""How many executions to remember whose outcome is stored or given up, to recognise a repeated claim."""

Key = tuple[int, int]
"""Run and attempt: an execution."""

Identity = tuple[str, datetime]
"""What distinguishes a run from another one to which the database gave the same id."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The data that a turn has to store.

    Attributes:
        chunks: output.
        cuts: output that exceeded its limit, as (run, attempt, stream, end of the head, start of the tail, created_at).
        progress: the last report of ended programs, as (run, attempt, progress, message, created_at).
        outcomes: how executions ended.
        sequences: by run of these outcomes, the sequence run that it belongs to.
        events: other events to record.
        live: the executions under way on this worker, each with the ``identity`` of its run.
        stored: executions whose outcome is stored already, or given up.
        ended: the executions of these outcomes, each with the ``identity`` of its run.
    """

    chunks: Sequence[output.Stored]
    cuts: Sequence[tuple[int, int, str, int, int, datetime]]
    progress: Sequence[tuple[int, int, float | None, str | None, datetime]]
    outcomes: Sequence[Outcome]
    sequences: Mapping[int, int]
    events: Sequence[Event]
    live: Mapping[Key, Identity]
    stored: Collection[Key]
    ended: Mapping[Key, Identity] = field(default_factory=dict)

    def without(self, runs: Collection[int]) -> "Deliveries":
        """Leave out all that belongs to these runs. Their executions count as under way until their outcome is stored.

        So a comparison with the database neither starts them again nor ends them as unknown.
        """
        return replace(
            self,
            chunks=[one for one in self.chunks if one.run_id not in runs],
            cuts=[one for one in self.cuts if one[0] not in runs],
            progress=[one for one in self.progress if one[0] not in runs],
            outcomes=[one for one in self.outcomes if one.run_id not in runs],
            sequences={run_id: one for run_id, one in self.sequences.items() if run_id not in runs},
            events=[one for one in self.events if one.run_id not in runs],
            live={**self.live, **{key: one for key, one in self.ended.items() if key[0] in runs}},
            ended={key: one for key, one in self.ended.items() if key[0] not in runs},
        )


def gather(
    over: Sequence[tuple[Execution, Outcome]],
    events: Sequence[Event],
    live: Mapping[Key, Identity],
    stored: Collection[Key],
) -> Deliveries:
    """Collect what ended executions leave to store: ``over`` has each with its outcome."""
    ended = [execution for execution, _ in over]
    chunks: list[output.Stored] = []
    for execution in ended:
        with execution.lock:
            chunks += execution.collect(final=True)
    inside = ((one.claimed.id, one.claimed.sequence_run_id) for one in ended)
    return Deliveries(
        chunks=chunks,
        cuts=[cut for execution in ended for cut in execution.cuts()],
        progress=[one.reported for one in ended if one.report.changed],
        outcomes=[outcome for _, outcome in over],
        sequences={run_id: sequence for run_id, sequence in inside if sequence is not None},
        events=events,
        live=live,
        stored=stored,
        ended={one.key: one.claimed.identity for one in ended},
    )


def events_of(execution: Execution, now: float, worker: str) -> list[Event]:
    """Return, once each, that an execution takes long, and that KILL does not end it. Logs them."""
    found: list[Event] = []
    if why := execution.runs_long(now):
        execution.log.warning("a run takes long", action="run_long", reason=why)
        found.append(Event(*execution.key, "running_long", worker, why, execution.claimed.notify))
    if why := execution.outlives_kill(now):
        found.append(_unanswered(execution, worker, why))
    return found


def events_of_fenced(executions: Iterable[Execution], worker: str, why: str) -> list[Event]:
    """Return what has become of executions whose worker lost its lease. ``why``: that it lost its lease."""
    return [Event(*one.key, "fenced", worker, f"{why}{_end(one)}") for one in executions]


def _end(execution: Execution) -> str:
    if not execution.is_over():
        return " and has sent KILL, which has not ended it yet"
    process = execution.process
    found = None if process is None or process.was_signalled else process.exit
    if found is None or (found.code is None and found.signal in (None, signal.SIGKILL)):
        return " and ended it"
    how = f"signal {found.signal}" if found.code is None else f"exit code {found.code}"
    return f"; its program had already ended with {how}; the result was discarded"


def events_of_stuck(executions: Iterable[Execution], worker: str) -> list[Event]:
    """Return, once each, of those whose programs have not ended that KILL does not end them. Logs them."""
    found = []
    for one in executions:
        if one.process is not None and not one.is_reported and not one.is_over():
            one.is_reported = True
            found.append(_unanswered(one, worker, why_alive(one.process, has_run=False)))
    return found


def _unanswered(execution: Execution, worker: str, why: str) -> Event:
    execution.log.error("a program does not end", action="kill_unanswered", reason=why)
    return Event(*execution.key, "kill_unanswered", worker, why)
