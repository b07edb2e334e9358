"""The caller of an operation, the caller's permissions, and the transaction in which every operation runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from jobfac import errors
from jobfac.database.engine import Database
from jobfac.states import Role
from jobfac.store import api_keys, audit, jobs
from jobfac.store.runs import reading
from jobfac.telemetry.traces import NO_TRACES, Traces
from jobfac.views.runs import RunView

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """The caller of an operation.

    Attributes:
        name: the name in events and in the audit.
        categories: the only categories whose jobs and runs the caller may access; None: all.
        retry_for: seconds for which an operation is repeated after a transient error.
        traces: where the spans of started runs go.
        role: what the caller may do. A user with access to the database is an admin.
        traceparent: the W3C trace context that the request came with.
    """

    name: str
    categories: tuple[str, ...] | None = None
    retry_for: float = 15.0
    traces: Traces = NO_TRACES
    traceparent: str | None = None
    role: Role = Role.ADMIN

    def sees(self, category: str | None) -> bool:
        """Whether the caller may see and touch jobs of this category."""
        return self.categories is None or category in self.categories


Limits = Caller | api_keys.Caller
"""Who may be limited to some categories."""


def visible_job(conn: sa.Connection, by: Limits, job_id: str) -> jobs.Stored:
    """Return a job that the caller may see.

    Raises:
        NotFound: there is no such job, or the caller may not see it.
    """
    stored = jobs.load(conn, job_id)
    if stored is None or not by.sees(stored.category):
        raise errors.no_job(job_id)
    return stored


def visible_run(conn: sa.Connection, by: Limits, run_id: int) -> RunView:
    """Return a run that the caller may see.

    Raises:
        NotFound: there is no such run, or the caller may not see it.
    """
    row = reading.get(conn, run_id)
    if by.categories is None:
        return row
    if not _sees_job(conn, by, row.job):
        raise errors.no_run(run_id)
    around = row.sequence_run_id
    if around is None or row.retry_of is not None or _sees_job(conn, by, reading.job_of(conn, around)):
        return row
    return row._replace(origin=f"run {around}")  # without the step, which the sequence of others names


def _sees_job(conn: sa.Connection, by: Limits, job_id: str | None) -> bool:
    stored = None if job_id is None else jobs.load(conn, job_id)
    return stored is not None and by.sees(stored.category)


def transact(db: Database, by: Caller, work: Callable[[sa.Connection], T]) -> T:
    """Run ``work`` in one transaction, repeat it after a transient error, and make sure that it takes effect once.

    The audit row that ``work`` writes is the receipt. If the answer to a commit is lost and the row exists, the commit
    succeeded, and the function returns the result of that try. If ``work`` writes no audit row, it must change nothing
    or be safe to repeat.

    Raises:
        Unreachable: the error lasted longer than ``by.retry_for``.
        InDoubt: the same after a commit without an answer.
    """
    tried: tuple[audit.Receipt, T] | None = None

    def once(conn: sa.Connection) -> T:
        nonlocal tried
        if tried is not None and audit.holds(conn, tried[0]):
            return tried[1]
        tried = None
        with audit.receipts(conn) as written:
            result = work(conn)
        # SQLite answers in this process: a commit that failed took no effect, and the ids may by now be another's.
        tried = (written[-1], result) if written and db.dialect.name != "sqlite" else None
        return result

    try:
        return db.transact(once, retry_for=by.retry_for)
    except (errors.Unreachable, sa.exc.DBAPIError) as error:
        if tried is None:
            raise
        said = error if isinstance(error, errors.Unreachable) else f"The database answers with an error: {error.orig}."
        raise errors.InDoubt(f"{said} {errors.IN_DOUBT}") from error
