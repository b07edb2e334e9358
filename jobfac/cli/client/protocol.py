"""What the commands need from jobfac. The database and the API both give the same views."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobfac.states import RunState

if TYPE_CHECKING:
    from jobfac.store.runs import Stopped
    from jobfac.views.jobs import JobView
    from jobfac.views.overview import Overview
    from jobfac.views.runs import RunHistory, RunView
    from jobfac.views.schedules import CandidateView, ScheduleView
    from jobfac.views.workers import WorkerView


class Text(NamedTuple):
    """A piece of output; ``skipped`` bytes were cut before it."""

    stream: str
    data: bytes
    skipped: int


class RunFilter(NamedTuple):
    """Which runs to list; a filter that is None or empty matches all."""

    job: str | None
    states: Sequence[RunState]
    since: datetime | None
    limit: int
    parameters: Mapping[str, str] = {}


class Backend(Protocol):
    """What the commands need. Raises ``errors.NotFound``, ``errors.Refused``, ``DefinitionError``, ``Unreachable``."""

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> "list[RunView]":
        """Start runs; ``options`` as the body of the API's call. A run may come back ``denied``."""

    def run(self, run_id: int) -> "RunHistory":
        """One run with its attempts and events, and the steps that a sequence visited."""

    def wait(self, run_id: int, seconds: float) -> "RunView":
        """The run, when it is final or the time is up."""

    def runs(self, filters: "RunFilter") -> "list[RunView]":
        """Runs that match the filter, newest first."""

    def stop(self, run_id: int, now: bool) -> "Stopped":
        """Ask for a stop."""

    def retry(self, run_id: int, from_failed: bool, changes: Mapping[str, Any]) -> "RunView":
        """Run it again, with changed parameters: the new run."""

    def approve(self, run_id: int, step: str, approved: bool, reason: str | None) -> str:
        """Decide about a step that waits for a person: the decision."""

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        """What lies beyond these offsets by stream, which are moved on."""

    def jobs(self) -> "list[JobView]":
        """Every job."""

    def job(self, job_id: str) -> "JobView":
        """One job, with its definition."""

    def defaults(self) -> dict[str, dict[str, Any]]:
        """The defaults of categories, by category."""

    def enable(self, job_id: str, enabled: bool) -> None:
        """Allow or forbid its starts."""

    def delete(self, job_id: str) -> None:
        """Remove it."""

    def workers(self, alive_only: bool) -> "list[WorkerView]":
        """The fleet."""

    def drain(self, worker_id: int) -> None:
        """Ask a worker to leave when its runs are done."""

    def schedules(self, job: str | None) -> "list[ScheduleView]":
        """Every schedule, or this job's."""

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> "list[CandidateView]":
        """When a job would be due; with ``explain`` also the times that do not fire."""

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        """Pause or resume a schedule, or all of a job's; the names of those that were not yet."""

    def overview(self) -> "Overview":
        """The factory at this moment."""
