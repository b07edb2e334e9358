
USE msdb;
EXEC sp_add_job 'Positional', 1, 'By position.', 2, 'Data Loads';
EXEC sp_add_jobstep NULL, 'Positional', 1, 'First', 'CMDEXEC', 'echo first', NULL, 0, 1;
EXEC sp_add_jobstep NULL, 'Positional', 2, 'Second', 'TSQL', 'SELECT 2', NULL, 0, 4, 1;
EXEC sp_add_jobstep NULL, 'Positional', 1, 'Before', 'TSQL', 'SELECT 0', NULL, 0, 3;
EXEC sp_update_jobstep @job_name = 'Positional', @step_id = 1, @command = 'SELECT -1';
EXEC sp_update_jobstep @job_name = 'Positional', @step_id = 8, @command = 'SELECT -1';
EXEC sp_update_job @job_name = 'Positional', @new_name = 'By position', @category_name = 'Loads';
EXEC sp_add_jobserver 'x', 'By position', 'y', 0, 1;
