-- Three roles with minimal permissions. To add a user: ALTER ROLE jobfac_reader ADD MEMBER [SHOP\reporting].
-- This file can be run again at any time; existing permissions stay.

IF DATABASE_PRINCIPAL_ID(N'jobfac_worker') IS NULL
    CREATE ROLE jobfac_worker;
IF DATABASE_PRINCIPAL_ID(N'jobfac_operator') IS NULL
    CREATE ROLE jobfac_operator;
IF DATABASE_PRINCIPAL_ID(N'jobfac_reader') IS NULL
    CREATE ROLE jobfac_reader;
GO

-- For jobfac's own processes: worker, scheduler, API and command line. They change rows, but not the schema. The tables
-- are listed one by one, because a DENY on alembic_version would also apply to a db_owner who is a member of the role.
REVOKE SELECT, INSERT, UPDATE, DELETE ON SCHEMA::jobfac FROM jobfac_worker;
REVOKE INSERT, UPDATE, DELETE ON jobfac.alembic_version FROM jobfac_worker;
GRANT SELECT ON jobfac.alembic_version TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.api_key TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.arrived_file TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.attempt TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.audit TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.category TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.daily TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.daily_worker TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.expectation TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.job TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.job_version TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.news TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.note TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.notification TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.queue TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run_event TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.run_output TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.schedule TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.scheduler TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.session_end TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.session_key TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.start_hold TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.start_url TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.upstream TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.upstream_end TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.visit TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.worker TO jobfac_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobfac.worker_lease TO jobfac_worker;
GO

-- For operators who start and stop runs. They may execute the procedures, but not change the tables.
GRANT EXECUTE ON jobfac.start_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.retry_run TO jobfac_operator;
GRANT EXECUTE ON jobfac.stop_run TO jobfac_operator;
GRANT EXECUTE ON jobfac.enable_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.disable_job TO jobfac_operator;
GRANT EXECUTE ON jobfac.pause_schedule TO jobfac_operator;
GRANT EXECUTE ON jobfac.resume_schedule TO jobfac_operator;
GRANT EXECUTE ON jobfac.drain_worker TO jobfac_operator;
GRANT EXECUTE ON jobfac.hold TO jobfac_operator;
GRANT EXECUTE ON jobfac.release TO jobfac_operator;
GRANT EXECUTE ON jobfac.add_note TO jobfac_operator;
GRANT EXECUTE ON jobfac.approve TO jobfac_operator;
GO

-- For readers. They can read payloads, arguments and output, too.
GRANT SELECT ON jobfac.v_runs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_queue TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_fleet TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_job_statistics TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_schedule TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_sequence_runs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_failures TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_daily_statistics TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_daily_workers TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_events TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_output TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_steps TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_health TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_holds TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_notes TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_overdue TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_jobs TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_audit TO jobfac_operator, jobfac_reader, jobfac_worker;
GRANT SELECT ON jobfac.v_notifications TO jobfac_operator, jobfac_reader, jobfac_worker;
GO
