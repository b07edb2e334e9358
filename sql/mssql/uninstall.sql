-- Removes jobfac from a SQL Server database: procedures, views, tables, roles and the schema, with everything in them,
-- as `jobfac db script --uninstall` prints it. Stop all workers, schedulers and APIs first, and make a backup: nothing
-- brings the history back. Run it as db_owner with sqlcmd -b, which stops at the first error. It may be run again.
SET XACT_ABORT ON;
GO

DROP VIEW IF EXISTS jobfac.v_version;
DROP PROCEDURE IF EXISTS jobfac.index_advice;
DROP PROCEDURE IF EXISTS jobfac.blocking;
DROP PROCEDURE IF EXISTS jobfac.purge;
DROP PROCEDURE IF EXISTS jobfac.approve;
DROP PROCEDURE IF EXISTS jobfac.add_note;
DROP PROCEDURE IF EXISTS jobfac.release;
DROP PROCEDURE IF EXISTS jobfac.hold;
DROP PROCEDURE IF EXISTS jobfac.drain_worker;
DROP PROCEDURE IF EXISTS jobfac.resume_schedule;
DROP PROCEDURE IF EXISTS jobfac.pause_schedule;
DROP PROCEDURE IF EXISTS jobfac.disable_job;
DROP PROCEDURE IF EXISTS jobfac.enable_job;
DROP PROCEDURE IF EXISTS jobfac.stop_run;
DROP PROCEDURE IF EXISTS jobfac.retry_run;
DROP PROCEDURE IF EXISTS jobfac.start_job;
DROP PROCEDURE IF EXISTS jobfac.set_paused;
DROP PROCEDURE IF EXISTS jobfac.set_enabled;
DROP PROCEDURE IF EXISTS jobfac.insert_run;
DROP PROCEDURE IF EXISTS jobfac.lock_rule;
DROP PROCEDURE IF EXISTS jobfac.request_stop;
DROP PROCEDURE IF EXISTS jobfac.record_end;
DROP PROCEDURE IF EXISTS jobfac.check_former;
DROP PROCEDURE IF EXISTS jobfac.check_parameters;
DROP PROCEDURE IF EXISTS jobfac.check_hold;
DROP PROCEDURE IF EXISTS jobfac.check_request;
DROP PROCEDURE IF EXISTS jobfac.check_skipped;
DROP PROCEDURE IF EXISTS jobfac.check_inside;
DROP PROCEDURE IF EXISTS jobfac.check_reason;
DROP PROCEDURE IF EXISTS jobfac.check_by;
DROP PROCEDURE IF EXISTS jobfac.cut_text;
DROP PROCEDURE IF EXISTS jobfac.check_text;
DROP PROCEDURE IF EXISTS jobfac.check_repeat;
DROP PROCEDURE IF EXISTS jobfac.check_repeated_parameters;
DROP PROCEDURE IF EXISTS jobfac.refuse;
DROP VIEW IF EXISTS jobfac.v_notifications;
DROP VIEW IF EXISTS jobfac.v_audit;
DROP VIEW IF EXISTS jobfac.v_jobs;
DROP VIEW IF EXISTS jobfac.v_overdue;
DROP VIEW IF EXISTS jobfac.v_notes;
DROP VIEW IF EXISTS jobfac.v_holds;
DROP VIEW IF EXISTS jobfac.v_health;
DROP VIEW IF EXISTS jobfac.v_steps;
DROP VIEW IF EXISTS jobfac.v_output;
DROP VIEW IF EXISTS jobfac.v_events;
DROP VIEW IF EXISTS jobfac.v_daily_workers;
DROP VIEW IF EXISTS jobfac.v_daily_statistics;
DROP VIEW IF EXISTS jobfac.v_failures;
DROP VIEW IF EXISTS jobfac.v_sequence_runs;
DROP VIEW IF EXISTS jobfac.v_schedule;
DROP VIEW IF EXISTS jobfac.v_job_statistics;
DROP VIEW IF EXISTS jobfac.v_fleet;
DROP VIEW IF EXISTS jobfac.v_queue;
DROP VIEW IF EXISTS jobfac.v_runs;
GO
DROP TABLE IF EXISTS jobfac.api_key;
DROP TABLE IF EXISTS jobfac.arrived_file;
DROP TABLE IF EXISTS jobfac.attempt;
DROP TABLE IF EXISTS jobfac.audit;
DROP TABLE IF EXISTS jobfac.category;
DROP TABLE IF EXISTS jobfac.daily;
DROP TABLE IF EXISTS jobfac.daily_worker;
DROP TABLE IF EXISTS jobfac.expectation;
DROP TABLE IF EXISTS jobfac.job;
DROP TABLE IF EXISTS jobfac.job_version;
DROP TABLE IF EXISTS jobfac.news;
DROP TABLE IF EXISTS jobfac.note;
DROP TABLE IF EXISTS jobfac.notification;
DROP TABLE IF EXISTS jobfac.queue;
DROP TABLE IF EXISTS jobfac.run;
DROP TABLE IF EXISTS jobfac.run_event;
DROP TABLE IF EXISTS jobfac.run_output;
DROP TABLE IF EXISTS jobfac.schedule;
DROP TABLE IF EXISTS jobfac.scheduler;
DROP TABLE IF EXISTS jobfac.session_end;
DROP TABLE IF EXISTS jobfac.session_key;
DROP TABLE IF EXISTS jobfac.start_hold;
DROP TABLE IF EXISTS jobfac.start_url;
DROP TABLE IF EXISTS jobfac.upstream;
DROP TABLE IF EXISTS jobfac.upstream_end;
DROP TABLE IF EXISTS jobfac.visit;
DROP TABLE IF EXISTS jobfac.worker;
DROP TABLE IF EXISTS jobfac.worker_lease;
DROP TABLE IF EXISTS jobfac.alembic_version;
GO
DECLARE @leave NVARCHAR(MAX) = N'';
SELECT @leave = @leave + CONCAT(N'ALTER ROLE ', QUOTENAME(r.name), N' DROP MEMBER ', QUOTENAME(m.name), N'; ')
FROM sys.database_role_members AS x
JOIN sys.database_principals AS r ON r.principal_id = x.role_principal_id
JOIN sys.database_principals AS m ON m.principal_id = x.member_principal_id
WHERE r.name IN (N'jobfac_worker', N'jobfac_operator', N'jobfac_reader');
EXEC sys.sp_executesql @leave;
DROP ROLE IF EXISTS jobfac_worker;
DROP ROLE IF EXISTS jobfac_operator;
DROP ROLE IF EXISTS jobfac_reader;
DROP SCHEMA IF EXISTS jobfac;
GO
