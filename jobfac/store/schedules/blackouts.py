"""Apply blackouts to retries, as they apply to starts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from jobfac.database.dialects import lists, utcnow
from jobfac.database.tables import run, schedule
from jobfac.recurrence import FOREVER, blackout_end
from jobfac.states import RunState
from jobfac.store.runs import Outcome
from jobfac.store.schedules.decision import UNUSABLE, read


def hold_back(conn: sa.Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes, with each retry delayed that would fall into a blackout of the schedule of its run.

    A retry in a blackout without end never happens. Its outcome loses ``retry_after``, so the run ends.
    """
    retries = (one for one in outcomes if one.state != RunState.QUEUED)  # what was not started is no retry
    delays = {one.run_id: one.retry_after for one in retries if one.retry_after is not None}
    if not delays:
        return list(outcomes)
    query = (
        sa.select(run.c.id, schedule.c.definition, utcnow().label("now"))
        .join(schedule, schedule.c.id == run.c.schedule_id)
        .where(lists.by_id(run.c.id, delays), schedule.c.definition.contains('"blackout"'))
    )
    delayed: dict[int, float | None] = {}
    for row in conn.execute(query):
        ready_at = row.now + timedelta(seconds=delays[row.id])
        try:
            rule = read(row.definition)
            end = blackout_end(rule.blackout, rule.zone, ready_at)
        except UNUSABLE:  # a newer jobfac stored it; a worker must not end for it
            continue
        if end:
            delayed[row.id] = None if end == FOREVER else (end - row.now).total_seconds()
    return [
        replace(outcome, retry_after=delayed[outcome.run_id]) if outcome.run_id in delayed else outcome
        for outcome in outcomes
    ]
