"""The rows of the reports: typed, each with the titles and kinds of its columns."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args

from jobfac.reports.facts import Period
from jobfac.views.serialization import fields


class Kind(Enum):
    """What a column holds, which says how it is shown."""

    TEXT = "text"
    GROUP = "group"  # a category; None: jobs that have none
    COUNT = "count"
    PERCENT = "percent"
    CHANGE = "change"  # per cent more or less than in the period before
    SECONDS = "seconds"
    HOURS = "hours"
    MEMORY = "memory"  # bytes
    DAY = "day"  # a date
    MOMENT = "moment"  # a time
    RUN = "run"  # a run's id
    SERIES = "series"  # values over time


class Column(NamedTuple):
    """How a field of a row is shown; a narrow place does without the ``spare`` ones."""

    title: str
    kind: Kind
    spare: bool = False


class SummaryRow(NamedTuple):
    """The jobs of a category together; ``category`` None: those that have none."""

    category: Annotated[str | None, Column("category", Kind.GROUP)]
    jobs: Annotated[int, Column("jobs", Kind.COUNT, spare=True)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    succeeded: Annotated[int, Column("succeeded", Kind.COUNT, spare=True)]
    failed: Annotated[int, Column("failed", Kind.COUNT)]
    other: Annotated[int, Column("other", Kind.COUNT)]
    success_percent: Annotated[float | None, Column("success", Kind.PERCENT)]
    retries: Annotated[int, Column("retries", Kind.COUNT)]
    late: Annotated[int, Column("late", Kind.COUNT)]
    hours: Annotated[float, Column("hours", Kind.HOURS)]
    average_wait_seconds: Annotated[float | None, Column("wait", Kind.SECONDS, spare=True)]


class FailureRow(NamedTuple):
    """How often a job ended in one bad way, and the last run of these that is kept."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    state: Annotated[str, Column("ended", Kind.TEXT)]
    failures: Annotated[int, Column("times", Kind.COUNT)]
    share_percent: Annotated[float | None, Column("of runs", Kind.PERCENT)]
    last_at: Annotated[datetime | None, Column("last", Kind.MOMENT)]
    last_run: Annotated[int | None, Column("run", Kind.RUN)]
    reason: Annotated[str | None, Column("reason", Kind.TEXT)]


class SlowestRow(NamedTuple):
    """How long a job takes, and took in the period before."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    average_seconds: Annotated[float | None, Column("average", Kind.SECONDS)]
    before_seconds: Annotated[float | None, Column("before", Kind.SECONDS, spare=True)]
    change_percent: Annotated[float | None, Column("change", Kind.CHANGE)]
    shortest_seconds: Annotated[float | None, Column("shortest", Kind.SECONDS, spare=True)]
    longest_seconds: Annotated[float | None, Column("longest", Kind.SECONDS)]
    longest_run: Annotated[int | None, Column("run", Kind.RUN)]


class LateRow(NamedTuple):
    """How often and how much a job began late."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    late: Annotated[int, Column("late", Kind.COUNT)]
    late_percent: Annotated[float | None, Column("of runs", Kind.PERCENT)]
    average_wait_seconds: Annotated[float | None, Column("wait", Kind.SECONDS)]
    latest_seconds: Annotated[float | None, Column("latest", Kind.SECONDS)]
    latest_run: Annotated[int | None, Column("run", Kind.RUN)]


class UsageRow(NamedTuple):
    """What the runs of a job used, and what they used in the period before."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    cpu_hours: Annotated[float, Column("CPU", Kind.HOURS)]
    average_cpu_seconds: Annotated[float | None, Column("average", Kind.SECONDS)]
    before_cpu_seconds: Annotated[float | None, Column("before", Kind.SECONDS, spare=True)]
    change_percent: Annotated[float | None, Column("change", Kind.CHANGE)]
    peak_memory: Annotated[int | None, Column("peak memory", Kind.MEMORY)]


class TrendRow(NamedTuple):
    """A job on a day."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    day: Annotated[date, Column("day", Kind.DAY)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    failed: Annotated[int, Column("failed", Kind.COUNT)]
    success_percent: Annotated[float | None, Column("success", Kind.PERCENT)]
    average_seconds: Annotated[float | None, Column("average", Kind.SECONDS)]
    longest_seconds: Annotated[float | None, Column("longest", Kind.SECONDS)]
    late: Annotated[int, Column("late", Kind.COUNT)]


class UtilisationRow(NamedTuple):
    """How busy a worker's slots were."""

    worker: Annotated[str, Column("worker", Kind.TEXT)]
    attempts: Annotated[int, Column("executions", Kind.COUNT)]
    busy_hours: Annotated[float, Column("busy", Kind.HOURS)]
    slot_hours: Annotated[float, Column("of", Kind.HOURS)]
    busy_percent: Annotated[float | None, Column("busy", Kind.PERCENT)]


class JobHistoryRow(NamedTuple):
    """A job over time. ``each``, ``bad`` and ``taken`` have a value for each span of days: runs,
    those of them that failed, and the average seconds (None: nothing ran)."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    each: Annotated[list[int], Column("over time", Kind.SERIES)]
    failed: Annotated[int, Column("failed", Kind.COUNT, spare=True)]
    success_percent: Annotated[float | None, Column("success", Kind.PERCENT)]
    average_seconds: Annotated[float | None, Column("average", Kind.SECONDS)]
    taken: Annotated[list[float | None], Column("over time", Kind.SERIES, spare=True)]
    change_percent: Annotated[float | None, Column("change", Kind.CHANGE)]
    bad: list[int]


Row = TypeVar("Row", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Report(Generic[Row]):
    """Rows of one type; ``total``, where there is one, is all of them together."""

    name: str
    title: str
    note: str
    period: Period
    row: type[Row]
    rows: list[Row]
    total: Row | None = None

    @property
    def columns(self) -> dict[str, Column]:
        """The fields of a row that are shown, each with its column."""
        marks = {field.name: get_args(field.kind)[1:] for field in fields(self.row)}
        return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, Column)}
