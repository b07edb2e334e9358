
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
