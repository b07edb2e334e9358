"""The commands' way to the factory through its database. What a start does not need is imported where it is used."""

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jobfac import errors
from jobfac.cli.client.protocol import Object, Text
from jobfac.database.engine import Database
from jobfac.definitions import canonical
from jobfac.errors import NotFound
from jobfac.states import FINAL, RunState
from jobfac.store import audit, jobs, runs
from jobfac.store.runs import StartRequest
from jobfac.telemetry import traces

if TYPE_CHECKING:
    from jobfac.store.overview import Overview

LOOK = 0.1
"""Seconds between two looks at a run that is waited for."""

PAGE = 500
"""Runs read in one query."""

SOON = 2.0
"""Seconds for which an overview is tried again: who watches wants to know that the database is away."""


class Local:
    """See ``Backend``; every method is one transaction."""

    def __init__(self, db: Database, by: str) -> None:
        self._db = db
        self._by = by

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> list[Object]:
        request = StartRequest(job=job, by=self._by, key=key, **options)

        def work(conn: sa.Connection) -> list[int]:
            return runs.start_many(conn, request, count) if key is None else [runs.start(conn, request)]

        since = time.time_ns()
        ids = self._db.transact(work)
        shown: dict[int, Object] = {}
        for first in range(0, len(ids), PAGE):
            shown |= self._db.query(runs.snapshots, ids[first : first + PAGE])
        started = [shown[run_id] for run_id in ids]
        self._trace(started, since)
        return started

    def _trace(self, started: Sequence[Object], since: int) -> None:
        spans = traces.begin("cli")
        for run in started:
            spans.started(run, since, os.environ.get("TRACEPARENT"))
        spans.close()

    def run(self, run_id: int) -> Object:
        from jobfac.store import sequences

        def read(conn: sa.Connection) -> Object:
            shown = runs.present(runs.get(conn, run_id))
            shown["attempts"] = [runs.present(row) for row in runs.attempts(conn, run_id)]
            shown["events"] = [runs.present(row) for row in runs.events_of(conn, run_id)]
            if shown["kind"] == "sequence":
                shown["path"] = sequences.path(conn, run_id)
            return shown

        return self._db.query(read)

    def wait(self, run_id: int, seconds: float) -> Object:
        end = time.monotonic() + seconds
        while True:
            shown = self._db.query(lambda conn: runs.present(runs.get(conn, run_id)))
            if shown["state"] in FINAL or time.monotonic() >= end:
                return shown
            time.sleep(LOOK)

    def runs(self, filters: Mapping[str, Any]) -> list[Object]:
        since = filters.get("since")
        found = self._db.query(
            runs.find,
            job=filters.get("job"),
            states=[RunState(state) for state in filters.get("state", ())],
            since=None if since is None else datetime.fromisoformat(since),
            limit=filters["limit"],
        )
        return [runs.present(row) for row in found]

    def stop(self, run_id: int, now: bool) -> Object:
        from jobfac.store import sequences

        def work(conn: sa.Connection) -> runs.Stopped:
            stopped = sequences.stop(conn, run_id, now=now, by=self._by)
            audit.note(conn, self._by, "stop", f"run {run_id}", stopped.before, stopped.after)
            return stopped

        return {name: str(state) for name, state in self._db.transact(work)._asdict().items()}

    def retry(self, run_id: int, from_failed: bool) -> Object:
        from jobfac.store import sequences

        def work(conn: sa.Connection) -> int:
            new = sequences.retry(conn, run_id, self._by, from_failed=from_failed)
            audit.note(conn, self._by, "retry", f"run {run_id}", after=f"run {new}")
            return new

        since = time.time_ns()
        new = self._db.transact(work)
        shown: Object = self._db.query(lambda conn: runs.present(runs.get(conn, new)))
        self._trace([shown], since)
        return shown

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        from jobfac.store import output

        pieces = self._db.query(output.read, run_id, attempt, positions)
        return [Text(piece.stream, piece.data, piece.skipped) for piece in pieces]

    def jobs(self) -> list[Object]:
        return [jobs.present(stored) for stored in self._db.query(jobs.load_all)]

    def job(self, job_id: str) -> Object:
        stored = self._db.query(jobs.load, job_id)
        if stored is None:
            raise errors.no_job(job_id)
        return jobs.present(stored)

    def defaults(self) -> Object:
        return {name: canonical(entry) for name, entry in self._db.query(jobs.load_defaults).items()}

    def enable(self, job_id: str, enabled: bool) -> None:
        if not self._db.transact(jobs.enable, job_id, enabled, self._by):
            raise errors.no_job(job_id)

    def delete(self, job_id: str) -> None:
        from jobfac.store import schedules

        if not self._db.transact(schedules.remove, job_id, self._by):
            raise errors.no_job(job_id)

    def workers(self, alive_only: bool) -> list[Object]:
        from jobfac.store import workers

        return [workers.present(row) for row in self._db.query(workers.workers, alive_only)]

    def drain(self, worker_id: int) -> None:
        from jobfac.store import workers

        def work(conn: sa.Connection) -> bool:
            audit.note(conn, self._by, "drain", f"worker {worker_id}")
            return workers.drain(conn, worker_id)

        if not self._db.transact(work):
            raise NotFound(f"There is no live worker {worker_id}; `jobfac workers list` shows the fleet.")

    def schedules(self, job: str | None) -> list[Object]:
        from jobfac.store import schedules

        return self._db.query(schedules.list_schedules, job)

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> list[Object]:
        from jobfac.store import schedules

        return self._db.query(schedules.preview, job, count, start, explain)

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        from jobfac.store import schedules

        return self._db.transact(schedules.pause if paused else schedules.resume, job, name, self._by)

    def overview(self) -> "Overview":
        from jobfac.store import overview

        return self._db.query(overview.read, retry_for=SOON)
