"""Steps that wait for a file, which workers look for, or for an address, which schedulers ask."""

import functools
import json
from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, SKIP, lists, rows, utcnow
from jobfac.database.sequence_tables import ASKED, LOOKED_FOR
from jobfac.database.tables import run, visit
from jobfac.database.types import BigId, truncate_utf16
from jobfac.states import Decision, RunState
from jobfac.store import runs
from jobfac.store.runs.event import Event
from jobfac.store.sequences import visits
from jobfac.store.sequences.advance import conclude
from jobfac.store.sequences.decide import one_more_look
from jobfac.store.sequences.locking import locked_sequences


class WaitingVisit(NamedTuple):
    """A visit of a step that waits for a file or an address. ``awaits``: JSON, as ``Awaited.awaits``."""

    id: int
    run_id: int
    step: str
    awaits: str

    @property
    def wanted(self) -> dict[str, Any]:
        """What it waits for."""
        found: dict[str, Any] = json.loads(self.awaits)
        return found


_WAITING = (
    sa.select(visit.c.id, visit.c.run_id, visit.c.step, visit.c.awaits)
    .join(run, run.c.id == visit.c.run_id)
    .with_hint(run, PASS, "mssql")
    .where(visit.c.decision.is_(None), run.c.state == RunState.RUNNING)
)


def looked_for(conn: sa.Connection, pools: Collection[str]) -> list[WaitingVisit]:
    """Return the visits that wait for a file which the workers of these pools look for."""
    query = _WAITING.with_hint(visit, PASS, "mssql").where(
        sa.text(LOOKED_FOR.replace("pool", "visit.pool")), lists.among(visit.c.pool, pools)
    )
    return [WaitingVisit(*row) for row in conn.execute(query.order_by(visit.c.id))]


def take_due(conn: sa.Connection, limit: int) -> list[WaitingVisit]:
    """Return visits whose address is to be asked now. Others ask it again only when its interval is over."""
    condition = sa.text(ASKED)
    query = (
        sa.select(visit.c.id, visit.c.awaits)
        .with_hint(visit, SKIP, "mssql")
        .where(condition, visit.c.look_at <= utcnow())
        .order_by(visit.c.look_at)
        .limit(limit)
    )
    due = conn.execute(query).all()
    if not due:
        return []
    values = ({"id": row.id, "pause": round(json.loads(row.awaits)["every"] * 1000)} for row in due)
    conn.execute(_postpone(conn.dialect.name), rows.rows_parameter(values))
    found = conn.execute(_WAITING.where(lists.by_id(visit.c.id, [row.id for row in due])).order_by(visit.c.id))
    return [WaitingVisit(*row) for row in found]


@functools.cache
def _postpone(engine: str) -> sa.Update:
    given = rows.rows_table(engine, id=BigId, pause=sa.BigInteger())
    change = visit.update().where(visit.c.id == given.c.id)
    return rows.by_primary_key(change.values(look_at=utcnow(given.c.pause)), visit)


def found(conn: sa.Connection, waiting: WaitingVisit, what: str, by: str) -> bool | None:
    """Let a sequence go on whose step waited for what is there now. Returns False if it does not wait any more.

    Returns None, and changes nothing, if another transaction holds one of its locks: try again.
    """
    if locked_sequences(conn, [waiting.run_id]):
        return None
    state = conn.execute(sa.select(run.c.state, run.c.attempt).where(run.c.id == waiting.run_id)).first()
    if state is None or state.state != RunState.RUNNING:
        return False
    if "over" in waiting.wanted:
        what = f"{what}; {one_more_look(waiting.wanted['over'])}"
    if not visits.decide(conn, waiting.id, Decision.FOUND, None, what):
        return False
    detail = truncate_utf16(f"step '{waiting.step}': {what}", 1000)
    runs.record(conn, [Event(waiting.run_id, state.attempt, str(Decision.FOUND), by, detail)])
    conclude(conn, [waiting.run_id], by)
    return True


def note(conn: sa.Connection, waiting: WaitingVisit, why: str) -> None:
    """Record why what a step waits for is not there yet. Writes only what is new."""
    text = truncate_utf16(why, 1000)
    is_new = sa.or_(visit.c.reason.is_(None), visit.c.reason != text)
    change = visit.update().where(
        visit.c.id == waiting.id, visit.c.decision.is_(None), visit.c.result.is_(None), is_new
    )
    conn.execute(change.values(reason=text))
