"""Finish executions. Every write carries the fence. A result that comes too late is discarded with an event."""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import CLAIMING, LOCKED_BY_KEY, lists, rows, utcnow
from jobfac.database.tables import attempt, run
from jobfac.database.types import BigId, Word, sql_literals
from jobfac.states import FINAL, HELD, RunState
from jobfac.store.runs import admission
from jobfac.store.runs.event import Event
from jobfac.store.runs.events import record
from jobfac.store.runs.reporting import cut
from jobfac.store.runs.stopping import why_stopped

POISON_ATTEMPTS = 3
"""By default a run ends as lost after this many attempts that were lost with their worker."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one execution, as its worker saw it.

    Attributes:
        state: a final state, or ``queued`` to requeue the run.
        ended: a time of this machine's monotonic clock. Only its distance to now is used; the stored time comes from
            the database's clock.
        retry_after: seconds until the next attempt; None: no retry, or, of a requeued run, at once.
        rule: the run's rule, if the worker knows it; None: it is read from the database.
        cpu_seconds, peak_memory: what the program used; bytes.
        created_at: that of its run. A restored database may have given its id to another run. None: not known.
    """

    run_id: int
    attempt: int
    state: RunState
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    exit_message: str | None = None
    outputs: str | None = None
    pid: int | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    ended: float = field(default_factory=time.monotonic)
    retry_after: float | None = None
    rule: admission.Rule | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    created_at: datetime | None = None


class Finished(NamedTuple):
    """A run that reached a final state in this transaction."""

    run_id: int
    job: str
    state: RunState
    sequence_run_id: int | None
    visit_id: int | None


class HeldRun(NamedTuple):
    """A locked row of a run, with the columns that its end needs. ``lost``: attempts lost with their worker."""

    id: int
    job: str
    state: str
    attempt: int
    worker_id: int | None
    failures: int
    restartable: bool
    already_running: str
    concurrency_key: str | None
    sequence_run_id: int | None
    visit_id: int | None
    stop_by: str | None
    notify: str | None
    lost: int | None
    created_at: datetime

    @property
    def rule(self) -> admission.Rule:
        """The run's rule."""
        return admission.Rule(self.job, self.already_running, self.concurrency_key)

    def finished(self, state: RunState) -> Finished:
        """Return the run as finished in this state."""
        return Finished(self.id, self.job, state, self.sequence_run_id, self.visit_id)


_HELD_COLUMNS = tuple(run.c[name] for name in HeldRun._fields)

_LOCK = (
    sa.select(*_HELD_COLUMNS)
    .with_hint(run, LOCKED_BY_KEY, "mssql")
    .where(run.c.id == lists.ids().c.value)
    .order_by(run.c.id)
)

_ENDED = {
    "run_id": BigId, "fence": run.c.attempt.type, "holder": BigId, "state": Word, "state_after": Word, "ago": BigId,
    "again_in": BigId, "failed": run.c.failures.type, "exit_code": run.c.exit_code.type, "signal": run.c.signal.type,
    "reason": run.c.reason.type, "exit_message": run.c.exit_message.type, "outputs": run.c.outputs.type,
    "pid": attempt.c.pid.type, "stdout_path": attempt.c.stdout_path.type, "stderr_path": attempt.c.stderr_path.type,
    "cpu_seconds": attempt.c.cpu_seconds.type, "peak_memory": BigId,
}  # fmt: skip
"""The columns that ``_values`` returns."""


def _fence(input_rows: sa.Subquery) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the fence: the condition that matches only the execution that has ended."""
    c = input_rows.c
    return run.c.id == c.run_id, run.c.attempt == c.fence, run.c.worker_id == c.holder


@functools.cache
def _end(engine: str) -> sa.Update:
    input_rows = rows.rows_table(engine, **_ENDED)
    names = ("state", "exit_code", "signal", "reason", "exit_message", "outputs", "cpu_seconds", "peak_memory")
    values: dict[str, Any] = {name: input_rows.c[name] for name in names}
    values |= {"ended_at": utcnow(input_rows.c.ago), "failures": run.c.failures + input_rows.c.failed}
    change = run.update().where(*_fence(input_rows), sa.text(f"input_rows.state IN ({sql_literals(FINAL)})"))
    return rows.by_primary_key(change.values(values), run)


@functools.cache
def _requeue(engine: str) -> sa.Update:
    input_rows = rows.rows_table(engine, **_ENDED)
    c = input_rows.c
    names = ("state", "reason", "exit_code", "signal", "cpu_seconds", "peak_memory")
    values: dict[str, Any] = {name: c[name] for name in names}
    values |= {"ready_at": utcnow(c.again_in), "queued_at": utcnow(), "failures": run.c.failures + c.failed}
    values |= dict.fromkeys(("worker_id", "worker", "progress", "message"), sa.null())
    change = run.update().where(*_fence(input_rows), sa.text(f"input_rows.state NOT IN ({sql_literals(FINAL)})"))
    return rows.by_primary_key(change.values(values), run)


@functools.cache
def _close_attempts(engine: str) -> sa.Update:
    c = rows.rows_table(engine, **_ENDED).c
    names = ("exit_code", "signal", "reason", "pid", "stdout_path", "stderr_path", "cpu_seconds", "peak_memory")
    values = {"state": c.state_after, "ended_at": utcnow(c.ago), **{name: c[name] for name in names}}
    change = attempt.update().where(attempt.c.run_id == c.run_id, attempt.c.number == c.fence)
    return rows.by_primary_key(change.values(values), attempt)


def _write(conn: sa.Connection, ends: Sequence[Mapping[str, Any]]) -> None:
    """End or requeue runs, and close their attempts: three statements at most, for any number of runs."""
    if not ends:
        return
    engine, parameter = conn.dialect.name, rows.rows_parameter(ends)
    if any(values["state"] in FINAL for values in ends):
        conn.execute(_end(engine), parameter)
    if any(values["state"] not in FINAL for values in ends):
        conn.execute(_requeue(engine), parameter)
    conn.execute(_close_attempts(engine), parameter)


def rules_of(conn: sa.Connection, outcomes: Sequence[Outcome]) -> list[admission.Rule]:
    """Return the rules of the runs of these outcomes. Rules that no outcome contains are read without locks."""
    known = [outcome.rule for outcome in outcomes if outcome.rule is not None]
    unknown = [outcome.run_id for outcome in outcomes if outcome.rule is None]
    return known + (admission.rules_of(conn, lists.by_id(run.c.id, unknown)) if unknown else [])


def finish(conn: sa.Connection, worker_id: int, outcomes: Sequence[Outcome], by: str) -> list[Finished]:
    """Store the outcomes of this worker's executions, retry or end their runs, and admit the runs that waited for them.

    Returns the runs that ended. Safe to repeat: an outcome that is already stored is recognised and stays unchanged.
    """
    if not outcomes:
        return []
    # Before any row lock. Other transactions that decide about the same rule see all of these changes or none.
    admission.lock(conn, rules_of(conn, outcomes))
    found = {row.id: HeldRun(*row) for row in conn.execute(_LOCK, {"ids": lists.as_list(o.run_id for o in outcomes)})}
    ends: list[dict[str, Any]] = []
    events: list[Event] = []
    finished: list[Finished] = []
    freed: list[admission.Rule] = []
    mine: list[tuple[HeldRun, Outcome]] = []
    others: list[Outcome] = []
    for outcome in outcomes:
        row = found.get(outcome.run_id)
        if row is None or outcome.created_at not in (None, row.created_at):
            continue  # the database has forgotten the run
        if _is_mine(row, outcome, worker_id):
            mine.append((row, outcome))
        else:
            others.append(outcome)
    events += [_discarded(one, by) for one in _not_stored(conn, others, worker_id)]
    for row, outcome in mine:
        state, failed = _next_state(row, outcome)
        if state == RunState.STOPPED and row.stop_by:
            why = why_stopped(row.stop_by, outcome.state, outcome.reason, outcome.pid, row.attempt)
            outcome = replace(outcome, reason=why)
        ends.append(_values(outcome, worker_id, state, failed))
        detail = outcome.reason
        if state == RunState.SCHEDULED:
            what = "" if outcome.state == RunState.QUEUED else f"{outcome.state}: "
            detail = f"{what}{outcome.reason or 'no reason given'}; again in {outcome.retry_after:.1f} s"
        events.append(Event(outcome.run_id, outcome.attempt, state, by, detail, row.notify))
        if state in FINAL:
            finished.append(row.finished(state))
        if state != RunState.QUEUED:
            freed.append(row.rule)
    _write(conn, ends)
    record(conn, events)
    admission.release_blocked(conn, freed, by)
    return finished


def requeue(
    conn: sa.Connection, lost: Sequence[HeldRun], why: str, by: str, poison_attempts: int | None = None
) -> list[Finished]:
    """Requeue held runs whose worker is gone, or end them: ``stopped`` if a stop was requested, else ``lost``.

    Returns the runs that ended.

    Args:
        lost: runs as ``lock_held`` returns them in this transaction.
        why: the attempt's reason, such as "its worker died".
        poison_attempts: count the loss, because the worker died; a run ends as lost at this count. None: do not count.
    """
    ends: list[dict[str, Any]] = []
    events: list[Event] = []
    finished: list[Finished] = []
    freed: list[admission.Rule] = []
    admission.lock_late(conn, [row.rule for row in lost])
    for row in lost:
        state, reason = _after_loss(row, why, poison_attempts)
        outcome = Outcome(row.id, row.attempt, RunState.LOST, reason=reason)
        ends.append(_values(outcome, row.worker_id, state, failed=0))
        events.append(Event(row.id, row.attempt, state, by, reason, row.notify))
        if state in FINAL:
            finished.append(row.finished(state))
            freed.append(row.rule)
    _write(conn, ends)
    if poison_attempts is not None and lost:
        change = run.update().where(lists.by_id(run.c.id, (row.id for row in lost)))
        conn.execute(rows.by_primary_key(change.values(lost=sa.func.coalesce(run.c.lost, 0) + 1), run))
    record(conn, events)
    admission.release_blocked(conn, freed, by)
    return finished


def _after_loss(row: HeldRun, why: str, poison_attempts: int | None) -> tuple[RunState, str]:
    """Return the next state of a run whose worker is gone, and the reason to show."""
    if row.state == RunState.STOPPING:
        return RunState.STOPPED, f"{why} while it was being stopped by {row.stop_by}" if row.stop_by else why
    if not row.restartable:
        return RunState.LOST, why
    times = (row.lost or 0) + 1
    if poison_attempts is not None and times >= poison_attempts:
        words = {1: "once", 2: "twice", 3: "three times", 4: "four times", 5: "five times"}
        return RunState.LOST, f"its worker died {words.get(times, f'{times} times')} while it ran"
    return RunState.QUEUED, why


def end(conn: sa.Connection, run_id: int, state: RunState, reason: str | None, by: str) -> Finished:
    """End a running sequence, which no worker holds. The caller must have locked its row and checked that it runs."""
    row = HeldRun(*conn.execute(sa.select(*_HELD_COLUMNS).where(run.c.id == run_id)).one())
    admission.lock_late(conn, [row.rule])
    conn.execute(run.update().where(run.c.id == run_id).values(state=state, reason=cut(reason), ended_at=utcnow()))
    record(conn, [Event(run_id, row.attempt, state, by, reason, row.notify)])
    admission.release_blocked(conn, [row.rule], by)
    return row.finished(state)


def lock_held(
    conn: sa.Connection, condition: sa.ColumnElement[bool], limit: int | None = None, wait: bool = True
) -> list[HeldRun]:
    """Lock and return up to ``limit`` running and stopping runs that match ``condition``; None: all of them.

    ``wait``: wait for rows that another transaction has locked; False: pass over them.
    """
    query = (
        sa.select(*_HELD_COLUMNS)
        .with_hint(run, LOCKED_BY_KEY if wait else CLAIMING, "mssql")
        .where(sa.text(f"state IN ({sql_literals(HELD)})"), condition)
        .order_by(run.c.id)
        .limit(limit)
    )
    return [HeldRun(*row) for row in conn.execute(query)]


def _is_mine(row: HeldRun, outcome: Outcome, worker_id: int) -> bool:
    return row.attempt == outcome.attempt and row.worker_id == worker_id and row.state in HELD


def _not_stored(conn: sa.Connection, outcomes: Sequence[Outcome], worker_id: int) -> list[Outcome]:
    """Return the outcomes that came too late. The others are stored: only the answer to their commit was lost."""
    if not outcomes:
        return []
    query = sa.select(attempt.c.run_id, attempt.c.number).where(
        lists.by_id(attempt.c.run_id, (o.run_id for o in outcomes)),
        attempt.c.worker_id == worker_id,
        attempt.c.state != RunState.LOST,
    )
    stored = {(row.run_id, row.number) for row in conn.execute(query)}
    return [o for o in outcomes if (o.run_id, o.attempt) not in stored]


def _discarded(outcome: Outcome, by: str) -> Event:
    what = f"attempt {outcome.attempt} ended {outcome.state} after its lease was lost; the result was discarded"
    return Event(outcome.run_id, outcome.attempt, "discarded", by, what)


def _next_state(row: HeldRun, outcome: Outcome) -> tuple[RunState, int]:
    """Return the next state of the run, and how many retries (0 or 1) it uses."""
    stopping = row.state == RunState.STOPPING
    if outcome.state == RunState.QUEUED:
        again = row.restartable or outcome.pid is None  # without a process id nothing was started
        if stopping or not again:
            return RunState.STOPPED if stopping else RunState.LOST, 0
        return RunState.QUEUED if outcome.retry_after is None else RunState.SCHEDULED, 0
    if outcome.retry_after is not None and not stopping:
        return RunState.SCHEDULED, 1
    return outcome.state, 0


def _values(outcome: Outcome, worker_id: int | None, state: RunState, failed: int) -> dict[str, Any]:
    return {
        "run_id": outcome.run_id,
        "fence": outcome.attempt,
        "holder": worker_id,
        "state": state,
        "state_after": RunState.STOPPED if outcome.state == RunState.QUEUED else outcome.state,
        "ago": -round((time.monotonic() - outcome.ended) * 1000),
        "again_in": round((outcome.retry_after or 0.0) * 1000),
        "failed": failed,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "reason": cut(outcome.reason),
        "exit_message": cut(outcome.exit_message),
        "outputs": outcome.outputs,
        "pid": outcome.pid,
        "stdout_path": cut(outcome.paths.get("stdout")),
        "stderr_path": cut(outcome.paths.get("stderr")),
        "cpu_seconds": outcome.cpu_seconds,
        "peak_memory": outcome.peak_memory,
    }
