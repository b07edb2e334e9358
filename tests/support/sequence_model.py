"""A model of a sequence run in memory, advanced by the pure decisions. The database must show the same at any time."""

from typing import Any

from jobfac.definitions import Sequence
from jobfac.states import FINAL, RunState, StepResult
from jobfac.store.sequences.decide import Enter, Leave, Visit, decide, is_open, leave, outcome, step_of

REFUSED = "off"
"""The job whose starts are always refused."""


class Stay:
    """A visit of a step.

    ``jobs``: by job, its final state, None if it has not ended, or the model of a nested sequence run. ``ended``: the
    states of the ended jobs, in order.
    """

    def __init__(self, step: str, number: int) -> None:
        self.step = step
        self.number = number
        self.jobs: dict[str, RunState | Model | None] = {}
        self.ended: list[RunState] = []
        self.left: Leave | None = None

    def visit(self) -> Visit:
        return Visit(self.step, self.ended, len(self.jobs) - len(self.ended), *(self.left or (None, None)))


class Model:
    """The run of one sequence."""

    def __init__(self, name: str, definitions: dict[str, Sequence], outer: "tuple[Model, Stay] | None" = None) -> None:
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
        stay = Stay(name, 1 + sum(one.step == name for one in self.stays))
        self.stays.append(stay)
        if not is_open(step, now):
            stay.left = leave(sequence, step, StepResult.SKIPPED)
            return
        for job in step.jobs:
            stay.jobs[job] = Model(job, self.definitions, (self, stay)) if job in self.definitions else None
            if job == REFUSED:
                self.end(stay, job, RunState.DENIED)

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
                mine = stay.jobs[one["job"]]
                if isinstance(mine, Model) and mine.state is None:
                    if mine.begun:
                        mine.stopped(one["path"], now)
                    else:
                        mine.state = RunState.STOPPED
                        stay.ended.append(RunState.STOPPED)
                elif mine is None and one["state"] in FINAL:
                    self.end(stay, one["job"], RunState(one["state"]))
        self.go_on(now)

    def shown(self) -> list[Any]:
        """Return the step history, for comparison with ``seen``."""
        return [
            (
                stay.step,
                stay.number,
                stay.left and stay.left.result,
                stay.left and (stay.left.to.step or stay.left.to.kind),
                sorted((job, self._job(mine)) for job, mine in stay.jobs.items()),
            )
            for stay in self.stays
        ]

    def _job(self, mine: "RunState | Model | None") -> Any:
        return [mine.state or "", mine.shown()] if isinstance(mine, Model) else mine or ""


def seen(path: list[dict[str, Any]]) -> list[Any]:
    """Return the step history in the database, without the states of runs that have not ended."""
    return [
        (v["step"], v["number"], v["result"], v["next"], sorted((run["job"], _seen(run)) for run in v["runs"]))
        for v in path
    ]


def _seen(run: dict[str, Any]) -> Any:
    state = run["state"] if run["state"] in FINAL else ""
    return [state, seen(run["path"])] if run.get("kind") == "sequence" else state
