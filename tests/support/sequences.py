"""Helpers of the sequence tests: a worker driven by hand that addresses its runs by job name."""

from typing import Any

import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.states import RunState
from jobfac.store import runs, sequences
from jobfac.store.runs import Finished, Outcome
from jobfac.store.workers import Claimed
from tests.support.database import Hand


class Player(Hand):
    """Begins sequences, claims all runs, and ends runs by job name, in one transaction as a worker does."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, slots=500)
        self.held: list[Claimed] = []

    def look(self) -> list[str]:
        """Begin queued sequences and claim all runs; returns the jobs of all held runs, in order."""
        while True:
            self.db.transact(sequences.begin, self.name)
            with self.db.read() as conn:
                waiting = sa.select(run.c.id).where(run.c.kind == "sequence", run.c.state == RunState.QUEUED)
                if conn.execute(waiting).first() is None:
                    break
        self.held += self.claim(400)
        return [claimed.job for claimed in self.held]

    def finish(self, *jobs: str, **outcomes: Any) -> list[Finished]:
        """End the oldest held run of each of these jobs, all in one turn. ``outcomes``: ``state`` and other fields.

        Returns the sequence runs that ended as a result.
        """
        state = outcomes.pop("state", RunState.SUCCEEDED)
        ended = [self._release(job) for job in jobs]
        results = [Outcome(claimed.id, claimed.attempt, state, **outcomes) for claimed in ended]
        concerned = [claimed.sequence_run_id for claimed in ended if claimed.sequence_run_id is not None]

        def work(conn: sa.Connection) -> list[Finished]:
            sequences.lock(conn, concerned)
            return sequences.advance_after(conn, runs.finish(conn, self.id, results, self.name), self.name)

        return self.db.transact(work)

    def _release(self, job: str) -> Claimed:
        claimed = next(one for one in self.held if one.job == job)
        self.held.remove(claimed)
        return claimed

    def fail(self, *jobs: str) -> list[Finished]:
        """End the oldest held run of each of these jobs as failed."""
        return self.finish(*jobs, state=RunState.FAILED)


def path(db: Database, run_id: int) -> list[str]:
    """Return the step history of a sequence run: ``step:result>next`` for each visit."""
    with db.read() as conn:
        return [f"{v.step}:{v.result}>{v.next}" for v in sequences.step_history(conn, run_id)]


def children(db: Database, run_id: int) -> list[sa.RowMapping]:
    """Return the runs of a sequence's jobs, oldest first."""
    with db.read() as conn:
        found = conn.execute(sa.select(run).where(run.c.sequence_run_id == run_id).order_by(run.c.id))
        return list(found.mappings())
