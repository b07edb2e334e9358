"""The scripts of the corpus. ``python -m tests.unit.importers.agent.cases`` writes them into ``corpus/``."""

from collections.abc import Callable
from pathlib import Path

from tests.unit.importers.agent.forms import Job, dbatools, ssms

CORPUS = Path(__file__).parent / "corpus"

SELECT = {"command": "EXEC dbo.load", "database_name": "dw", "flags": 0}
WEEKDAYS = {"freq_type": 8, "freq_interval": 62, "freq_recurrence_factor": 1}
QUOTES = "PRINT 'It''s 5 o''clock'; -- don't\nGO\nSELECT N'a\"b' AS [x]]y] /* ' */;\nEXEC ('SELECT ''''')"
UMLAUTS = Job("Größe prüfen 🗄", [{**SELECT, "command": "SELECT N'Ä 🚚 ẞ'"}], [{}], {"owner_login_name": "Jörg"})


def monthly(nth: int, kind: int, factor: int = 1, **more: int) -> dict[str, int]:
    names = {"freq_interval": kind, "freq_relative_interval": nth, "freq_recurrence_factor": factor}
    return {"freq_type": 32, **names, **more}


def chain(number: int) -> list[dict[str, object]]:
    """Steps that go on to the next one; every seventh goes to the last one when it fails."""
    return [
        {
            **SELECT,
            "step_name": f"Load part {n}",
            "command": f"EXEC dbo.load @part = {n}",
            "on_success_action": 1 if n == number else 3,
            **({"on_fail_action": 4, "on_fail_step_id": number} if n % 7 == 0 else {}),
        }
        for n in range(1, number + 1)
    ]


SCHEDULES: dict[str, tuple[Callable[[Job], str], Job]] = {
    "once": (ssms, Job("Once", [SELECT], [
        {"freq_type": 1, "active_start_date": 20270131, "active_start_time": 63015},
    ])),
    "daily": (ssms, Job("Daily", [SELECT], [{"active_start_time": 231500}])),
    "every_3_days": (dbatools, Job("Every 3 days", [SELECT], [{"freq_interval": 3, "active_start_time": 40000}])),
    "weekdays": (ssms, Job("Weekdays", [SELECT], [{**WEEKDAYS, "active_start_time": 63000}])),
    "every_2_weeks": (
        dbatools,
        Job("Pay", [SELECT], [{**WEEKDAYS, "freq_interval": 73, "freq_recurrence_factor": 2,
                               "active_start_date": 20260107, "active_start_time": 90000}]),
    ),
    "monthly_31": (ssms, Job("Monthly", [SELECT], [
        {"freq_type": 16, "freq_interval": 31, "freq_recurrence_factor": 1, "active_start_time": 235959},
    ])),
    "every_3_months": (dbatools, Job("Quarter", [SELECT], [
        {"freq_type": 16, "freq_interval": 5, "freq_recurrence_factor": 3, "active_start_date": 20260215},
    ])),
    "monthly_relative": (ssms, Job("Relative", [SELECT], [
        monthly(2, 3, active_start_time=20000), monthly(16, 9), monthly(4, 10), monthly(1, 8), monthly(8, 6, 2),
    ])),
    "monthly_last": (dbatools, Job("Last", [SELECT], [
        monthly(16, 8), monthly(16, 7, 3), monthly(1, 9), monthly(2, 10),
    ])),
    "agent_start": (ssms, Job("At start", [SELECT], [{"freq_type": 64}, {"active_start_time": 10000}])),
    "idle": (dbatools, Job("Idle", [SELECT], [{"freq_type": 128}])),
    "every_10_minutes": (ssms, Job("Poll", [SELECT], [
        {"freq_subday_type": 4, "freq_subday_interval": 10, "active_start_time": 80000, "active_end_time": 175959},
        {**WEEKDAYS, "freq_subday_type": 4, "freq_subday_interval": 25, "active_start_time": 81000,
         "active_end_time": 170000},
        {"freq_subday_type": 4, "freq_subday_interval": 5},
    ])),
    "every_15_seconds": (dbatools, Job("Seconds", [SELECT], [
        {"freq_subday_type": 2, "freq_subday_interval": 15, "active_start_time": 120010, "active_end_time": 120500},
    ])),
    "across_midnight": (ssms, Job("Night", [SELECT], [
        {"freq_subday_type": 8, "freq_subday_interval": 2, "active_start_time": 223000, "active_end_time": 60000},
        {**WEEKDAYS, "freq_interval": 32, "freq_subday_type": 4, "freq_subday_interval": 50,
         "active_start_time": 220000, "active_end_time": 20000},
    ])),
    "bounded": (dbatools, Job("Season", [SELECT], [
        {"active_start_date": 20260301, "active_end_date": 20260321, "active_start_time": 120000},
        {"enabled": 0, "active_start_time": 130000},
    ], {"enabled": 0})),
}  # fmt: skip

ACTIONS = Job("Actions", [
    {**SELECT, "step_name": "1 next or go", "on_success_action": 3, "on_fail_action": 4, "on_fail_step_id": 4},
    {**SELECT, "step_name": "2 go or next", "on_success_action": 4, "on_success_step_id": 4, "on_fail_action": 3},
    {**SELECT, "step_name": "3 quit", "on_success_action": 1, "on_fail_action": 2},
    {**SELECT, "step_name": "4 alarm", "on_success_action": 2, "on_fail_action": 1},
])  # fmt: skip

PROGRAMS = Job("Programs", [
    {"subsystem": "CmdExec", "command": r'"C:\Program Files\etl\etl.exe" /day:"a b" "c \"d\"" e\\f "g\\" ""',
     "cmdexec_success_code": 3, "on_success_action": 3, "flags": 0},
    {"subsystem": "CmdExec", "command": "cmd.exe /c dir C:\\ > C:\\out.txt", "on_success_action": 3, "flags": 0},
    {"subsystem": "CmdExec", "command": "robocopy /mir //nas/a /srv/b", "on_success_action": 3},
    {"subsystem": "CmdExec", "command": "bcp dw.dbo.x out x.txt -S . -T > nul", "cmdexec_success_code": 1000,
     "on_success_action": 3},
    {"subsystem": "PowerShell", "command": "Get-ChildItem |\n  Where-Object { $_.Name -like '*.csv' }",
     "on_success_action": 3, "database_name": "master", "flags": 40},
    {"subsystem": "SSIS", "on_success_action": 3, "proxy_name": "SSIS proxy",
     "command": r'/ISSERVER "\"\SSISDB\Sales\Load\Daily.dtsx\"" /SERVER "\"sql01\"" '
                r'/Par "\"$ServerOption::LOGGING_LEVEL(Int16)\"";1 /CALLERINFO SQLAGENT /REPORTING E'},
    {"subsystem": "ANALYSISCOMMAND", "command": "<Process/>", "server": "olap01", "on_success_action": 3},
    {"subsystem": "ActiveScripting", "command": "x = 1", "database_name": "VBScript", "on_success_action": 3},
    {"subsystem": "CmdExec", "command": "   ", "on_success_action": 1},
])  # fmt: skip

OUTPUTS = Job("Outputs", [
    {**SELECT, "output_file_name": r"D:\Agent\load.log", "flags": 2, "retry_attempts": 3, "retry_interval": 30,
     "on_success_action": 3},
    {**SELECT, "output_file_name": "/var/opt/mssql/log/load.log", "flags": 6, "on_success_action": 3},
    {**SELECT, "output_file_name": r"$(ESCAPE_SQUOTE(SQLLOGDIR))\Backup_$(ESCAPE_SQUOTE(JOBID))_"
     r"$(ESCAPE_SQUOTE(STEPID))_$(ESCAPE_SQUOTE(STRTDT))_$(ESCAPE_SQUOTE(STRTTM)).txt", "flags": 0,
     "retry_attempts": 9999, "retry_interval": 0, "on_success_action": 3},
    {**SELECT, "flags": 16, "os_run_priority": -1, "database_user_name": "o'hara", "server": "sql02"},
])  # fmt: skip

OTHER_JOBS = Job("Starts others", [
    {**SELECT, "command": "EXEC msdb.dbo.sp_start_job N'Load';\nWHILE EXISTS (SELECT 1 FROM msdb.dbo.sysjobactivity"
     " AS a JOIN msdb.dbo.sysjobs AS j ON j.job_id = a.job_id WHERE j.name = N'Load') WAITFOR DELAY '00:00:10'",
     "on_success_action": 3},
    {"subsystem": "CmdExec", "command": "sqlcmd -S sql01 -E -Q \"exec msdb..sp_start_job 'Load'\"",
     "on_success_action": 3},
    {"subsystem": "PowerShell", "command": "# for all\nparam($job = 'Load')\nStart-DbaAgentJob -Job $job",
     "on_success_action": 3},
    {**SELECT, "command": "EXEC msdb.dbo.SP_UPDATE_JOB @job_name = N'Load', @enabled = 0", "on_success_action": 3},
    {**SELECT, "command": "EXEC msdb.dbo.sp_purge_jobhistory; EXEC dbo.my_sp_start_job_log"},
], [], {"category_name": "REPL-LogReader"})  # fmt: skip

TOKENS = Job("O'Neill's [job]", [
    {**SELECT, "step_name": 'The "step"', "on_success_action": 3,
     "command": "PRINT '$(ESCAPE_SQUOTE(JOBNAME)) $(ESCAPE_NONE(STEPID))'; PRINT $(ESCAPE_SQUOTE(DATE))\n"
                "PRINT N'$(ESCAPE_SQUOTE(A-MSG)) $(ESCAPE_SQUOTE(SRVR)) $(notatoken)'"},
    {"subsystem": "PowerShell", "command": 'Write-Output "$(ESCAPE_DQUOTE(STEPNAME)) $(Get-Date) $(JOBID)"\n'
                "Write-Output 'on $(ESCAPE_SQUOTE(MACH))' \"$(ESCAPE_NONE(STRTDT))\" '$(JOBID)'",
     "step_name": 'The "step"'},
])  # fmt: skip

CIRCLE = Job("Circle", [
    {**SELECT, "on_success_action": 3, "on_fail_action": 4, "on_fail_step_id": 1},
    {**SELECT, "on_success_action": 4, "on_success_step_id": 1, "on_fail_action": 4, "on_fail_step_id": 2},
    {**SELECT, "on_success_action": 4, "on_success_step_id": 9},
])  # fmt: skip

HOSTILE = Job("x'); DROP TABLE msdb..sysjobs --\nGO", [
    {**SELECT, "step_name": "#: {a: [b}\t| >", "command": QUOTES},
    {**SELECT, "step_name": "\u202e\x07 - ? @", "command": " GO\n/* not closed\n\tEXEC sp_add_job @job_name = N'no'\n"},
    {**SELECT, "step_name": "", "command": ""},
    {**SELECT, "step_name": "Quotes", "command": 'PRINT "a text for Agent"', "database_user_name": "dbo"},
    {**SELECT, "step_name": "" , "command": "-- $(ESCAPE_NONE())\n${parameters.x} {{ %s }} \\"},
], [{"name": "' # \" :"}], {"description": "a: b\n- c # d\n\n\ttab ", "category_name": "Data'Base]s"})  # fmt: skip

MANY = "".join(
    (ssms if number % 2 else dbatools)(Job(f"Job {number % 15} of many", chain(1 + number % 3),
                                           [{"active_start_time": number * 10000 % 240000}]))
    for number in range(30)
)  # fmt: skip

OPERATORS = ssms(
    Job("Notifies", [SELECT], [], {
        "notify_level_email": 2, "notify_email_operator_name": "DBA team",
        "notify_level_page": 3, "notify_page_operator_name": "Night shift",
        "notify_level_netsend": 1, "notify_netsend_operator_name": "DBA team", "notify_level_eventlog": 2,
        "delete_level": 1, "category_name": "Data Loads", "description": "Loads the orders.",
    }, "TARGET7")
) + dbatools(Job("Nobody", [SELECT], [], {"notify_level_email": 1, "notify_email_operator_name": "Gone"})) + """
EXEC msdb.dbo.sp_add_operator @name=N'DBA Team', @enabled=1, @weekday_pager_start_time=90000,
    @email_address=N'dba@example.org;ops@example.org; mailbox', @category_name=N'[Uncategorized]'
GO
EXEC msdb.dbo.sp_add_operator N'Night shift', 1, NULL, N'pager@example.org'
GO
EXEC msdb.dbo.sp_add_alert @name=N'Error 823', @message_id=823
EXEC msdb.dbo.sp_add_notification @alert_name=N'Error 823', @operator_name=N'DBA team', @notification_method = 1
GO
"""  # fmt: skip

SHARED = """
DECLARE @schedule_id int
EXEC msdb.dbo.sp_add_schedule @schedule_name=N'Office hours', @enabled=1, @freq_type=8, @freq_interval=62,
    @freq_subday_type=8, @freq_subday_interval=1, @freq_relative_interval=0, @freq_recurrence_factor=1,
    @active_start_date=20260101, @active_end_date=99991231, @active_start_time=80000, @active_end_time=180000,
    @schedule_id = @schedule_id OUTPUT
EXEC msdb.dbo.sp_add_job @job_name=N'First'
EXEC msdb.dbo.sp_add_jobstep @job_name=N'First', @step_name=N'A', @command=N'SELECT 1'
EXEC msdb.dbo.sp_attach_schedule @job_name=N'First', @schedule_id = @schedule_id
GO
EXEC msdb.dbo.sp_add_job @job_name=N'Second'
EXEC msdb.dbo.sp_add_jobstep @job_name=N'second', @step_name=N'A', @command=N'SELECT 2'
EXEC msdb.dbo.sp_attach_schedule @job_name=N'SECOND', @schedule_name=N'OFFICE HOURS'
EXEC msdb.dbo.sp_attach_schedule @job_name=N'Second', @schedule_name=N'Elsewhere'
EXEC msdb.dbo.sp_attach_schedule @job_name=N'Third', @schedule_name=N'Office hours'
GO
EXEC msdb.dbo.sp_add_schedule @schedule_name=N'Nobody''s', @freq_type=4, @freq_interval=1, @active_start_date=20260101
GO
"""

VARIABLES = """
DECLARE @name sysname = N'From ' + N'variables', @cmd nvarchar(max), @step AS int = 1, @job binary(16)
SET @cmd = N'PRINT ''one'';' + CHAR(13) + CHAR(10)
SET @cmd += N'PRINT ''two'';'
SELECT @step = @step + 1, @name = (@name + N'!')
EXECUTE [msdb].[dbo].[sp_add_job] @job_name = @name, @description = "quoted", @job_id = @job OUT;
exec msdb..sp_add_jobstep @job_id = @job, @step_name = Load, @command = @cmd, @database_name = dw,
  @retry_attempts = 0x2, @on_fail_action = -2
EXEC sp_add_jobstep @job_id = @job, @step_name = N'Unknown', @command = @@VERSION, @flavour = 1
IF 1 = 1 EXEC sp_add_jobserver @job_id = @job ELSE EXEC sp_add_jobserver @job_id = @job, @server_name = N'(LOCAL)'
GO 2
EXEC sp_add_jobstep @job_id = @job, @step_name = N'After GO', @command = N'x'
EXEC (N'EXEC sp_add_job @job_name = N''dynamic''')
DECLARE @p sysname = N'sp_add_job'
EXEC @p @job_name = N'no'
EXEC sp_add_job @job_name = @unknown
EXEC dbo.sp_own_procedure 1, N'x'
EXEC sp_start_job N'From variables!'
"""

POSITIONAL = """
USE msdb;
EXEC sp_add_job 'Positional', 1, 'By position.', 2, 'Data Loads';
EXEC sp_add_jobstep NULL, 'Positional', 1, 'First', 'CMDEXEC', 'echo first', NULL, 0, 1;
EXEC sp_add_jobstep NULL, 'Positional', 2, 'Second', 'TSQL', 'SELECT 2', NULL, 0, 4, 1;
EXEC sp_add_jobstep NULL, 'Positional', 1, 'Before', 'TSQL', 'SELECT 0', NULL, 0, 3;
EXEC sp_update_jobstep @job_name = 'Positional', @step_id = 1, @command = 'SELECT -1';
EXEC sp_update_jobstep @job_name = 'Positional', @step_id = 8, @command = 'SELECT -1';
EXEC sp_update_job @job_name = 'Positional', @new_name = 'By position', @category_name = 'Loads';
EXEC sp_add_jobserver 'x', 'By position', 'y', 0, 1;
"""

BROKEN = (
    ssms(Job("Whole", [SELECT], [{}]))
    + """
EXEC msdb.dbo.sp_add_job @job_name=N'Half'
EXEC msdb.dbo.sp_add_jobstep @job_name=N'Half', @step_name=N'A', @command=N'SELECT 1
EXEC msdb.dbo.sp_add_job @job_name=N''never''
"""
)

ODD = dbatools(Job("Odd", [SELECT], [
    {"freq_type": 7}, {"freq_type": 8, "freq_interval": 0}, {"freq_type": 16, "freq_interval": 32},
    {"freq_type": 32, "freq_interval": 11, "freq_relative_interval": 1}, {"active_start_time": 256199},
    {"freq_subday_type": 3, "freq_subday_interval": 1}, {"freq_subday_type": 4, "freq_subday_interval": 0},
    {"active_start_date": 20261399}, {"freq_interval": 20000}, {"freq_interval": 2, "active_start_date": 0},
    {"active_end_date": 35001231, "active_start_date": 19000101}, {"active_end_date": 20250101},
])) + dbatools(Job("No steps", [], [{}]))  # fmt: skip

CASES: dict[str, str | bytes] = {
    **{name: form(job) for name, (form, job) in SCHEDULES.items()},
    "actions": ssms(ACTIONS),
    "start_step": dbatools(ACTIONS).replace("@start_step_id = 1", "@start_step_id = 3"),
    "circle": ssms(CIRCLE),
    "programs": dbatools(PROGRAMS),
    "outputs": ssms(OUTPUTS),
    "other_jobs": ssms(OTHER_JOBS),
    "tokens": ssms(TOKENS),
    "hostile_quoting": ssms(HOSTILE),
    "forty_steps": dbatools(Job("Forty", chain(40), [{}])),
    "thirty_jobs": MANY,
    "operators": OPERATORS,
    "shared_schedules": SHARED,
    "variables": VARIABLES,
    "positional": POSITIONAL,
    "broken": BROKEN,
    "odd_schedules": ODD,
    "utf8_mark": b"\xef\xbb\xbf" + ssms(UMLAUTS).encode(),
    "utf16_little": b"\xff\xfe" + ssms(UMLAUTS).replace("\n", "\r\n").encode("utf-16-le"),
    "utf16_big": b"\xfe\xff" + dbatools(UMLAUTS).replace("\n", "\r\n").encode("utf-16-be"),
    "utf16_unmarked": dbatools(UMLAUTS).encode("utf-16-le"),
    "windows_1252": ssms(Job("Prüfen", [{**SELECT, "command": "PRINT '5 €'"}], [{}])).encode("cp1252"),
}
"""By name, the text of each script, or its bytes."""


def main() -> None:
    for name, script in CASES.items():
        (CORPUS / name).mkdir(exist_ok=True)
        (CORPUS / name / "script.sql").write_bytes(script if isinstance(script, bytes) else script.encode())


if __name__ == "__main__":
    main()
