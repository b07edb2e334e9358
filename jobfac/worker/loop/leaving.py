"""End a worker's registration: its lease is lost, or it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from jobfac.states import RunState
from jobfac.store import runs, sequences, workers
from jobfac.store.runs import Outcome
from jobfac.store.workers import Claimed
from jobfac.worker.turn import TurnRequest, lock_rules, save

NEVER_STARTED = "not started: the answer to its worker's claim was lost"


def end_registration(conn: sa.Connection, request: TurnRequest, token: str) -> None:
    """End a registration whose lease is lost, with what is to be stored."""
    given = request.deliveries
    unknown = _unknown_claims(conn, request, token)
    outcomes = [*given.outcomes, *map(_unstarted, unknown)]
    given = replace(given, outcomes=outcomes, sequences={**given.sequences, **_sequences_of(unknown)})
    request = replace(request, deliveries=given)
    lock_rules(conn, request)
    sequences.lock(conn, set(given.sequences.values()))
    workers.forgive(conn, request.worker_id, request.name, {*given.live, *given.ended})
    sequences.expire(conn, request.name, request.worker_id, save(conn, request), token=token)


def deregister(conn: sa.Connection, request: TurnRequest, token: str) -> None:
    """End the registration of a worker that leaves. It has stored, or given up, what it has to store."""
    unknown = _unknown_claims(conn, request, token)
    unstarted = [_unstarted(one) for one in unknown]
    if unstarted:
        sequences.lock_rules(conn, runs.rules_of(conn, unstarted), set(_sequences_of(unknown).values()))
    sequences.deregister(conn, request.worker_id, request.name, token, unstarted)


def _unknown_claims(conn: sa.Connection, request: TurnRequest, token: str) -> Sequence[Claimed]:
    """Return the runs that this worker has claimed without learning it: the answer was lost.

    They have to be queued again. As left behind by it, those that must not be repeated would end as ``lost``.
    """
    if not request.uncertain:
        return []
    given = request.deliveries
    known = {*given.live, *given.ended, *given.stored}
    return [one for one in workers.claimed_by(conn, request.worker_id, token) if one.key not in known]


def _unstarted(one: Claimed) -> Outcome:
    return Outcome(one.id, one.attempt, RunState.QUEUED, reason=NEVER_STARTED, rule=one.rule, created_at=one.created_at)


def _sequences_of(claims: Sequence[Claimed]) -> Mapping[int, int]:
    """Return by run the sequence run that it belongs to."""
    return {one.id: one.sequence_run_id for one in claims if one.sequence_run_id is not None}
