"""Reads Agent's jobs from the database msdb. Only SELECT; a user with the role db_datareader may do it."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from jobfac.importers.agent.model import Agent, Job, Operator, Place, Remark, Schedule, Step
from jobfac.importers.agent.script import NO_ALERTS, lines

SOURCE = Place("msdb")

JOBS = sa.text("""
SELECT j.job_id, j.name, j.enabled, j.description, j.start_step_id, c.name AS category,
  SUSER_SNAME(j.owner_sid) AS owner, j.notify_level_eventlog, j.notify_level_email, j.notify_level_netsend,
  j.notify_level_page, e.name AS email_operator, n.name AS netsend_operator, p.name AS page_operator, j.delete_level
FROM msdb.dbo.sysjobs AS j
LEFT JOIN msdb.dbo.syscategories AS c ON c.category_id = j.category_id
LEFT JOIN msdb.dbo.sysoperators AS e ON e.id = j.notify_email_operator_id
LEFT JOIN msdb.dbo.sysoperators AS n ON n.id = j.notify_netsend_operator_id
LEFT JOIN msdb.dbo.sysoperators AS p ON p.id = j.notify_page_operator_id
ORDER BY j.name, j.job_id
""")

STEPS = sa.text("""
SELECT s.job_id, s.step_id, s.step_name, s.subsystem, s.command, s.cmdexec_success_code, s.on_success_action,
  s.on_success_step_id, s.on_fail_action, s.on_fail_step_id, s.server, s.database_name, s.database_user_name,
  s.retry_attempts, s.retry_interval, s.os_run_priority, s.output_file_name, s.flags, x.name AS proxy_name
FROM msdb.dbo.sysjobsteps AS s
LEFT JOIN msdb.dbo.sysproxies AS x ON x.proxy_id = s.proxy_id
ORDER BY s.job_id, s.step_id
""")

SCHEDULES = sa.text("""
SELECT a.job_id, s.name, s.enabled, s.freq_type, s.freq_interval, s.freq_subday_type, s.freq_subday_interval,
  s.freq_relative_interval, s.freq_recurrence_factor, s.active_start_date, s.active_end_date, s.active_start_time,
  s.active_end_time, a.next_run_date, a.next_run_time
FROM msdb.dbo.sysjobschedules AS a
JOIN msdb.dbo.sysschedules AS s ON s.schedule_id = a.schedule_id
ORDER BY a.job_id, s.name, s.schedule_id
""")

OPERATORS = sa.text("SELECT name, email_address, pager_address, enabled FROM msdb.dbo.sysoperators ORDER BY name")

SERVERS = sa.text("""
SELECT s.job_id, t.server_name
FROM msdb.dbo.sysjobservers AS s
JOIN msdb.dbo.systargetservers AS t ON t.server_id = s.server_id
ORDER BY s.job_id, t.server_name
""")
"""The other servers on which jobs run. The server itself is not among the target servers."""

ALERTS = sa.text("SELECT a.job_id, a.name FROM msdb.dbo.sysalerts AS a WHERE a.enabled = 1 ORDER BY a.name")


def read_msdb(conn: sa.Connection) -> Agent:
    """Return everything that the login may see, ordered by the jobs' names."""
    jobs = {row["job_id"]: _job(row) for row in _rows(conn, JOBS)}
    for row in _rows(conn, STEPS):
        if (job := jobs.get(row.pop("job_id"))) is not None:
            job.steps.append(Step(SOURCE, **_known(row)))
    for row in _rows(conn, SCHEDULES):
        next_date, next_time = row.pop("next_run_date"), row.pop("next_run_time")
        if (job := jobs.get(row.pop("job_id"))) is not None:
            schedule = Schedule(SOURCE, **_known(row))
            schedule.next_run = _moment(next_date or 0, next_time or 0)
            job.schedules.append(schedule)
    for row in _rows(conn, SERVERS):
        if (job := jobs.get(row["job_id"])) is not None:
            job.servers.append(row["server_name"])
    operators = [Operator(**_known(row)) for row in _rows(conn, OPERATORS)]
    return Agent(list(jobs.values()), {one.name.lower(): one for one in operators}, _alerts(conn, jobs))


def _alerts(conn: sa.Connection, jobs: Mapping[Any, Job]) -> list[Remark]:
    """Return a remark for each alert that starts a job."""
    return [
        Remark(SOURCE, f"the alert '{row['name']}' starts it, but {NO_ALERTS}", jobs[row["job_id"]].name)
        for row in _rows(conn, ALERTS)
        if row["job_id"] in jobs
    ]


def _rows(conn: sa.Connection, query: sa.TextClause) -> list[dict[str, Any]]:
    return [dict(row) for row in conn.execute(query).mappings()]


def _job(row: dict[str, Any]) -> Job:
    return Job(SOURCE, **_known({name: value for name, value in row.items() if name != "job_id"}))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that are not null, with line feeds as line ends. The others keep the model's defaults."""
    return {name: lines(value) if isinstance(value, str) else value for name, value in row.items() if value is not None}


def _moment(day: int, clock: int) -> str | None:
    """Return Agent's date and time (the numbers yyyymmdd and hhmmss) as text; None: not set."""
    if not day:
        return None
    date, time = f"{day:08}", f"{clock:06}"
    return f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}:{time[4:]}"
