"""A model of a sequence run in memory, advanced by the pure decisions. The database must show the same at any time."""

from collections.abc import Callable, Collection
from typing import Any

from jobfac.definitions import Sequence, Step
from jobfac.states import FINAL, Decision, RunState, StepResult, Waiting
from jobfac.store.sequences.decide import (
    Enter,
    Leave,
    Visit,
    decide,
    is_given_up,
    is_open,
    leave,
    outcome,
    step_of,
    to_start,
)

REFUSED = "off"
"""The job whose starts are always refused."""


class Stay:
    """A visit of a step.

    ``jobs``: by job, its final state, None if it has not ended, or the model of a nested sequence run; with
    ``for_each`` by ``JOB[PLACE]``. ``ended``: the states of the ended jobs, in order. ``waits``: what it waits
    for, if not for runs.
    """

    def __init__(self, step: str, number: int, waits: Waiting | None = None) -> None:
        self.waits = waits
        self.decision: Decision | None = None
        self.unstarted = 0
        self.step = step
        self.number = number
        self.jobs: dict[str, RunState | Model | None] = {}
        self.ended: list[RunState] = []
        self.left: Leave | None = None

    def visit(self) -> Visit:
        result, to = self.left or (None, None)
        running = len(self.jobs) - len(self.ended)
        return Visit(self.step, self.ended, running, result, to, self.unstarted, self.decision)


Held = Callable[[Stay], Collection[str]]
"""Returns which jobs of a visit a worker holds: a stop ends the others at once."""


def _waiting(step: Step) -> Waiting | None:
    if step.wait is None:
        return Waiting.APPROVAL if step.approve is not None else None
    return Waiting.FILE if step.wait.file else Waiting.HTTP if step.wait.http else Waiting.TIME


class Model:
    """The run of one sequence."""

    def __init__(
        self, name: str, definitions: dict[str, Sequence], held: Held, outer: "tuple[Model, Stay] | None" = None
    ) -> None:
        self.held = held
        self.name = name
        self.definitions = definitions
        self.outer = outer
        self.begun = False
        self.stopping = False
        self.state: RunState | None = None
        self.stays: list[Stay] = []

    def begin(self, now: Any) -> None:
        """Begin this run and all nested runs that have not begun yet."""
        if not self.begun and self.state is None:
            self.begun = True
            self.go_on(now)
        for stay in self.stays:
            for nested in list(stay.jobs.values()):
                if isinstance(nested, Model):
                    nested.begin(now)

    def end(self, stay: Stay, job: str, state: RunState) -> None:
        """Record that a job has ended. The run advances only with ``go_on``."""
        if not isinstance(stay.jobs[job], Model):
            stay.jobs[job] = state
        stay.ended.append(state)

    def go_on(self, now: Any) -> None:
        """Advance as far as possible."""
        sequence = self.definitions[self.name]
        while self.begun and self.state is None and not self.stopping:
            if self.stays:
                step = step_of(sequence, self.stays[-1].step)
                self._give_up(self.stays[-1], step)
                self._start_more(self.stays[-1], step)
            last = self.stays[-1].visit() if self.stays else None
            goal = last.to.step if last is not None and last.to is not None else None
            move = decide(sequence, last, sum(stay.step == goal for stay in self.stays))
            if move is None:
                return
            if isinstance(move, Enter):
                self._enter(sequence, move.step, now)
            elif isinstance(move, Leave):
                self.stays[-1].left = move
            elif self._busy():
                return
            else:
                self._finish(outcome(move, [stay.visit() for stay in self.stays])[0], now)
        if self.stopping and self.state is None and not self._busy():
            self._finish(RunState.STOPPED, now)

    def _enter(self, sequence: Sequence, name: str, now: Any) -> None:
        step = step_of(sequence, name)
        stay = Stay(name, 1 + sum(one.step == name for one in self.stays), _waiting(step))
        self.stays.append(stay)
        if not is_open(step, now):
            stay.left = leave(sequence, step, StepResult.SKIPPED)
            return
        if step.for_each:
            (values,) = step.for_each.values()
            stay.unstarted = len(values) * len(step.jobs)
            return
        for job in step.jobs:
            stay.jobs[job] = Model(job, self.definitions, self.held, (self, stay)) if job in self.definitions else None
            if job == REFUSED:
                self.end(stay, job, RunState.DENIED)

    def _give_up(self, stay: Stay, step: Step) -> None:
        """With ``stop_on_failure`` end what waits for a worker, after the first failure."""
        waiting = [job for job, state in stay.jobs.items() if state is None]
        if waiting and step.for_each and stay.left is None and is_given_up(step, stay.ended):
            held = self.held(stay)
            for job in waiting:
                if job not in held:
                    self.end(stay, job, RunState.STOPPED)

    def _start_more(self, stay: Stay, step: Step) -> None:
        """Start the next runs of a step with ``for_each``."""
        if not step.for_each or stay.left is not None:
            return
        for _ in range(to_start(step, stay.visit())):
            at, job = divmod(len(stay.jobs), len(step.jobs))
            stay.jobs[f"{step.jobs[job]}[{at}]"] = None
            stay.unstarted -= 1

    def decided(self, decision: Decision, now: Any) -> None:
        """Apply how the waiting of the current step ended."""
        self.stays[-1].decision = decision
        self.go_on(now)

    def waits_for(self) -> Waiting | None:
        """What the current step waits for, if not for runs."""
        if self.state is not None or self.stopping or not self.stays or self.stays[-1].decision is not None:
            return None
        return self.stays[-1].waits if self.stays[-1].left is None else None

    def _busy(self) -> bool:
        return any(len(stay.ended) < len(stay.jobs) for stay in self.stays)

    def _finish(self, state: RunState, now: Any) -> None:
        self.state = state
        if self.outer is not None:
            outer, stay = self.outer
            outer.end(stay, self.name, state)
            outer.go_on(now)

    def stopped(self, path: list[dict[str, Any]], now: Any) -> None:
        """Apply a stop request. Jobs that had not begun end with the states in ``path``."""
        self.stopping = True
        for stay, shown in zip(self.stays, path, strict=True):
            for one in shown["runs"]:
                mine = stay.jobs[key_of(one)]
                if isinstance(mine, Model) and mine.state is None:
                    if mine.begun:
                        mine.stopped(one["path"], now)
                    else:
                        mine.state = RunState.STOPPED
                        stay.ended.append(RunState.STOPPED)
                elif mine is None and one["state"] in FINAL:
                    self.end(stay, key_of(one), RunState(one["state"]))
        self.go_on(now)

    def shown(self) -> list[Any]:
        """Return the step history, for comparison with ``seen``."""
        return [
            (
                stay.step,
                stay.number,
                stay.left and stay.left.result,
                stay.left and (stay.left.to.step or stay.left.to.kind),
                stay.decision,
                sorted((job, self._job(mine)) for job, mine in stay.jobs.items()),
            )
            for stay in self.stays
        ]

    def _job(self, mine: "RunState | Model | None") -> Any:
        return [mine.state or "", mine.shown()] if isinstance(mine, Model) else mine or ""


def seen(path: list[dict[str, Any]]) -> list[Any]:
    """Return the step history in the database, without the states of runs that have not ended."""
    return [
        (
            v["step"],
            v["number"],
            v["result"],
            v["next"],
            v["decision"],
            sorted((key_of(run), _seen(run)) for run in v["runs"]),
        )
        for v in path
    ]


def key_of(run: dict[str, Any]) -> str:
    """The name of a run in its visit."""
    return str(run["job"]) if run["item"] is None else f"{run['job']}[{run['item']}]"


def _seen(run: dict[str, Any]) -> Any:
    state = run["state"] if run["state"] in FINAL else ""
    return [state, seen(run["path"])] if run.get("kind") == "sequence" else state
