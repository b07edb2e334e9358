
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
