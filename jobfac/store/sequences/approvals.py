"""Steps that wait for a person."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac import errors
from jobfac.database.tables import run, visit
from jobfac.database.types import NAME_LENGTH, truncate_utf16
from jobfac.definitions import Sequence as Definition
from jobfac.definitions.steps import Approve
from jobfac.errors import Invalid, NotFound, Refused
from jobfac.states import Decision, JobKind, RunState
from jobfac.store import jobs, runs
from jobfac.store.runs.event import Event
from jobfac.store.sequences import visits
from jobfac.store.sequences.advance import conclude
from jobfac.store.sequences.locking import lock, lock_rules
from jobfac.store.sequences.values import inputs


class WaitingStep(NamedTuple):
    """A step of a sequence run that waits for a person, or did.

    Attributes:
        started_by: who started the run, and the sequences around it.
        decision: None while it waits.
    """

    run_id: int
    step: str
    visit_id: int
    wanted: Approve
    started_by: frozenset[str]
    decision: Decision | None
    decided_by: str | None


class Approval(NamedTuple):
    """A decision. ``is_new``: this call made it; otherwise the same caller had decided so before.

    ``parameters``: what the approver gave, as JSON; None: nothing.
    """

    decision: Decision
    is_new: bool
    parameters: str | None = None


def waiting_for(conn: sa.Connection, run_id: int, step: str, number: int | None = None) -> WaitingStep:
    """Return a visit of a step that waits for a person. ``number``: which visit of the step; None: the latest.

    Raises:
        NotFound: there is no such run or step.
        Refused: the step waits for no person, or the run has ended.
    """
    columns = (run.c.job, run.c.job_version, run.c.kind, run.c.state)
    row = conn.execute(sa.select(*columns).where(run.c.id == run_id)).first()
    if row is None:
        raise errors.no_run(run_id)
    if row.kind != JobKind.SEQUENCE:
        raise Refused(f"Run {run_id} of job '{row.job}' is not a sequence, so it has no step to approve.")
    definition = jobs.load_version(conn, row.job, row.job_version)
    assert isinstance(definition, Definition)
    wanted = {one.name: one.approve for one in definition.steps if one.approve is not None}
    if step not in wanted:
        known = ", ".join(wanted) or "none"
        raise NotFound(f"Sequence '{row.job}' has no step '{step}' that waits for an approval; such steps: {known}.")
    query = sa.select(visit.c.id, visit.c.decision, visit.c.decided_by, visit.c.result)
    query = query.where(visit.c.run_id == run_id, visit.c.step == step)
    if number is not None:
        query = query.where(visit.c.number == number)
    found = conn.execute(query.order_by(visit.c.id.desc()).limit(1)).first()
    if found is None or (row.state != RunState.RUNNING and found.decision is None):
        raise _waits_not(run_id, row.state, step)
    decision = None if found.decision is None else Decision(found.decision)
    return WaitingStep(run_id, step, found.id, wanted[step], _starters(conn, run_id), decision, found.decided_by)


def _waits_not(run_id: int, state: str, step: str) -> Refused:
    return Refused(f"Run {run_id} is {state} and does not wait at the step '{step}'.")


def _starters(conn: sa.Connection, run_id: int) -> frozenset[str]:
    """Return who started a run and each sequence run around it. A sequence inside another one is started by that."""
    found = set()
    above: int | None = run_id
    while above is not None:
        row = conn.execute(sa.select(run.c.created_by, run.c.sequence_run_id).where(run.c.id == above)).first()
        if row is None:
            break
        found.add(row.created_by)
        above = row.sequence_run_id
    return frozenset(found)


def approve(
    conn: sa.Connection,
    waiting: WaitingStep,
    by: str,
    *,
    approved: bool,
    reason: str | None,
    given: Mapping[str, Any] | None = None,
) -> Approval:
    """Record a person's decision, and advance the sequence. ``given``: values for which the step asks.

    Raises:
        Refused: it was decided before, in another way, with other values or by somebody else.
        Invalid: a rejection has values.
        DefinitionError: the values do not fit.
    """
    decision = Decision.APPROVED if approved else Decision.REJECTED
    by = truncate_utf16(by, NAME_LENGTH)
    if given and not approved:
        raise Invalid(f"A rejection of step '{waiting.step}' takes no parameters; leave them out.")
    values = inputs.read(conn, waiting.run_id, waiting.wanted, given or {}) if approved else {}
    text = inputs.written(values)
    lock_rules(conn, (), [waiting.run_id])
    lock(conn, [waiting.run_id])
    now = conn.execute(sa.select(run.c.state, run.c.attempt).where(run.c.id == waiting.run_id)).one()
    if now.state != RunState.RUNNING or not visits.decide(conn, waiting.visit_id, decision, by, reason, text):
        query = sa.select(visit.c.decision, visit.c.decided_by, visit.c.parameters)
        row = conn.execute(query.where(visit.c.id == waiting.visit_id)).one()
        if row.decision is None:  # somebody has stopped the run since it was read
            raise _waits_not(waiting.run_id, now.state, waiting.step)
        who = f" by {row.decided_by}" if row.decided_by else ""
        if (row.decision, row.decided_by) == (decision, by):
            if row.parameters == text:
                return Approval(decision, False, text)
            who += " with other parameters"
        raise Refused(f"Step '{waiting.step}' of run {waiting.run_id} is {row.decision}{who} already.")
    detail = ": ".join(filter(None, (f"step '{waiting.step}'", reason, text)))
    runs.record(conn, [Event(waiting.run_id, now.attempt, str(decision), by, detail)])
    conclude(conn, [waiting.run_id], by)
    return Approval(decision, True, text)
