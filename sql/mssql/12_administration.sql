-- Views of what administrators ask for: the jobs, the audit and the notifications.
-- Run this file again at any time: it replaces what is there.

CREATE OR ALTER VIEW jobfac.v_jobs AS
-- Every job with its definition in force, its schedules and its last run. next_due_at: of the schedules not paused.
SELECT
    j.id AS job,
    j.kind,
    j.category,
    j.queue,
    j.enabled,
    j.version,
    v.created_at AS defined_at,
    v.created_by AS defined_by,
    j.updated_at,
    j.updated_by,
    (SELECT COUNT(*) FROM jobfac.schedule AS s WHERE s.job = j.id) AS schedules,
    (SELECT COUNT(*) FROM jobfac.schedule AS s WHERE s.job = j.id AND s.paused = 1) AS paused_schedules,
    (SELECT MIN(s.next_due_at) FROM jobfac.schedule AS s WHERE s.job = j.id AND s.paused = 0) AS next_due_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.created_at AS last_run_at,
    v.definition
FROM jobfac.job AS j
JOIN jobfac.job_version AS v ON v.job = j.id AND v.version = j.version
LEFT JOIN jobfac.run AS r ON r.id = (SELECT MAX(l.id) FROM jobfac.run AS l WHERE l.job = j.id);
GO

CREATE OR ALTER VIEW jobfac.v_audit AS
-- Who changed what, in the order of id. was and is_now: the text before and after, where there is one.
SELECT
    a.id,
    a.at,
    a.[by] AS who,
    a.action,
    a.subject,
    a.[before] AS was,
    a.[after] AS is_now
FROM jobfac.audit AS a;
GO

CREATE OR ALTER VIEW jobfac.v_notifications AS
-- Every message to one recipient. The recipient itself is not shown, since its address may hold a secret:
-- `jobfac notify list` shows it without. due_at: when a waiting one may be delivered.
SELECT
    n.id,
    n.run_id,
    n.job,
    n.event,
    n.state,
    n.tries,
    n.created_at,
    n.due_at,
    n.delivered_at,
    n.error
FROM jobfac.notification AS n;
GO
