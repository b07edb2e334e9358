"""End a worker's registration: its lease is lost, or it leaves."""

from collections.abc import Collection
from dataclasses import replace

import sqlalchemy as sa

from jobfac.states import RunState
from jobfac.store import sequences, workers
from jobfac.store.runs import Outcome
from jobfac.worker.turn import TurnRequest, lock_rules, save

NEVER_STARTED = "not started: its worker never had the answer to its claim"


def end_registration(conn: sa.Connection, request: TurnRequest, token: str) -> None:
    """End a registration whose lease is lost, with what is to be stored."""
    if request.uncertain:
        request = _with_unstarted(conn, request, token)
    given = request.deliveries
    lock_rules(conn, request)
    sequences.lock(conn, set(given.sequences.values()))
    workers.forgive(conn, request.worker_id, request.name, {*given.live, *given.ended})
    sequences.expire(conn, request.name, request.worker_id, save(conn, request), token=token)


def deregister(conn: sa.Connection, request: TurnRequest, token: str) -> None:
    """End the registration of a worker that leaves. It has stored what it has to store."""
    if request.uncertain:
        given = replace(request.deliveries, chunks=(), cuts=(), progress=(), outcomes=(), sequences={}, events=())
        request = _with_unstarted(conn, replace(request, deliveries=given), token)
        lock_rules(conn, request)
        sequences.advance_after(conn, save(conn, request), request.name)
    sequences.deregister(conn, request.worker_id, request.name, token)


def _with_unstarted(conn: sa.Connection, request: TurnRequest, token: str) -> TurnRequest:
    """Queue the runs again that this worker claimed without learning it. As ended by it they might be ``lost``."""
    given = request.deliveries
    known: Collection[tuple[int, int]] = {*given.live, *given.ended, *given.stored}
    unknown = [one for one in workers.claimed_by(conn, request.worker_id, token) if one.key not in known]
    outcomes = [
        Outcome(one.id, one.attempt, RunState.QUEUED, reason=NEVER_STARTED, rule=one.rule, created_at=one.created_at)
        for one in unknown
    ]
    within = {one.id: one.sequence_run_id for one in unknown if one.sequence_run_id is not None}
    return replace(
        request,
        deliveries=replace(given, outcomes=[*given.outcomes, *outcomes], sequences={**given.sequences, **within}),
    )
