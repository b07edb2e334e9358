"""What the commands need from jobfac. The database and the API both give and take the API's JSON objects."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from jobfac.store.overview import Overview

Object = dict[str, Any]


class Text(NamedTuple):
    """A piece of output; ``skipped`` bytes were cut before it."""

    stream: str
    data: bytes
    skipped: int


class Backend(Protocol):
    """What the commands need. Raises ``errors.NotFound``, ``errors.Refused``, ``DefinitionError``, ``Unreachable``."""

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> list[Object]:
        """Start runs; ``options`` as the body of the API's call. A run may come back ``denied``."""

    def run(self, run_id: int) -> Object:
        """One run with its ``attempts`` and ``events``, and the ``path`` of a sequence."""

    def wait(self, run_id: int, seconds: float) -> Object:
        """The run, when it is final or the time is up."""

    def runs(self, filters: Mapping[str, Any]) -> list[Object]:
        """Runs, newest first; filters ``job``, ``state``, ``since``, ``limit``."""

    def stop(self, run_id: int, now: bool) -> Object:
        """Ask for a stop; ``{"before": state, "after": state}``."""

    def retry(self, run_id: int, from_failed: bool) -> Object:
        """Run it again: the new run."""

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        """What lies beyond these offsets by stream, which are moved on."""

    def jobs(self) -> list[Object]:
        """Every job: ``id``, ``kind``, ``version``, ``enabled``, ``category``, ``queue``, ``definition``."""

    def job(self, job_id: str) -> Object:
        """One job, with its definition."""

    def defaults(self) -> Object:
        """The defaults of categories, by category."""

    def enable(self, job_id: str, enabled: bool) -> None:
        """Allow or forbid its starts."""

    def delete(self, job_id: str) -> None:
        """Remove it."""

    def workers(self, alive_only: bool) -> list[Object]:
        """The fleet."""

    def drain(self, worker_id: int) -> None:
        """Ask a worker to leave when its runs are done."""

    def schedules(self, job: str | None) -> list[Object]:
        """Every schedule, or this job's: as ``schedules.list_schedules`` has them."""

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> list[Object]:
        """When a job would be due: as ``schedules.preview`` has it."""

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        """Pause or resume a schedule, or all of a job's; the names of those that were not yet."""

    def overview(self) -> "Overview":
        """How the factory stands."""
