"""Helpers of the database tests: define jobs, drive a worker by hand, run code in many threads at once."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import Survey, lease_now, lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run, worker_lease
from jobfac.states import RunState
from jobfac.store import jobs as job_store
from jobfac.store import runs, workers
from jobfac.store.runs import Finished, Outcome, StartRequest
from jobfac.store.workers import Beat, Claimed, Registration
from jobfac.store.workers.claiming import Room
from jobfac.views.runs import AttemptView

T = TypeVar("T")


def define(db: Database, **jobs: Mapping[str, Any]) -> None:
    """Store jobs by id; a body without steps, sql and command runs ``true``."""
    runs = {"steps", "sql"}
    bodies = {job: dict(body) if runs & set(body) else {"command": ["true"], **body} for job, body in jobs.items()}
    for job, definition in d.from_data({"jobs": bodies}).jobs.items():
        db.transact(job_store.put, job, definition, "tester")


def start(db: Database, job: str, **options: Any) -> int:
    """Start one run; returns its id."""
    return db.transact(runs.start, StartRequest(job, "tester", **options))


def get(db: Database, run_id: int) -> sa.RowMapping:
    """Return all columns of a run."""
    with db.read() as conn:
        return conn.execute(sa.select(run).where(run.c.id == run_id)).mappings().one()


def state(db: Database, run_id: int) -> str:
    """Return a run's state."""
    return str(get(db, run_id)["state"])


def states(db: Database, run_ids: Sequence[int]) -> list[str]:
    """Return the states of runs, in the order of ``run_ids``."""
    with db.read() as conn:
        rows = conn.execute(sa.select(run.c.id, run.c.state).where(lists.by_id(run.c.id, run_ids)))
        found = {row.id: row.state for row in rows}
    return [found[run_id] for run_id in run_ids]


def events(db: Database, run_id: int) -> list[str]:
    """Return the names of a run's events, oldest first."""
    with db.read() as conn:
        return [event.event for event in runs.events_of(conn, run_id)]


def origin(db: Database, run_id: int) -> str | None:
    """Return who or what started a run, in words."""
    with db.read() as conn:
        return runs.get(conn, run_id).origin


def attempts(db: Database, run_id: int) -> list[AttemptView]:
    """Return a run's attempts, oldest first."""
    with db.read() as conn:
        return runs.attempts(conn, run_id)


def now(db: Database) -> Any:
    """Return the database's current time."""
    with db.read() as conn:
        return conn.execute(sa.select(utcnow())).scalar_one()


@contextlib.contextmanager
def being_written(db: Database, run_id: int) -> Iterator[None]:
    """Leave a transaction open that has written a run, as one that counts it does. On SQLite it ends at once."""
    write = run.update().where(run.c.id == run_id).values(counted=run.c.counted)
    if db.dialect.name == "sqlite":
        db.transact(lambda conn: conn.execute(write))
        yield
    else:
        with db.begin() as conn:
            conn.execute(write)
            yield


def make_due(db: Database) -> None:
    """Make every scheduled run due."""
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.state == RunState.SCHEDULED).values(ready_at=utcnow(-1)))


class Hand:
    """A worker that a test drives by hand. Each method is one transaction."""

    def __init__(self, db: Database, name: str = "w1", slots: int = 10, **more: Any) -> None:
        who = {"host": "host", "pools": ["default"], "labels": {}, **more}
        self.db, self.name, self.slots = db, name, slots
        self.id = db.transact(
            workers.register, Registration(name, pid=1, token=name, version="0", slots=slots, **who), 60.0
        )

    def claim(
        self, slots: int | None = None, queues: Sequence[str] | Mapping[str, int] = ("default",), **room: Any
    ) -> list[Claimed]:
        """Claim runs as a turn of the worker's loop does. ``queues``: by name, or with the slots of their runs."""
        weights = queues if isinstance(queues, Mapping) else dict.fromkeys(queues, 1)
        free = self.slots if slots is None else slots

        def work(conn: sa.Connection) -> list[Claimed]:
            workers.hold(conn, self.id)
            return workers.claim(conn, self.id, self.name, weights, Room(free, **{"runs": free, **room}))

        return self.db.transact(work)

    def take(self) -> Claimed:
        """Claim exactly one run."""
        (claimed,) = self.claim(1)
        return claimed

    def end(self, claimed: Claimed, state: RunState = RunState.SUCCEEDED, **outcome: Any) -> list[Finished]:
        """Store how one execution ended."""
        ended = Outcome(claimed.id, claimed.attempt, state, **outcome)
        return self.db.transact(runs.finish, self.id, [ended], self.name)

    def renew(self) -> Beat:
        """Send a heartbeat."""
        return self.db.transact(workers.renew, self.id, 60.0)

    def survey(self) -> Survey:
        """Survey this worker in the database."""
        found = self.db.query(workers.survey, self.id)
        assert found is not None
        return found

    def lapse(self) -> None:
        """Let the lease expire, as if the heartbeats had stopped."""
        with self.db.begin() as conn:
            conn.execute(
                worker_lease.update().where(worker_lease.c.worker_id == self.id).values(lease_until=lease_now(-1))
            )

    def die(self) -> list[Finished]:
        """Let the lease expire, and expire the worker; returns the runs that ended as a result."""
        self.lapse()
        return self.db.transact(workers.expire, "sweeper").finished


def together(number: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(0)`` to ``work(number - 1)`` in threads that begin at the same time; returns their results."""
    gate = threading.Barrier(number)

    def one(position: int) -> T:
        gate.wait(30)
        return work(position)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))
