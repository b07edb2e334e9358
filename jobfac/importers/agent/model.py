"""SQL Server Agent's jobs as they are stored in msdb, whether they come from scripts or from the database."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Place(NamedTuple):
    """The source of a value: a file and a line (from 1), or a database without a line."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Remark(NamedTuple):
    """Something that could not be imported, as a clause that ends with what to do."""

    place: Place
    message: str
    job: str | None = None
    step: str | None = None

    def __str__(self) -> str:
        job = "" if self.job is None else f"job '{self.job}'"
        step = "" if self.step is None else f", {self.step}"
        return ": ".join(part for part in (str(self.place), job + step, self.message) if part)


@dataclass
class Schedule:
    """A schedule. Dates are numbers yyyymmdd, times hhmmss, as msdb holds them."""

    place: Place
    name: str = ""
    enabled: int = 1
    freq_type: int = 0
    freq_interval: int = 0
    freq_subday_type: int = 0
    freq_subday_interval: int = 0
    freq_relative_interval: int = 0
    freq_recurrence_factor: int = 0
    active_start_date: int = 0
    active_end_date: int = 99991231
    active_start_time: int = 0
    active_end_time: int = 235959
    next_run: str | None = None
    """When Agent would run it next, "yyyy-mm-dd hh:mm:ss" in the server's zone; only read from msdb."""


@dataclass
class Step:
    """A step of a job. Actions: 1 quit with success, 2 quit with failure, 3 next step, 4 go to a step."""

    place: Place
    step_id: int = 1
    step_name: str = ""
    subsystem: str = "TSQL"
    command: str = ""
    cmdexec_success_code: int = 0
    on_success_action: int = 1
    on_success_step_id: int = 0
    on_fail_action: int = 2
    on_fail_step_id: int = 0
    server: str = ""
    database_name: str = ""
    database_user_name: str = ""
    retry_attempts: int = 0
    retry_interval: int = 0
    os_run_priority: int = 0
    output_file_name: str = ""
    flags: int = 0
    proxy_name: str = ""

    @property
    def shown(self) -> str:
        return f"step {self.step_id} '{self.step_name}'"


@dataclass
class Job:
    """A job. Notification levels: 0 never, 1 on success, 2 on failure, 3 always."""

    place: Place
    name: str
    enabled: int = 1
    description: str = ""
    start_step_id: int = 1
    category: str = ""
    owner: str = ""
    notify_level_eventlog: int = 0
    notify_level_email: int = 0
    notify_level_netsend: int = 0
    notify_level_page: int = 0
    email_operator: str = ""
    netsend_operator: str = ""
    page_operator: str = ""
    delete_level: int = 0
    servers: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)


@dataclass
class Operator:
    """A recipient of notifications; a disabled one gets none. Several addresses are separated by semicolons."""

    name: str
    email_address: str = ""
    pager_address: str = ""
    enabled: int = 1


@dataclass
class Agent:
    """All jobs, schedules and operators that were read."""

    jobs: list[Job] = field(default_factory=list)
    operators: dict[str, Operator] = field(default_factory=dict)
    """By name in lower case."""
    remarks: list[Remark] = field(default_factory=list)
