"""Finishing executions: every write carries the fence, and a result that comes too late is discarded, visibly."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.dialects import LOCKED, utcnow
from jobfac.runs import gates
from jobfac.runs.events import Event, record
from jobfac.states import FINAL, HELD, RunState
from jobfac.tables import attempt, fitting, run, spelled


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one execution ended, as its worker saw it.

    ``state`` is final, or ``queued`` to give the run back unharmed. ``ended`` is a time of this machine's monotonic
    clock, of which only the distance to now is used: the time stored is the database's. ``retry_after`` seconds: try
    again then.
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


class Finished(NamedTuple):
    """A run that reached a final state just now."""

    run_id: int
    job: str
    state: RunState
    sequence_run_id: int | None
    visit_id: int | None


_HELD_COLUMNS = (
    run.c.id, run.c.job, run.c.state, run.c.attempt, run.c.worker_id, run.c.failures, run.c.restartable,
    run.c.already_running, run.c.concurrency_key, run.c.sequence_run_id, run.c.visit_id, run.c.stop_by,
    run.c.notify,
)  # fmt: skip

_LOCK = (
    sa.select(*_HELD_COLUMNS).with_hint(run, LOCKED, "mssql").where(run.c.id.in_(sa.bindparam("ids", expanding=True)))
)

_AGO = utcnow(sa.bindparam("p_ago", type_=sa.BigInteger))
# Names with p_: SQLAlchemy reads a parameter that is named like a column as a value to SET.
_FENCE = (
    run.c.id == sa.bindparam("p_run_id"),
    run.c.attempt == sa.bindparam("p_fence"),
    run.c.worker_id == sa.bindparam("p_holder"),
)
_SET: dict[str, Any] = {
    name: sa.bindparam(f"p_{name}") for name in ("state", "exit_code", "signal", "reason", "exit_message", "outputs")
}

_END = (
    run.update()
    .where(*_FENCE)
    .values({**_SET, "ended_at": _AGO, "failures": run.c.failures + sa.bindparam("p_failed")})
)
_AGAIN = (
    run.update()
    .where(*_FENCE)
    .values(
        state=sa.bindparam("p_state"),
        reason=sa.bindparam("p_reason"),
        exit_code=sa.bindparam("p_exit_code"),
        signal=sa.bindparam("p_signal"),
        ready_at=utcnow(sa.bindparam("p_wait", type_=sa.BigInteger)),
        queued_at=utcnow(),
        failures=run.c.failures + sa.bindparam("p_failed"),
        worker_id=None,
        worker=None,
        progress=None,
        message=None,
    )
)
_CLOSE = (
    attempt.update()
    .where(attempt.c.run_id == sa.bindparam("p_run_id"), attempt.c.number == sa.bindparam("p_fence"))
    .values(
        state=sa.bindparam("p_verdict"),
        exit_code=sa.bindparam("p_exit_code"),
        signal=sa.bindparam("p_signal"),
        reason=sa.bindparam("p_reason"),
        ended_at=_AGO,
        pid=sa.bindparam("p_pid"),
        stdout_path=sa.bindparam("p_stdout_path"),
        stderr_path=sa.bindparam("p_stderr_path"),
    )
)


def finish(conn: sa.Connection, worker_id: int, outcomes: Sequence[Outcome], by: str) -> list[Finished]:
    """Store the outcomes of this worker's executions, retry or end their runs, and free what waited for them.

    Safe to repeat: an outcome that is stored already is recognised and left as it is.
    """
    if not outcomes:
        return []
    rows = {row["id"]: row for row in conn.execute(_LOCK, {"ids": [o.run_id for o in outcomes]}).mappings()}
    ends: list[dict[str, Any]] = []
    agains: list[dict[str, Any]] = []
    events: list[Event] = []
    finished: list[Finished] = []
    freed: list[Mapping[Any, Any]] = []
    mine = {o.run_id for o in outcomes if o.run_id in rows and _is_mine(rows[o.run_id], o, worker_id)}
    late = [o for o in outcomes if o.run_id in rows and o.run_id not in mine]
    events += [_discarded(o, by) for o in _not_stored(conn, late, worker_id)]
    # Before anything is changed: who decides about the same rule meanwhile sees all of this or nothing.
    gates.lock(conn, [rows[run_id] for run_id in mine])
    for outcome in outcomes:
        if outcome.run_id not in mine:
            continue
        row = rows[outcome.run_id]
        state, failed = _next_state(row, outcome)
        if outcome.state == RunState.STOPPED and row["stop_by"]:
            outcome = replace(outcome, reason=f"{outcome.reason or 'stopped'} by {row['stop_by']}")
        values = _values(outcome, worker_id, state, failed)
        (ends if state in FINAL else agains).append(values)
        detail = outcome.reason
        if state == RunState.SCHEDULED:
            detail = f"{outcome.state}: {outcome.reason or 'no reason given'}; again in {outcome.retry_after:.1f} s"
        events.append(Event(outcome.run_id, outcome.attempt, state, by, detail, row["notify"]))
        if state in FINAL:
            finished.append(Finished(row["id"], row["job"], state, row["sequence_run_id"], row["visit_id"]))
        if state != RunState.QUEUED:
            freed.append(row)
    if ends:
        conn.execute(_END, ends)
    if agains:
        conn.execute(_AGAIN, agains)
    if ends or agains:
        conn.execute(_CLOSE, ends + agains)
    record(conn, events)
    gates.release_blocked(conn, freed, by)
    return finished


def give_back(conn: sa.Connection, rows: Sequence[Mapping[Any, Any]], why: str, by: str) -> list[Finished]:
    """Settle held runs whose worker is gone: back to the queue, or ``lost``, or ``stopped`` if a stop was asked for.

    Args:
        rows: as ``held`` selects them, locked in this transaction.
        why: the attempt's reason, such as "its worker died".
    """
    finished = []
    gates.lock(conn, rows)
    for row in rows:
        stopping = row["state"] == RunState.STOPPING
        state = RunState.STOPPED if stopping else RunState.QUEUED if row["restartable"] else RunState.LOST
        outcome = Outcome(row["id"], row["attempt"], RunState.LOST, reason=why)
        values = _values(outcome, row["worker_id"], state, failed=0)
        conn.execute(_END if state in FINAL else _AGAIN, values)
        conn.execute(_CLOSE, values)
        record(conn, [Event(row["id"], row["attempt"], state, by, why, row["notify"])])
        if state in FINAL:
            finished.append(Finished(row["id"], row["job"], state, row["sequence_run_id"], row["visit_id"]))
    gates.release_blocked(conn, [row for row in rows if row["id"] in {f.run_id for f in finished}], by)
    return finished


def end(conn: sa.Connection, run_id: int, state: RunState, reason: str | None, by: str) -> Finished:
    """End a running sequence, which no worker holds. The caller has locked its row and seen that it is running."""
    row = conn.execute(sa.select(*_HELD_COLUMNS).where(run.c.id == run_id)).mappings().one()
    gates.lock(conn, [row])
    conn.execute(run.update().where(run.c.id == run_id).values(state=state, reason=_cut(reason), ended_at=utcnow()))
    record(conn, [Event(run_id, row["attempt"], state, by, reason, row["notify"])])
    gates.release_blocked(conn, [row], by)
    return Finished(run_id, row["job"], state, row["sequence_run_id"], row["visit_id"])


def held(conn: sa.Connection, condition: sa.ColumnElement[bool], limit: int) -> Sequence[sa.RowMapping]:
    """Running and stopping runs that fit, locked, in the form that ``give_back`` takes."""
    query = (
        sa.select(*_HELD_COLUMNS)
        .with_hint(run, LOCKED, "mssql")
        .where(sa.text(f"state IN ({spelled(HELD)})"), condition)
        .order_by(run.c.id)
        .limit(limit)
    )
    return conn.execute(query).mappings().all()


def note_program(conn: sa.Connection, run_id: int, number: int, pid: int | None, paths: Mapping[str, str]) -> None:
    """Show which process executes a run, and to which files its streams go, while it still runs."""
    conn.execute(
        attempt.update()
        .where(attempt.c.run_id == run_id, attempt.c.number == number)
        .values(pid=pid, stdout_path=_cut(paths.get("stdout")), stderr_path=_cut(paths.get("stderr")))
    )


def _is_mine(row: Mapping[Any, Any], outcome: Outcome, worker_id: int) -> bool:
    return (
        row["attempt"] == outcome.attempt
        and row["worker_id"] == worker_id
        and row["state"] in (RunState.RUNNING, RunState.STOPPING)
    )


def _not_stored(conn: sa.Connection, outcomes: Sequence[Outcome], worker_id: int) -> list[Outcome]:
    """Those that came too late. The others are stored: their commit succeeded and only its answer was lost."""
    if not outcomes:
        return []
    query = sa.select(attempt.c.run_id, attempt.c.number).where(
        attempt.c.run_id.in_([o.run_id for o in outcomes]),
        attempt.c.worker_id == worker_id,
        attempt.c.state != RunState.LOST,
    )
    stored = {(row.run_id, row.number) for row in conn.execute(query)}
    return [o for o in outcomes if (o.run_id, o.attempt) not in stored]


def _discarded(outcome: Outcome, by: str) -> Event:
    what = f"attempt {outcome.attempt} ended {outcome.state} after its lease was lost; the result was discarded"
    return Event(outcome.run_id, outcome.attempt, "discarded", by, what)


def _next_state(row: Mapping[Any, Any], outcome: Outcome) -> tuple[RunState, int]:
    """Where the run goes, and whether a retry was used up by it."""
    stopping = row["state"] == RunState.STOPPING
    if outcome.state == RunState.QUEUED:
        return (RunState.STOPPED if stopping else RunState.QUEUED if row["restartable"] else RunState.LOST), 0
    if outcome.retry_after is not None and not stopping:
        return RunState.SCHEDULED, 1
    return outcome.state, 0


def _values(outcome: Outcome, worker_id: int, state: RunState, failed: int) -> dict[str, Any]:
    verdict = RunState.STOPPED if outcome.state == RunState.QUEUED else outcome.state
    return {
        "p_run_id": outcome.run_id,
        "p_fence": outcome.attempt,
        "p_holder": worker_id,
        "p_state": state.value,
        "p_verdict": verdict.value,
        "p_exit_code": outcome.exit_code,
        "p_signal": outcome.signal,
        "p_reason": _cut(outcome.reason),
        "p_exit_message": _cut(outcome.exit_message),
        "p_outputs": outcome.outputs,
        "p_pid": outcome.pid,
        "p_stdout_path": _cut(outcome.paths.get("stdout")),
        "p_stderr_path": _cut(outcome.paths.get("stderr")),
        "p_ago": -round((time.monotonic() - outcome.ended) * 1000),
        "p_wait": round((outcome.retry_after or 0.0) * 1000),
        "p_failed": failed,
    }


def _cut(text: str | None) -> str | None:
    return None if text is None else fitting(text, 1000)


def report_progress(
    conn: sa.Connection, run_id: int, attempt_number: int, progress: float | None, message: str | None
) -> None:
    """Show how far an execution has come; a later attempt of the run is left alone."""
    conn.execute(
        run.update()
        .where(run.c.id == run_id, run.c.attempt == attempt_number, run.c.state.in_(HELD))
        .values(progress=progress, message=message)
    )
