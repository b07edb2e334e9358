-- Views for details: the events and the output of a run, the steps of a sequence, and current problems.
-- This file can be run again at any time; it replaces the existing objects.

CREATE OR ALTER VIEW jobfac.v_events AS
-- The events of a run, in the order of id: every change of its state, its cause and reason.
SELECT
    e.id,
    e.run_id,
    r.job,
    e.attempt,
    e.at,
    e.event,
    e.[by] AS who,
    e.detail
FROM jobfac.run_event AS e
LEFT JOIN jobfac.run AS r ON r.id = e.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_output AS
-- The output of a run, in the order of position (bytes from the stream's beginning). The text is decoded with the
-- database's code page: characters outside ASCII are correct only if its collation is a UTF-8 one.
SELECT
    o.run_id,
    r.job,
    o.attempt,
    o.stream,
    o.offset AS position,
    o.at,
    CAST(o.data AS VARCHAR(MAX)) AS text
FROM jobfac.run_output AS o
LEFT JOIN jobfac.run AS r ON r.id = o.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_steps AS
-- The step history of each sequence run, in the order of id: one row for each visit of a step. refused: the jobs that
-- it did not start, each with the reason or, in a retry from the failed step, the id of the run whose success counts.
SELECT
    v.id,
    v.run_id,
    r.job,
    v.step,
    v.number,
    v.entered_at,
    v.start,
    v.result,
    v.decided_at,
    v.goes_to,
    v.next_step,
    v.reason,
    v.refused,
    v.children,
    v.waits_for,
    v.wake_at,
    v.decision,
    v.decided_by,
    v.awaits,
    v.pool,
    v.parameters
FROM jobfac.visit AS v
LEFT JOIN jobfac.run AS r ON r.id = v.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_health AS
-- Current problems, one row each. No row: there is no problem.
SELECT
    N'lease expired' AS problem,
    CONCAT(N'worker ', w.name) AS subject,
    e.lease_until AS since,
    N'Start a worker or a scheduler, which requeues its runs. If one is running, its log says what it waits for.' AS remedy
FROM jobfac.worker AS w
JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
WHERE w.state IN ('active', 'draining') AND e.lease_until < DATEADD(SECOND, -30, SYSUTCDATETIME())
UNION ALL
SELECT
    N'no worker',
    CONCAT(N'queue ', q.queue),
    MIN(q.queued_at),
    CASE
        WHEN MAX(q.kind) = 'sequence' THEN N'No process begins these sequences: start a worker or a scheduler.'
        ELSE N'No active worker takes from this pool: start one, or correct it in the jobs, then stop and retry these runs.'
    END
FROM jobfac.v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers = 0 AND q.hold_id IS NULL
    -- A scheduler begins a sequence, too.
    AND (q.kind = 'program' OR q.queued_at < DATEADD(SECOND, -60, SYSUTCDATETIME()))
GROUP BY q.queue
UNION ALL
SELECT
    N'long queue',
    CONCAT(N'queue ', q.queue),
    MIN(q.queued_at),
    N'Runs wait for more than five minutes: add workers or slots, or check the labels that the jobs ask for.'
FROM jobfac.v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers > 0 AND q.hold_id IS NULL
GROUP BY q.queue
HAVING MIN(q.queued_at) < DATEADD(MINUTE, -5, SYSUTCDATETIME())
UNION ALL
SELECT
    N'not promoted',
    CONCAT(N'run ', r.id),
    r.ready_at,
    N'It is due, but no process queues it: start a worker or a scheduler.'
FROM jobfac.run AS r
WHERE r.state = 'scheduled' AND r.ready_at < DATEADD(SECOND, -60, SYSUTCDATETIME())
UNION ALL
SELECT
    N'start refused',
    CONCAT(N'run ', r.id, N' of job ', r.job),
    r.started_at,
    N'Its start as its user is refused and tried again: see `reason` in jobfac.v_runs, such as a limit of that user.'
FROM jobfac.run AS r
WHERE r.state = 'scheduled'
    AND r.ready_at < DATEADD(MINUTE, 6, SYSUTCDATETIME())
    AND r.started_at < DATEADD(MINUTE, -5, SYSUTCDATETIME())
    AND r.reason LIKE N'not started: %'
UNION ALL
SELECT
    N'schedule overdue',
    CONCAT(N'schedule ', s.name, N' of job ', s.job),
    s.fire_at,
    N'Start a scheduler. If one is running, its log says what the schedule waits for.'
FROM jobfac.schedule AS s
WHERE s.fire_at IS NOT NULL AND s.paused = 0 AND s.fire_at < DATEADD(SECOND, -60, SYSUTCDATETIME())
UNION ALL
SELECT
    N'stop not obeyed',
    CONCAT(N'run ', s.id, N' of job ', s.job),
    s.asked_at,
    N'Stop it at once (EXEC jobfac.stop_run @now = 1), and look at the log of its worker.'
FROM (
    SELECT
        r.id,
        r.job,
        (SELECT MAX(e.at) FROM jobfac.run_event AS e WHERE e.run_id = r.id AND e.event = 'stopping') AS asked_at
    FROM jobfac.run AS r
    WHERE r.state IN ('running', 'stopping') AND r.state = 'stopping' AND r.kind = 'program'
) AS s
WHERE s.asked_at < DATEADD(MINUTE, -10, SYSUTCDATETIME())
UNION ALL
SELECT
    N'notification dead',
    CONCAT(N'job ', n.job, N', ', COUNT(*), N' of the event ', n.event),
    MIN(n.created_at),
    N'Delivery was given up: see `error` in jobfac.v_notifications, mend it, then run `jobfac notify requeue --all-dead`.'
FROM jobfac.notification AS n
WHERE n.state = 'dead'
GROUP BY n.job, n.event
UNION ALL
SELECT
    N'keeps failing',
    CONCAT(N'job ', j.id, N', ', COUNT(*), N' times since its last success'),
    MIN(r.ended_at),
    N'See its last failures in jobfac.v_failures, and disable it until it is mended.'
FROM jobfac.job AS j
JOIN jobfac.run AS r ON r.job = j.id AND r.state IN ('failed', 'timed_out', 'start_failed', 'lost')
WHERE j.enabled = 1
    AND r.id > COALESCE((SELECT MAX(s.id) FROM jobfac.run AS s WHERE s.job = j.id AND s.state = 'succeeded'), 0)
GROUP BY j.id
HAVING COUNT(*) >= 3
UNION ALL
SELECT
    N'overdue',
    CONCAT(N'job ', e.job),
    e.overdue_due_at,
    N'It has not succeeded in time, as its `expect` says: see its runs in jobfac.v_runs, and what it waits for in v_queue.'
FROM jobfac.expectation AS e
WHERE e.overdue_at IS NOT NULL;
GO

CREATE OR ALTER VIEW jobfac.v_holds AS
-- Every hold: nothing new starts in its pool, in its category or of its job; all three NULL: nothing at all.
-- active 1: it holds now. waiting: the runs that wait for it and for no earlier one.
SELECT
    h.id,
    h.pool,
    h.category,
    h.job,
    h.reason,
    h.until,
    CAST(CASE WHEN h.released_at IS NULL AND (h.until IS NULL OR h.until > SYSUTCDATETIME()) THEN 1 ELSE 0 END AS BIT)
        AS active,
    (SELECT COUNT(*) FROM jobfac.v_queue AS q WHERE q.hold_id = h.id) AS waiting,
    h.created_at,
    h.created_by,
    h.released_at,
    h.released_by
FROM jobfac.start_hold AS h;
GO

CREATE OR ALTER VIEW jobfac.v_notes AS
-- What people wrote about runs, in the order of id.
SELECT
    n.id,
    n.run_id,
    r.job,
    r.state,
    n.at,
    n.[by] AS who,
    n.text
FROM jobfac.note AS n
LEFT JOIN jobfac.run AS r ON r.id = n.run_id;
GO

CREATE OR ALTER VIEW jobfac.v_overdue AS
-- Every job that has not succeeded in time, as its `expect` says. due_at: when it should have. since: its success had
-- to be later than this. last_success_at: of the runs that are kept.
SELECT
    e.job,
    j.category,
    e.overdue_due_at AS due_at,
    e.overdue_at,
    CAST(DATEDIFF_BIG(MILLISECOND, e.overdue_due_at, SYSUTCDATETIME()) / 1000.0 AS DECIMAL(18, 3)) AS overdue_seconds,
    e.since,
    (SELECT MAX(r.ended_at) FROM jobfac.run AS r WHERE r.job = e.job AND r.state = 'succeeded') AS last_success_at,
    e.definition
FROM jobfac.expectation AS e
LEFT JOIN jobfac.job AS j ON j.id = e.job
WHERE e.overdue_at IS NOT NULL;
GO
