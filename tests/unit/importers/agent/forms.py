"""Jobs of SQL Server Agent as SSMS (Script Job as > CREATE To) and dbatools (Export-DbaScript) write them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

Fields = Mapping[str, Any]


class Job(NamedTuple):
    """A job: the arguments of sp_add_job, of each step and of each schedule."""

    name: str
    steps: Sequence[Fields]
    schedules: Sequence[Fields] = ()
    fields: Fields = MappingProxyType({})
    server: str = "(local)"


STEP = {
    "cmdexec_success_code": 0, "on_success_action": 1, "on_success_step_id": 0, "on_fail_action": 2,
    "on_fail_step_id": 0, "retry_attempts": 0, "retry_interval": 0, "os_run_priority": 0, "subsystem": "TSQL",
}  # fmt: skip
SCHEDULE = {
    "enabled": 1, "freq_type": 4, "freq_interval": 1, "freq_subday_type": 1, "freq_subday_interval": 0,
    "freq_relative_interval": 0, "freq_recurrence_factor": 0, "active_start_date": 20260101,
    "active_end_date": 99991231, "active_start_time": 0, "active_end_time": 235959,
}  # fmt: skip
JOB = {
    "enabled": 1, "notify_level_eventlog": 0, "notify_level_email": 0, "notify_level_netsend": 0,
    "notify_level_page": 0, "delete_level": 0, "description": "No description available.",
    "category_name": "[Uncategorized (Local)]", "owner_login_name": "sa",
}  # fmt: skip
CHECK = "IF (@@ERROR <> 0 OR @ReturnCode <> 0) GOTO QuitWithRollback"


def literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "N'" + value.replace("'", "''") + "'"


def arguments(fields: Fields, separator: str = ", \n\t\t") -> str:
    return separator.join(f"@{name}={literal(value)}" for name, value in fields.items())


def ssms(job: Job) -> str:
    """As SSMS scripts one job."""
    category = {**JOB, **job.fields}["category_name"]
    lines = [
        "USE [msdb]", "GO", "",
        f"/****** Object:  Job [{job.name}]    Script Date: 1/5/2026 6:00:00 AM ******/",
        "BEGIN TRANSACTION", "DECLARE @ReturnCode INT", "SELECT @ReturnCode = 0",
        f"/****** Object:  JobCategory [{category}]    Script Date: 1/5/2026 6:00:00 AM ******/",
        f"IF NOT EXISTS (SELECT name FROM msdb.dbo.syscategories WHERE name={literal(category)} AND category_class=1)",
        "BEGIN",
        f"EXEC @ReturnCode = msdb.dbo.sp_add_category @class=N'JOB', @type=N'LOCAL', @name={literal(category)}",
        CHECK, "", "END", "", "DECLARE @jobId BINARY(16)",
        f"EXEC @ReturnCode =  msdb.dbo.sp_add_job @job_name={literal(job.name)}, \n\t\t"
        f"{arguments({**JOB, **job.fields})}, @job_id = @jobId OUTPUT",
        CHECK,
    ]  # fmt: skip
    for number, step in enumerate(job.steps, start=1):
        named = {"step_name": f"Step {number}", "step_id": number, **STEP, **step}
        lines += [
            f"/****** Object:  Step [{named['step_name']}]    Script Date: 1/5/2026 6:00:00 AM ******/",
            f"EXEC @ReturnCode = msdb.dbo.sp_add_jobstep @job_id=@jobId, {arguments(named)}",
            CHECK,
        ]
    lines += ["EXEC @ReturnCode = msdb.dbo.sp_update_job @job_id = @jobId, @start_step_id = 1", CHECK]
    for number, schedule in enumerate(job.schedules, start=1):
        named = {"name": f"Schedule {number}", **SCHEDULE, **schedule}
        lines += [
            f"EXEC @ReturnCode = msdb.dbo.sp_add_jobschedule @job_id=@jobId, {arguments(named)}, \n\t\t"
            f"@schedule_uid=N'0f0ce7cb-5b2f-4e6b-a3b6-{number:012}'",
            CHECK,
        ]
    lines += [
        f"EXEC @ReturnCode = msdb.dbo.sp_add_jobserver @job_id = @jobId, @server_name = {literal(job.server)}",
        CHECK, "COMMIT TRANSACTION", "GOTO EndSave", "QuitWithRollback:",
        "    IF (@@TRANCOUNT > 0) ROLLBACK TRANSACTION", "EndSave:", "GO", "", "",
    ]  # fmt: skip
    return "\n".join(lines)


def dbatools(job: Job) -> str:
    """As dbatools exports one job: through SMO, one line for each call, and only if there is no such job."""
    fields = {**JOB, **job.fields}
    lines = [
        "/*",
        "\tCreated by SHOP\\dba using dbatools Export-DbaScript for objects on sql01 at 2026-01-05 06:00:00.000",
        "\tSee https://dbatools.io/Export-DbaScript for more information",
        "*/",
        "BEGIN TRANSACTION", "DECLARE @ReturnCode INT", "SELECT @ReturnCode = 0", "DECLARE @jobId BINARY(16)",
        f"select @jobId = job_id from msdb.dbo.sysjobs where (name = {literal(job.name)})",
        "if (@jobId is NULL)", "BEGIN",
        f"EXEC @ReturnCode =  msdb.dbo.sp_add_job @job_name={literal(job.name)}, {arguments(fields, ', ')}, "
        "@job_id = @jobId OUTPUT",
        CHECK, "", "END",
    ]  # fmt: skip
    for number, step in enumerate(job.steps, start=1):
        named = {"step_name": f"Step {number}", "step_id": number, **STEP, **step}
        lines += [
            f"IF NOT EXISTS (SELECT * FROM msdb.dbo.sysjobsteps WHERE job_id = @jobId AND step_id = {number})",
            f"EXEC @ReturnCode = msdb.dbo.sp_add_jobstep @job_id=@jobId, {arguments(named, ', ')}",
            CHECK,
        ]
    lines += ["EXEC @ReturnCode = msdb.dbo.sp_update_job @job_id = @jobId, @start_step_id = 1", CHECK]
    for number, schedule in enumerate(job.schedules, start=1):
        named = {"name": f"Schedule {number}", **SCHEDULE, **schedule}
        lines += [
            f"EXEC @ReturnCode = msdb.dbo.sp_add_jobschedule @job_id=@jobId, {arguments(named, ', ')}",
            CHECK,
        ]
    lines += [
        f"EXEC @ReturnCode = msdb.dbo.sp_add_jobserver @job_id = @jobId, @server_name = {literal(job.server)}",
        CHECK, "COMMIT TRANSACTION", "GOTO EndSave", "QuitWithRollback:",
        "    IF (@@TRANCOUNT > 0) ROLLBACK TRANSACTION", "EndSave:", "", "GO", "",
    ]  # fmt: skip
    return "\n".join(lines)
