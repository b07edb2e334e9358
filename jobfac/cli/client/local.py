"""The client over the database. Modules that `jobfac start` does not need are imported where they are used."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jobfac import errors
from jobfac.cli.client.local_administration import LocalAdministration
from jobfac.cli.client.values import Text
from jobfac.operations import starting
from jobfac.operations.caller import Caller
from jobfac.states import ACTIVE, FINAL, TO_ACKNOWLEDGE, JobKind
from jobfac.store import jobs, runs
from jobfac.store.jobs import category_defaults
from jobfac.store.runs import StartRequest
from jobfac.telemetry import traces
from jobfac.views.jobs import JobView
from jobfac.views.runs import RunHistory, RunView

if TYPE_CHECKING:
    from jobfac.operations.bulk.backfill import BackfillRequest
    from jobfac.store.history.search import Filter
    from jobfac.store.holds.placing import Scope
    from jobfac.store.runs import Stopped
    from jobfac.views.holds import HoldView
    from jobfac.views.jobs import VersionView
    from jobfac.views.overview import Overview
    from jobfac.views.results.backfill import Backfill
    from jobfac.views.results.load import LoadView
    from jobfac.views.results.many import ManyView
    from jobfac.views.results.output import OutputMatch
    from jobfac.views.runs import NoteView
    from jobfac.views.schedules import CandidateView, ScheduleView
    from jobfac.views.workers import WorkerView

POLL_INTERVAL = 0.1
"""Seconds between two polls of a run that ``wait`` waits for."""

PAGE = 500
"""The maximum number of runs in one query."""

OVERVIEW_RETRY_FOR = 2.0
"""Seconds for which an overview is retried: short, so that `jobfac top` soon shows that the database is unreachable."""


class Local(LocalAdministration):
    """The client over the database. Changes are operations, reads are queries."""

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> list[RunView]:
        """Start runs. ``options``: fields of ``StartRequest``. Check their states: a run may be ``denied``."""
        request = StartRequest(job=job, by=self._by.name, key=key, **options)
        with self._traced() as by:
            if count == 1:
                return starting.start(self._db, by, request)
            ids = starting.start_many(self._db, by, request, count)
        by_id: dict[int, RunView] = {}
        try:
            for first in range(0, len(ids), PAGE):
                by_id |= self._db.query(runs.snapshots, ids[first : first + PAGE])
        except errors.Unreachable as error:
            raise error.with_more(f"{len(ids)} runs were started: {ids[0]} to {ids[-1]}.") from error
        except KeyboardInterrupt:
            raise errors.Interrupted(f"Interrupted: {len(ids)} runs were started: {ids[0]} to {ids[-1]}.") from None
        return [by_id[run_id] for run_id in ids]

    @contextmanager
    def _traced(self) -> Iterator[Caller]:
        """Return the caller with traces, which are sent at the end."""
        spans = traces.begin("cli")
        try:
            yield replace(self._by, traces=spans, traceparent=os.environ.get("TRACEPARENT"))
        finally:
            # What was done is done: neither Ctrl-C while it waits nor the want of a thread may hide the answer.
            with suppress(KeyboardInterrupt, RuntimeError):
                spans.close()

    def run(self, run_id: int) -> RunHistory:
        """Return a run with its attempts and events, and the step history of a sequence."""
        from jobfac.operations import versions
        from jobfac.store import notes, parameters, sequences
        from jobfac.store.history import waiting

        def read(conn: sa.Connection) -> RunHistory:
            (run,) = waiting.explained(conn, [runs.get(conn, run_id)])
            if run.parameters is not None:  # who can use the database is an operator
                run = run._replace(parameters={**run.parameters, **parameters.sensitive_of(conn, run_id)})
            path = sequences.step_history(conn, run_id) if run.kind is JobKind.SEQUENCE else None
            changes = versions.changes_since(conn, run.job, run.job_version)
            attempts, events = runs.attempts(conn, run_id), runs.events_of(conn, run_id)
            return RunHistory(run, attempts, events, path, notes.of_run(conn, run_id) or None, changes or None)

        return self._db.query(read)

    def wait(self, run_id: int, seconds: float) -> RunView:
        """Wait until the run is final, at most ``seconds``, and return it."""
        end = time.monotonic() + seconds
        while True:
            run = self._db.query(runs.get, run_id)
            if run.state in FINAL or time.monotonic() >= end:
                return run
            time.sleep(POLL_INTERVAL)

    def runs(self, wanted: "Filter", limit: int) -> list[RunView]:
        """Return up to ``limit`` runs that match the filter, newest first."""
        from jobfac.store.history import waiting
        from jobfac.store.history.search import find_all

        return self._db.query(lambda conn: waiting.explained(conn, find_all(conn, wanted, limit)))

    def choose_to_retry(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the runs that a retry with this filter would affect. Changes nothing."""
        from jobfac.operations.bulk import many

        chosen = many.choose_all(self._db, self._by, wanted, limit, FINAL)
        return many.retry(self._db, self._by, chosen, dry_run=True, wanted=wanted)

    def choose_to_stop(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the runs that a stop with this filter would affect. Changes nothing."""
        from jobfac.operations.bulk import many

        chosen = many.choose_all(self._db, self._by, wanted, limit, ACTIVE)
        return many.stop(self._db, self._by, chosen, dry_run=True, wanted=wanted)

    def choose_to_acknowledge(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the failures that match the filter and that nobody has acknowledged. Changes nothing."""
        from jobfac.operations.bulk import many

        wanted = wanted._replace(unacknowledged=True)
        found = many.choose_all(self._db, self._by, wanted, limit, TO_ACKNOWLEDGE)
        return many.acknowledge(self._db, self._by, found, dry_run=True)

    def retry_many(self, run_ids: Sequence[int]) -> "list[ManyView]":
        """Retry each of these runs, at most once."""
        from jobfac.operations.bulk import many

        with self._traced() as by:
            return many.retry(self._db, by, many.find(self._db, by, run_ids))

    def stop_many(self, run_ids: Sequence[int], now: bool) -> "list[ManyView]":
        """Request a stop of each of these runs."""
        from jobfac.operations.bulk import many

        return many.stop(self._db, self._by, many.find(self._db, self._by, run_ids), now=now)

    def acknowledge_many(self, run_ids: Sequence[int]) -> "list[ManyView]":
        """Acknowledge each of these runs that has failed."""
        from jobfac.operations.bulk import many

        return many.acknowledge(self._db, self._by, many.find(self._db, self._by, run_ids))

    def stop(self, run_id: int, now: bool) -> "Stopped":
        """Request the stop of a run. ``now``: without the grace period. Returns the states before and after."""
        from jobfac.operations import stopping

        return stopping.stop(self._db, self._by, run_id, now=now)

    def retry(self, run_id: int, from_failed: bool, changes: Mapping[str, Any]) -> RunView:
        """Start a new run like a finished run, with changed parameters. Returns the new run."""
        with self._traced() as by:
            return starting.retry(self._db, by, run_id, from_failed=from_failed, changes=changes)

    def approve(self, run_id: int, step: str, approved: bool, reason: str | None, given: Mapping[str, Any]) -> str:
        """Decide about a step that waits for a person, with values for which it asks. Returns the decision."""
        from jobfac.operations import approvals

        done = approvals.approve(self._db, self._by, run_id, step, approved=approved, reason=reason, given=given)
        return str(done.decision)

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        """Return the next output after ``positions`` (bytes by stream), and advance them."""
        from jobfac.store import output

        pieces = self._db.query(output.read, run_id, attempt, positions)
        return [Text(piece.stream, piece.data, piece.skipped) for piece in pieces]

    def jobs(self) -> list[JobView]:
        """Return all jobs."""
        return [jobs.view(stored) for stored in self._db.query(jobs.load_all)]

    def job(self, job_id: str) -> JobView:
        """Return a job with its definition."""
        stored = self._db.query(jobs.load, job_id)
        if stored is None:
            raise errors.no_job(job_id)
        return jobs.view(stored)

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return the defaults by category."""
        return self._db.query(category_defaults.load)

    def enable(self, job_id: str, enabled: bool) -> None:
        """Enable or disable a job."""
        from jobfac.operations import jobs

        (jobs.enable if enabled else jobs.disable)(self._db, self._by, job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job."""
        from jobfac.operations import jobs

        jobs.delete(self._db, self._by, job_id)

    def workers(self, alive_only: bool) -> "list[WorkerView]":
        """Return the workers, newest first."""
        from jobfac.store import workers

        return self._db.query(workers.workers, alive_only)

    def drain(self, worker_id: int) -> None:
        """Ask a worker to claim no more runs and to exit when its runs have ended."""
        from jobfac.operations import workers

        workers.drain(self._db, self._by, worker_id)

    def undrain(self, worker_id: int) -> None:
        """Let a draining worker claim runs again."""
        from jobfac.operations import workers

        workers.undrain(self._db, self._by, worker_id)

    def schedules(self, job: str | None) -> "list[ScheduleView]":
        """Return the schedules of a job; None: of all jobs."""
        from jobfac.store import schedules

        return self._db.query(schedules.list_schedules, job)

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> "list[CandidateView]":
        """Return the next due times of a job after ``start``. ``explain``: include times that do not fire."""
        from jobfac.store import schedules

        return self._db.query(schedules.preview, job, count, start, explain)

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        """Pause or resume a schedule; ``name`` None: all of the job. Returns the names of those that changed."""
        from jobfac.operations import schedules

        return (schedules.pause if paused else schedules.resume)(self._db, self._by, (job, name))

    def backfill(self, wanted: "BackfillRequest", dry_run: bool) -> "Backfill":
        """Start runs for due times that have passed, or show them."""
        from jobfac.operations.bulk import backfill

        return backfill.backfill(self._db, self._by, wanted, dry_run=dry_run)

    def search_output(self, wanted: "Filter", text: str, limit: int) -> "list[OutputMatch]":
        """Return up to ``limit`` lines with this text in the output of the runs that match the filter."""
        from jobfac.store.history.output import FoundOutput, search_output

        matches: list[OutputMatch] = []
        found: FoundOutput | None = None
        while found is None or (found.below is not None and len(matches) < limit):
            below = wanted.below if found is None else found.below
            found = self._db.query(search_output, wanted._replace(below=below), text, limit - len(matches))
            matches += found.matches
        return matches[:limit]

    def load(self, days: int) -> "LoadView":
        """Return how full the coming days are."""
        from jobfac.store import schedules

        return self._db.query(schedules.read_load, days)

    def hold(self, scope: "Scope", reason: str, until: datetime | timedelta | None) -> "HoldView":
        """Hold this scope: start nothing new. ``until``: a time, or how long from now on the database's clock."""
        from jobfac.operations import holds

        return holds.hold(self._db, self._by, scope, reason, until)

    def release(self, hold_id: int) -> "HoldView":
        """End a hold."""
        from jobfac.operations import holds

        return holds.release(self._db, self._by, hold_id)

    def holds(self, ended: bool, limit: int) -> "list[HoldView]":
        """The active holds, oldest first; with ``ended`` also those that have ended, newest first."""
        from jobfac.operations import holds

        return self._db.query(holds.list_holds, self._by, ended, limit).holds

    def note(self, run_id: int, text: str, acknowledge: bool) -> "NoteView":
        """Write a note about a run; with ``acknowledge`` also acknowledge its failure."""
        from jobfac.operations import notes

        return notes.add(self._db, self._by, run_id, text, acknowledge=acknowledge)

    def acknowledge(self, run_ids: Sequence[int]) -> list[RunView]:
        """Acknowledge failures."""
        from jobfac.operations import notes

        return notes.acknowledge(self._db, self._by, run_ids)

    def versions(self, job_id: str) -> "list[VersionView]":
        """The versions of a job, newest first, each with its definition."""
        from jobfac.operations import versions

        return self._db.query(versions.history, self._by, job_id)

    def rollback(self, job_id: str, version: int) -> JobView:
        """Make an earlier version of a job the current one again, as a new version."""
        from jobfac.operations import versions

        return jobs.view(versions.rollback(self._db, self._by, job_id, version))

    def overview(self) -> "Overview":
        """Return the current state of the factory."""
        from jobfac.store import overview

        return self._db.query(overview.read, retry_for=OVERVIEW_RETRY_FOR)
