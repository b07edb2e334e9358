"""The types of the reports' rows, with the title and kind of each column."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args

from jobfac.reports.facts import Period
from jobfac.views.serialization import fields


class Kind(Enum):
    """The kind of a column, which determines its format."""

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
    """The title and kind of a column. A narrow table omits ``spare`` columns."""

    title: str
    kind: Kind
    spare: bool = False


class SummaryRow(NamedTuple):
    """The totals of a category; ``category`` None: jobs without a category."""

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
    """How often a job ended in a failure state, and the last such run that is still stored."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    state: Annotated[str, Column("ended", Kind.TEXT)]
    failures: Annotated[int, Column("times", Kind.COUNT)]
    share_percent: Annotated[float | None, Column("of runs", Kind.PERCENT)]
    last_at: Annotated[datetime | None, Column("last", Kind.MOMENT)]
    last_run: Annotated[int | None, Column("run", Kind.RUN)]
    reason: Annotated[str | None, Column("reason", Kind.TEXT)]


class SlowestRow(NamedTuple):
    """How long a job takes, compared with the preceding period."""

    job: Annotated[str, Column("job", Kind.TEXT)]
    runs: Annotated[int, Column("runs", Kind.COUNT)]
    average_seconds: Annotated[float | None, Column("average", Kind.SECONDS)]
    before_seconds: Annotated[float | None, Column("before", Kind.SECONDS, spare=True)]
    change_percent: Annotated[float | None, Column("change", Kind.CHANGE)]
    shortest_seconds: Annotated[float | None, Column("shortest", Kind.SECONDS, spare=True)]
    longest_seconds: Annotated[float | None, Column("longest", Kind.SECONDS)]
    longest_run: Annotated[int | None, Column("run", Kind.RUN)]


class LateRow(NamedTuple):
    """How often and by how much a job began late."""

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
    """The totals of a job on one day."""

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
    """The history of a job.

    ``each``, ``bad`` and ``taken`` have one value for each span of days: the number of runs, the number of failed runs,
    and the average time in seconds (None: no run was executed).
    """

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
    """A report. ``total`` is the sum of all rows, if the report has one."""

    name: str
    title: str
    note: str
    period: Period
    row: type[Row]
    rows: list[Row]
    total: Row | None = None

    @property
    def columns(self) -> dict[str, Column]:
        """The shown fields of a row, each with its column."""
        marks = {field.name: get_args(field.kind)[1:] for field in fields(self.row)}
        return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, Column)}
