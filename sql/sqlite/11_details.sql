-- Views for details: the events and the output of a run, the steps of a sequence, and current problems.
-- This file can be run again at any time; it replaces the existing objects.

DROP VIEW IF EXISTS v_events;
CREATE VIEW v_events AS
-- The events of a run, in the order of id: every change of its state, its cause and reason.
SELECT
    e.id,
    e.run_id,
    r.job,
    e.attempt,
    e.at,
    e.event,
    e."by" AS who,
    e.detail
FROM run_event AS e
LEFT JOIN run AS r ON r.id = e.run_id;

DROP VIEW IF EXISTS v_output;
CREATE VIEW v_output AS
-- The output of a run, in the order of position (bytes from the stream's beginning).
SELECT
    o.run_id,
    r.job,
    o.attempt,
    o.stream,
    o."offset" AS position,
    o.at,
    CAST(o.data AS TEXT) AS text
FROM run_output AS o
LEFT JOIN run AS r ON r.id = o.run_id;

DROP VIEW IF EXISTS v_steps;
CREATE VIEW v_steps AS
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
FROM visit AS v
LEFT JOIN run AS r ON r.id = v.run_id;

DROP VIEW IF EXISTS v_health;
CREATE VIEW v_health AS
-- Current problems, one row each. No row: there is no problem.
SELECT
    'lease expired' AS problem,
    'worker ' || w.name AS subject,
    e.lease_until AS since,
    'Start a worker or a scheduler, which requeues its runs. If one is running, its log says what it waits for.' AS remedy
FROM worker AS w
JOIN worker_lease AS e ON e.worker_id = w.id
WHERE w.state IN ('active', 'draining') AND e.lease_until < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-30 seconds')
UNION ALL
SELECT
    'no worker',
    'queue ' || q.queue,
    MIN(q.queued_at),
    CASE
        WHEN MAX(q.kind) = 'sequence' THEN 'No process begins these sequences: start a worker or a scheduler.'
        ELSE 'No active worker takes from this pool: start one, or correct it in the jobs, then stop and retry these runs.'
    END
FROM v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers = 0 AND q.hold_id IS NULL
    -- A scheduler begins a sequence, too.
    AND (q.kind = 'program' OR q.queued_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-60 seconds'))
GROUP BY q.queue
UNION ALL
SELECT
    'long queue',
    'queue ' || q.queue,
    MIN(q.queued_at),
    'Runs wait for more than five minutes: add workers or slots, or check the labels that the jobs ask for.'
FROM v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers > 0 AND q.hold_id IS NULL
GROUP BY q.queue
HAVING MIN(q.queued_at) < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-5 minutes')
UNION ALL
SELECT
    'not promoted',
    'run ' || r.id,
    r.ready_at,
    'It is due, but no process queues it: start a worker or a scheduler.'
FROM run AS r
WHERE r.state = 'scheduled' AND r.ready_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-60 seconds')
UNION ALL
SELECT
    'start refused',
    'run ' || r.id || ' of job ' || r.job,
    r.started_at,
    'Its start as its user is refused and tried again: see its reason (jobfac runs show), such as a limit of that user.'
FROM run AS r
WHERE r.state = 'scheduled'
    AND r.ready_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '+6 minutes')
    AND r.started_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-5 minutes')
    AND r.reason LIKE 'not started: %'
UNION ALL
SELECT
    'schedule overdue',
    'schedule ' || s.name || ' of job ' || s.job,
    s.fire_at,
    'Start a scheduler. If one is running, its log says what the schedule waits for.'
FROM schedule AS s
WHERE s.fire_at IS NOT NULL AND s.paused = 0 AND s.fire_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-60 seconds')
UNION ALL
SELECT
    'stop not obeyed',
    'run ' || s.id || ' of job ' || s.job,
    s.asked_at,
    'Stop it at once (jobfac stop --now), and look at the log of its worker.'
FROM (
    SELECT
        r.id,
        r.job,
        (SELECT MAX(e.at) FROM run_event AS e WHERE e.run_id = r.id AND e.event = 'stopping') AS asked_at
    FROM run AS r
    WHERE r.state IN ('running', 'stopping') AND r.state = 'stopping' AND r.kind = 'program'
) AS s
WHERE s.asked_at < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-10 minutes')
UNION ALL
SELECT
    'notification dead',
    'job ' || n.job || ', ' || COUNT(*) || ' of the event ' || n.event,
    MIN(n.created_at),
    'Delivery was given up: see `jobfac notify list --state dead`, mend it, then `jobfac notify requeue --all-dead`.'
FROM notification AS n
WHERE n.state = 'dead'
GROUP BY n.job, n.event
UNION ALL
SELECT
    'keeps failing',
    'job ' || j.id || ', ' || COUNT(*) || ' times since its last success',
    MIN(r.ended_at),
    'See its last failures (jobfac runs list --job), and disable it until it is mended.'
FROM job AS j
JOIN run AS r ON r.job = j.id AND r.state IN ('failed', 'timed_out', 'start_failed', 'lost')
WHERE j.enabled = 1
    AND r.id > COALESCE((SELECT MAX(s.id) FROM run AS s WHERE s.job = j.id AND s.state = 'succeeded'), 0)
GROUP BY j.id
HAVING COUNT(*) >= 3
UNION ALL
SELECT
    'overdue',
    'job ' || e.job,
    e.overdue_due_at,
    'It has not succeeded in time, as its `expect` says: see its runs in v_runs, and what it waits for in v_queue.'
FROM expectation AS e
WHERE e.overdue_at IS NOT NULL;


DROP VIEW IF EXISTS v_holds;
CREATE VIEW v_holds AS
-- Every hold: nothing new starts in its pool, in its category or of its job; all three NULL: nothing at all.
-- active 1: it holds now. waiting: the runs that wait for it and for no earlier one.
SELECT
    h.id,
    h.pool,
    h.category,
    h.job,
    h.reason,
    h.until,
    CASE WHEN h.released_at IS NULL AND (h.until IS NULL OR h.until > strftime('%Y-%m-%d %H:%M:%f000', 'now')) THEN 1 ELSE 0 END
        AS active,
    (SELECT COUNT(*) FROM v_queue AS q WHERE q.hold_id = h.id) AS waiting,
    h.created_at,
    h.created_by,
    h.released_at,
    h.released_by
FROM start_hold AS h;

DROP VIEW IF EXISTS v_notes;
CREATE VIEW v_notes AS
-- What people wrote about runs, in the order of id.
SELECT
    n.id,
    n.run_id,
    r.job,
    r.state,
    n.at,
    n."by" AS who,
    n.text
FROM note AS n
LEFT JOIN run AS r ON r.id = n.run_id;

DROP VIEW IF EXISTS v_overdue;
CREATE VIEW v_overdue AS
-- Every job that has not succeeded in time, as its `expect` says. due_at: when it should have. since: its success had
-- to be later than this. last_success_at: of the runs that are kept.
SELECT
    e.job,
    j.category,
    e.overdue_due_at AS due_at,
    e.overdue_at,
    round((julianday('now') - julianday(e.overdue_due_at)) * 86400.0, 3) AS overdue_seconds,
    e.since,
    (SELECT MAX(r.ended_at) FROM run AS r WHERE r.job = e.job AND r.state = 'succeeded') AS last_success_at,
    e.definition
FROM expectation AS e
LEFT JOIN job AS j ON j.id = e.job
WHERE e.overdue_at IS NOT NULL;
