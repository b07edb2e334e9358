"""Hold starts and release them."""

import contextlib
import time
from datetime import datetime, timedelta

import sqlalchemy as sa

from jobfac.database.dialects import current_time
from jobfac.database.engine import Database
from jobfac.errors import LIST_JOBS, Forbidden, NotFound, Refused, Unreachable
from jobfac.operations.caller import Caller, transact, visible_job
from jobfac.store import jobs
from jobfac.store.holds import moving, placing, reading
from jobfac.store.holds.placing import Scope
from jobfac.views.holds import HoldView


def hold(db: Database, by: Caller, scope: Scope, reason: str, until: datetime | timedelta | None = None) -> HoldView:
    """Let nothing new start in a pool, in a category, of a job, or, with an empty scope, at all. Returns the hold.

    What runs goes on, and what waits keeps its place. Claims that are under way at this instant may still succeed. Each
    call places a hold, so the caller must not repeat it.

    Args:
        until: when the hold ends automatically, or how long from now on the database's clock; None: only when it is
            released.

    Raises:
        NotFound: there is no such job, category or pool, or the caller may not see it.
        Forbidden: the caller is limited to categories and may not hold so much.
        Refused: there is no reason, there is more than one scope, or ``until`` has passed.
    """
    if sum(one is not None for one in scope) > 1:
        raise Refused("A hold applies to one pool, one category or one job; place several holds for more.")
    if not reason.strip():
        raise Refused("A hold needs a reason, which is shown to everybody who waits; give one.")

    def work(conn: sa.Connection) -> HoldView:
        _check(conn, by, scope)
        now = current_time(conn)
        end = now + until if isinstance(until, timedelta) else until
        if end is not None and end <= now:
            raise Refused(f"The hold would have ended at {end.isoformat()} already; give a later time.")
        return placing.place(conn, scope, reason.strip(), end, by.name)

    placed = transact(db, by, work)
    # In batches of their own. The hold is placed even if one fails: a worker sets aside the rest before it claims.
    with contextlib.suppress(Unreachable, KeyboardInterrupt):
        while db.transact(moving.set_aside, by.name, retry_for=by.retry_for).moved == moving.BATCH:
            time.sleep(db.dialect.pause_between_writes)
    return placed


def _check(conn: sa.Connection, by: Caller, scope: Scope) -> None:
    """Check that the scope of the hold exists, and that the caller may hold it."""
    if by.categories is not None and scope.job is None and scope.category is None:
        raise Forbidden(f"The key '{by.name}' may only hold jobs of {', '.join(by.categories)}.")
    if scope.job is not None:
        visible_job(conn, by, scope.job)
    elif scope.category is not None and not (
        by.sees(scope.category) and reading.is_known(conn, "category", scope.category)
    ):
        raise NotFound(f"No job has the category '{scope.category}'; {{way}} shows what there is.", LIST_JOBS)
    elif scope.pool is not None and (
        scope.pool == jobs.SEQUENCE_QUEUE or not reading.is_known(conn, "pool", scope.pool)
    ):
        raise NotFound(f"No job has the pool '{scope.pool}'; {{way}} shows what there is.", LIST_JOBS)


def release(db: Database, by: Caller, hold_id: int) -> HoldView:
    """End a hold. What it held starts as soon as there are slots. Returns the hold. May be repeated.

    Raises:
        NotFound: there is no such hold, or the caller may not see what it holds.
        Forbidden: the caller is limited to categories, and the hold is of more.
    """

    def work(conn: sa.Connection) -> HoldView:
        found = reading.get(conn, hold_id)
        _check_release(conn, by, found)
        is_over = found.until is not None and found.until <= current_time(conn)
        placing.release(conn, hold_id, f"{by.name}: its time came" if is_over else by.name)
        return reading.get(conn, hold_id)

    released = transact(db, by, work)
    with contextlib.suppress(Unreachable, KeyboardInterrupt):  # a scheduler frees what is left
        while db.transact(moving.free, released, by.name, retry_for=by.retry_for):
            time.sleep(db.dialect.pause_between_writes)
    return released


def _check_release(conn: sa.Connection, by: Caller, found: HoldView) -> None:
    if by.categories is None:
        return
    if found.job is None and found.category is None:
        raise Forbidden(f"The key '{by.name}' may only release holds of {', '.join(by.categories)}.")
    if not reading.of_categories(conn, [found], by.categories):
        raise reading.no_hold(found.id)


def list_holds(
    conn: sa.Connection, by: Caller, ended: bool = False, limit: int = 1000, cursor: int | None = None
) -> reading.HoldPage:
    """Return the active holds that the caller may see, oldest first; with ``ended`` also ended ones, newest first.

    Of ``limit`` holds, a caller who is limited to categories gets those that they may see.
    """
    page = reading.page(conn, ended, limit, cursor)
    if by.categories is None:
        return page
    return page._replace(holds=reading.of_categories(conn, page.holds, by.categories))
