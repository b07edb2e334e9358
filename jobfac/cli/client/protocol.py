"""The interface of the clients over the database and over the API. Both return the same views."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from jobfac.doctor import Finding
    from jobfac.operations.bulk.backfill import BackfillRequest
    from jobfac.reports import Report
    from jobfac.states import Delivery
    from jobfac.store.api_keys import Created, Role
    from jobfac.store.history.search import Filter
    from jobfac.store.holds.placing import Scope
    from jobfac.store.runs import Stopped
    from jobfac.views.holds import HoldView
    from jobfac.views.jobs import JobView, VersionView
    from jobfac.views.keys import KeyView, StartUrlView
    from jobfac.views.notifications import NotificationView
    from jobfac.views.overview import Overview
    from jobfac.views.results.backfill import Backfill
    from jobfac.views.results.load import LoadView
    from jobfac.views.results.many import ManyView
    from jobfac.views.results.output import OutputMatch
    from jobfac.views.results.plans import AppliedView
    from jobfac.views.runs import NoteView, RunHistory, RunView
    from jobfac.views.schedules import CandidateView, ScheduleView
    from jobfac.views.workers import WorkerView


class Text(NamedTuple):
    """A piece of output. ``skipped``: the bytes that were removed just before it."""

    stream: str
    data: bytes
    skipped: int


class ReportRequest(NamedTuple):
    """What a report is about. ``since`` and ``until``: days in UTC, both included; None: the last 30 days."""

    since: date | None
    until: date | None
    job: str | None
    category: str | None


class MadeReport(NamedTuple):
    """A report. ``only``: what it is restricted to, in words."""

    report: "Report[Any]"
    only: str


class Administration(Protocol):
    """What administrators do. Raises as ``Backend``."""

    def keys(self) -> "list[KeyView]":
        """Return all API keys, without their secrets."""

    def create_key(
        self, name: str, role: "Role", categories: Sequence[str] | None, lifetime: float | None
    ) -> "Created":
        """Create a key. ``lifetime``: seconds; None: it never expires."""

    def revoke_key(self, key_id: int) -> None:
        """Revoke a key immediately."""

    def start_urls(self, job: str) -> "list[StartUrlView]":
        """Return the start URLs of a job, without their tokens."""

    def create_start_url(self, job: str, name: str) -> dict[str, Any]:
        """Create a start URL. Returns its ``id``, ``job``, ``name`` and ``url``."""

    def revoke_start_url(self, job: str, url_id: int | None) -> list[int]:
        """Revoke a start URL; None: all of the job. Returns the ids of those that were revoked now."""

    def notifications(self, state: "Delivery | None", limit: int) -> "list[NotificationView]":
        """Return notifications, newest first."""

    def requeue(self, ids: Sequence[int] | None) -> list[int]:
        """Requeue dead notifications; None: all. Returns the ids of those that were dead."""

    def reports(self, names: Sequence[str], wanted: ReportRequest, spans: int | None) -> list[MadeReport]:
        """Make reports. ``spans``: `trend` has one row for each job, with this number of spans of days."""

    def report_page(self, wanted: ReportRequest) -> str:
        """Make all reports as an HTML page."""

    def purge(self) -> int:
        """Remove what is older than its retention. Returns the number of removed runs."""

    def doctor(self) -> "list[Finding]":
        """Check the database and the factory."""

    def apply(self, files: Sequence[Path], prune: bool, dry_run: bool) -> "AppliedView":
        """Apply files of definitions, or return what that would change.

        Raises:
            DefinitionError, Failure: the definitions cannot be used.
        """


class Backend(Administration, Protocol):
    """The operations and queries of the commands.

    Raises:
        NotFound, Refused, DefinitionError, Unreachable: as the operations.
        Failure: the API refuses a request for another reason.
    """

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> "list[RunView]":
        """Start runs. ``options``: fields of ``StartRequest``. Check their states: a run may be ``denied``."""

    def run(self, run_id: int) -> "RunHistory":
        """Return a run with its attempts and events, and the step history of a sequence."""

    def wait(self, run_id: int, seconds: float) -> "RunView":
        """Wait until the run is final, at most ``seconds``, and return it."""

    def runs(self, wanted: "Filter", limit: int) -> "list[RunView]":
        """Return up to ``limit`` runs that match the filter, newest first."""

    def choose_to_retry(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the runs that a retry with this filter would affect. Changes nothing."""

    def choose_to_stop(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the runs that a stop with this filter would affect. Changes nothing."""

    def choose_to_acknowledge(self, wanted: "Filter", limit: int) -> "list[ManyView]":
        """Return the failures that match the filter and that nobody has acknowledged. Changes nothing."""

    def retry_many(self, run_ids: Sequence[int]) -> "list[ManyView]":
        """Retry each of these runs, at most once."""

    def stop_many(self, run_ids: Sequence[int], now: bool) -> "list[ManyView]":
        """Request a stop of each of these runs."""

    def acknowledge_many(self, run_ids: Sequence[int]) -> "list[ManyView]":
        """Acknowledge each of these runs that has failed."""

    def stop(self, run_id: int, now: bool) -> "Stopped":
        """Request the stop of a run. ``now``: without the grace period. Returns the states before and after."""

    def retry(self, run_id: int, from_failed: bool, changes: Mapping[str, Any]) -> "RunView":
        """Start a new run like a finished run, with changed parameters. Returns the new run."""

    def approve(self, run_id: int, step: str, approved: bool, reason: str | None, given: Mapping[str, Any]) -> str:
        """Decide about a step that waits for a person, with values for which it asks. Returns the decision."""

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        """Return the next output after ``positions`` (bytes by stream), and advance them."""

    def jobs(self) -> "list[JobView]":
        """Return all jobs."""

    def job(self, job_id: str) -> "JobView":
        """Return a job with its definition."""

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Return the defaults by category."""

    def enable(self, job_id: str, enabled: bool) -> None:
        """Enable or disable a job."""

    def delete(self, job_id: str) -> None:
        """Delete a job."""

    def workers(self, alive_only: bool) -> "list[WorkerView]":
        """Return the workers, newest first."""

    def drain(self, worker_id: int) -> None:
        """Ask a worker to claim no more runs and to exit when its runs have ended."""

    def undrain(self, worker_id: int) -> None:
        """Let a draining worker claim runs again."""

    def schedules(self, job: str | None) -> "list[ScheduleView]":
        """Return the schedules of a job; None: of all jobs."""

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> "list[CandidateView]":
        """Return the next due times of a job after ``start``. ``explain``: include times that do not fire."""

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        """Pause or resume a schedule; ``name`` None: all of the job. Returns the names of those that changed."""

    def backfill(self, wanted: "BackfillRequest", dry_run: bool) -> "Backfill":
        """Start runs for due times that have passed, or show them."""

    def search_output(self, wanted: "Filter", text: str, limit: int) -> "list[OutputMatch]":
        """Return up to ``limit`` lines with this text in the output of the runs that match the filter."""

    def load(self, days: int) -> "LoadView":
        """Return how full the coming days are."""

    def hold(self, scope: "Scope", reason: str, until: datetime | timedelta | None) -> "HoldView":
        """Hold this scope: start nothing new. ``until``: a time, or how long from now on the database's clock."""

    def release(self, hold_id: int) -> "HoldView":
        """End a hold."""

    def holds(self, ended: bool, limit: int) -> "list[HoldView]":
        """The active holds, oldest first; with ``ended`` also those that have ended, newest first."""

    def note(self, run_id: int, text: str, acknowledge: bool) -> "NoteView":
        """Write a note about a run; with ``acknowledge`` also acknowledge its failure."""

    def acknowledge(self, run_ids: Sequence[int]) -> "list[RunView]":
        """Acknowledge failures."""

    def versions(self, job_id: str) -> "list[VersionView]":
        """The versions of a job, newest first, each with its definition."""

    def rollback(self, job_id: str, version: int) -> "JobView":
        """Make an earlier version of a job the current one again, as a new version."""

    def overview(self) -> "Overview":
        """Return the current state of the factory."""
