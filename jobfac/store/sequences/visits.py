"""The visits of a sequence run in the database: one row for every entry into a step."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import utcnow
from jobfac.database.tables import run, visit
from jobfac.database.types import sql_literals, truncate_utf16
from jobfac.definitions import Go, Step
from jobfac.states import ACTIVE, FINAL, Decision, RunState, StepResult, StepStart, Waiting
from jobfac.store.sequences.decide import FAN_OUT, Leave, Visit

ANCESTORS = 100
"""The maximum length of a chain of retried runs that counts."""


class Unstarted(NamedTuple):
    """Jobs of a visit that it did not start, with ``for_each`` as ``JOB[PLACE]``.

    ``refused``: why a job could not be started. ``taken``: the run whose success counts instead; it belongs to a run
    that this one continues.
    """

    refused: Mapping[str, str]
    taken: Mapping[str, int]

    @classmethod
    def read(cls, text: str | None) -> "Unstarted":
        """Read the column ``refused``: JSON, by job a reason or the id of a run."""
        found = json.loads(text) if text else {}
        taken = {name: one for name, one in found.items() if isinstance(one, int)}
        return cls({name: one for name, one in found.items() if name not in taken}, taken)


def named(job: str, place: int) -> str:
    """Return the name of a job with the value at this place of ``for_each``."""
    return f"{job}[{place}]"


def place_of(name: str) -> tuple[str, int]:
    """Return the job and the place of the value that such a name stands for."""
    job, _, place = name.rpartition("[")
    return job, int(place[:-1])


class VisitRow(NamedTuple):
    """A row of a visit. ``refused``: JSON, as ``Unstarted.read`` takes it."""

    id: int
    run_id: int
    step: str
    number: int
    entered_at: datetime
    start: str
    proceed: str
    refused: str | None
    result: str | None
    decided_at: datetime | None
    goes_to: Literal["step", "end", "end_failed"] | None
    next_step: str | None
    reason: str | None
    children: int | None
    waits_for: str | None
    wake_at: datetime | None
    decision: str | None
    decided_by: str | None
    awaits: str | None
    pool: str | None
    parameters: str | None

    @property
    def unstarted(self) -> Unstarted:
        """The jobs that it did not start."""
        return Unstarted.read(self.refused)

    @property
    def refusals(self) -> Mapping[str, str]:
        """The jobs that could not be started, with the reasons."""
        return self.unstarted.refused


_COLUMNS = tuple(visit.c[name] for name in VisitRow._fields)


class Awaited(NamedTuple):
    """What a visit waits for, if not for runs.

    Attributes:
        wake_at: when the waiting ends automatically; None: never.
        awaits: of a file ``{"file": PATTERN, "stable": SECONDS}``, of an address ``{"http": URL, "every": SECONDS}``,
            where URL may be ``{"secret": REFERENCE}``. ``over``: when its time was over, if it got one more look.
        pool: the pool whose workers look for the file.
    """

    what: Waiting
    wake_at: datetime | None
    awaits: Mapping[str, Any] | None = None
    pool: str | None = None


class StoredVisit(NamedTuple):
    """A visit, and the id of its row. ``is_ripe``: its waiting time is over. ``given``: what its approver gave."""

    id: int
    visit: Visit
    is_ripe: bool = False
    given: str | None = None


_IS_RIPE = sa.case((visit.c.wake_at <= utcnow(), 1), else_=0).label("is_ripe")


def last(conn: sa.Connection, run_id: int) -> StoredVisit | None:
    """Return the latest visit of a sequence run, or None before the first visit."""
    query = sa.select(*_COLUMNS, _IS_RIPE).where(visit.c.run_id == run_id).order_by(visit.c.id.desc()).limit(1)
    row = conn.execute(query).first()
    if row is None:
        return None
    return StoredVisit(row.id, read(conn, [VisitRow(*row[:-1])])[0], bool(row.is_ripe), row.parameters)


def rows_of(conn: sa.Connection, run_id: int) -> list[VisitRow]:
    """Return the rows of all visits of a sequence run, oldest first."""
    query = sa.select(*_COLUMNS).where(visit.c.run_id == run_id).order_by(visit.c.id)
    return [VisitRow(*row) for row in conn.execute(query)]


def read(conn: sa.Connection, rows: Sequence[VisitRow]) -> list[Visit]:
    """Return the visits of these rows with the states of their runs, in the same order."""
    if not rows:
        return []
    states = {row.id: _without_run(row.unstarted) for row in rows}
    where = run.c.visit_id == rows[0].id if len(rows) == 1 else run.c.sequence_run_id == rows[0].run_id
    fans = [row for row in rows if row.children is not None]
    if len(fans) < len(rows):
        query = sa.select(run.c.visit_id, run.c.state).where(where, run.c.item.is_(None))
        for child in conn.execute(query.order_by(run.c.ended_at, run.c.id)):
            if child.visit_id in states:  # a purge may have removed it
                states[child.visit_id].append(RunState(child.state))
    if fans:  # counted by the database: a step may have thousands of runs
        counts = sa.select(run.c.visit_id, run.c.state, sa.func.count().label("number")).where(where)
        for found in conn.execute(counts.where(run.c.item.is_not(None)).group_by(run.c.visit_id, run.c.state)):
            if found.visit_id in states:
                states[found.visit_id] += [RunState(found.state)] * found.number
    return [_visit(row, states[row.id]) for row in rows]


def _without_run(unstarted: Unstarted) -> list[RunState]:
    """Return how the jobs of a visit ended that it did not start."""
    return [RunState.SUCCEEDED] * len(unstarted.taken) + [RunState.DENIED] * len(unstarted.refused)


def _visit(row: VisitRow, states: Sequence[RunState]) -> Visit:
    ended = [state for state in states if state in FINAL]
    result = None if row.result is None else StepResult(row.result)
    to = None if row.goes_to is None else Go(kind=row.goes_to, step=row.next_step)
    unstarted = 0 if row.children is None else row.children - len(states)
    decision = None if row.decision is None else Decision(row.decision)
    return Visit(row.step, ended, len(states) - len(ended), result, to, unstarted, decision)


def count(conn: sa.Connection, run_id: int, step: str) -> int:
    """Return how often a sequence run has entered a step."""
    query = sa.select(sa.func.max(visit.c.number)).where(visit.c.run_id == run_id, visit.c.step == step)
    return conn.execute(query).scalar() or 0


def number(conn: sa.Connection, run_id: int) -> int:
    """Return how many visits a sequence run has had."""
    query = sa.select(sa.func.count()).select_from(visit).where(visit.c.run_id == run_id)
    return int(conn.execute(query).scalar_one())


def children(conn: sa.Connection, run_id: int) -> int:
    """Return how many runs a sequence run has started."""
    query = sa.select(sa.func.count()).select_from(run).where(run.c.sequence_run_id == run_id)
    return int(conn.execute(query).scalar_one())


def is_busy(conn: sa.Connection, run_id: int) -> bool:
    """Whether a job of the sequence run is still active."""
    query = sa.select(run.c.id).where(run.c.sequence_run_id == run_id, sa.text(f"state IN ({sql_literals(ACTIVE)})"))
    return conn.execute(query.limit(1)).first() is not None


def enter(
    conn: sa.Connection,
    run_id: int,
    step: Step,
    number: int,
    start: StepStart,
    left: Leave | None = None,
    reason: str | None = None,
    items: Sequence[Mapping[str, Any]] | None = None,
    awaited: Awaited | None = None,
    taken: Mapping[str, int] | None = None,
) -> int:
    """Record that the sequence entered a step for the ``number``-th time. Returns the id of the visit.

    Args:
        left: the result, if the visit is already decided.
        items: with ``for_each``, the parameters of each of its runs; each job of the step has one run for each.
        awaited: what it waits for, if not for runs.
        taken: as in ``Unstarted``.
    """
    values = {
        "refused": json.dumps(dict(taken), ensure_ascii=False) if taken else None,
        "children": None if items is None else len(items) * len(step.jobs),
        "at_most": None if items is None else step.at_most or FAN_OUT,
        "for_each": None if items is None else json.dumps(items, ensure_ascii=False),
        "waits_for": awaited and awaited.what,
        "wake_at": awaited and awaited.wake_at,
        "awaits": awaited and awaited.awaits and json.dumps(awaited.awaits, ensure_ascii=False),
        "pool": awaited and awaited.pool,
        "run_id": run_id,
        "step": step.name,
        "number": number,
        "start": start,
        "proceed": step.proceed,
        "reason": None if reason is None else truncate_utf16(reason, 1000),
    }
    times: dict[str, Any] = {"entered_at": utcnow()}
    if awaited is not None and awaited.what == Waiting.HTTP:
        times["look_at"] = utcnow()
    if left is not None:
        values |= _left(left)
        times["decided_at"] = utcnow()
    return int(conn.execute(visit.insert().values({**values, **times}).returning(visit.c.id)).scalar_one())


def items(conn: sa.Connection, visit_id: int) -> list[dict[str, Any]]:
    """Return the parameters of the runs of a visit of a step with ``for_each``."""
    found: list[dict[str, Any]] = json.loads(
        conn.execute(sa.select(visit.c.for_each).where(visit.c.id == visit_id)).scalar_one()
    )
    return found


class Begun(NamedTuple):
    """How far a visit of a step with ``for_each`` is.

    ``number``: how many runs were started or refused, in the order of their places. ``taken``: as in ``Unstarted``;
    these have no run of their own.
    """

    number: int
    taken: Mapping[str, int]


def begun(conn: sa.Connection, visit_id: int) -> Begun:
    """Return how far a visit of a step with ``for_each`` is."""
    unstarted = Unstarted.read(conn.execute(sa.select(visit.c.refused).where(visit.c.id == visit_id)).scalar())
    number = conn.execute(sa.select(sa.func.count()).select_from(run).where(run.c.visit_id == visit_id)).scalar_one()
    return Begun(len(unstarted.refused) + int(number), unstarted.taken)


def decide(
    conn: sa.Connection,
    visit_id: int,
    decision: Decision,
    by: str | None = None,
    reason: str | None = None,
    parameters: str | None = None,
) -> bool:
    """Record how the waiting of a visit ended. Returns False if that was decided before.

    ``parameters``: what the approver gave, as JSON.
    """
    values = {"decision": decision, "decided_by": by, "parameters": parameters}
    if reason is not None:
        values["reason"] = truncate_utf16(reason, 1000)
    change = visit.update().where(visit.c.id == visit_id, visit.c.decision.is_(None), visit.c.result.is_(None))
    return bool(conn.execute(change.values(values)).rowcount)


class Expiring(NamedTuple):
    """A visit whose time is over and that waits for a file or an address. ``now``: the time of the database."""

    entered_at: datetime
    wake_at: datetime
    look_at: datetime | None
    awaits: str
    pool: str | None
    reason: str | None
    now: datetime


def expiring(conn: sa.Connection, visit_id: int) -> Expiring:
    """Return such a visit."""
    query: sa.Select[Any] = sa.select(*(visit.c[name] for name in Expiring._fields[:-1]), utcnow())
    return Expiring(*conn.execute(query.where(visit.c.id == visit_id)).one())


def wait_on(conn: sa.Connection, visit_id: int, until: datetime, awaits: Mapping[str, Any], reason: str) -> None:
    """Let such a visit wait longer. An address is asked at once."""
    values = {"wake_at": until, "awaits": json.dumps(dict(awaits), ensure_ascii=False), "reason": reason}
    asked = sa.case((visit.c.look_at.is_not(None), utcnow()))
    conn.execute(visit.update().where(visit.c.id == visit_id).values(**values, look_at=asked))


def give(conn: sa.Connection, visit_id: int, parameters: str | None) -> None:
    """Store what the approver of a visit gave, with the defaults."""
    conn.execute(visit.update().where(visit.c.id == visit_id).values(parameters=parameters))


def reopen(conn: sa.Connection, visit_id: int) -> None:
    """Let a visit wait for a person again, whose decision cannot be used."""
    values = {"decision": None, "decided_by": None, "parameters": None, "reason": None}
    conn.execute(visit.update().where(visit.c.id == visit_id).values(values))


_WAITED = {
    Waiting.APPROVAL: "it waited for an approval when the run ended",
    Waiting.TIME: "it waited for a time when the run ended",
    Waiting.FILE: "it waited for a file when the run ended",
    Waiting.HTTP: "it waited for an answer when the run ended",
}


def abandon(conn: sa.Connection, run_id: int) -> None:
    """Let the steps of a sequence run that ends wait no more. Their reasons say what was missing."""
    open_ones = visit.c.run_id == run_id, visit.c.result.is_(None), visit.c.waits_for.is_not(None)
    said = sa.case(*((visit.c.waits_for == what, words) for what, words in _WAITED.items()))
    change = visit.update().where(*open_ones)
    values: dict[str, Any] = {"wake_at": None, "pool": None, "look_at": None}
    in_vain = {**values, "waits_for": None, "reason": sa.func.coalesce(visit.c.reason, said)}
    conn.execute(change.where(visit.c.decision.is_(None)).values(in_vain))
    conn.execute(change.values(values))


def refuse(conn: sa.Connection, visit_id: int, reasons: Mapping[str, str]) -> None:
    """Record which jobs of a visit could not be started, and why, beside those recorded before."""
    before = conn.execute(sa.select(visit.c.refused).where(visit.c.id == visit_id)).scalar()
    reasons = {**(json.loads(before) if before else {}), **reasons}
    conn.execute(
        visit.update().where(visit.c.id == visit_id).values(refused=json.dumps(dict(reasons), ensure_ascii=False))
    )


def leave(conn: sa.Connection, visit_id: int, left: Leave) -> None:
    """Record a visit's result and where the sequence continues."""
    conn.execute(visit.update().where(visit.c.id == visit_id).values({**_left(left), "decided_at": utcnow()}))


def _left(left: Leave) -> dict[str, Any]:
    return {"result": left.result, "goes_to": left.to.kind, "next_step": left.to.step}
