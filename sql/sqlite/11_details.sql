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
-- could not be started, with the reasons.
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
    v.refused
FROM visit AS v
LEFT JOIN run AS r ON r.id = v.run_id;

DROP VIEW IF EXISTS v_health;
CREATE VIEW v_health AS
-- Current problems, one row each. No row: there is no problem.
SELECT
    'lease expired' AS problem,
    'worker ' || w.name AS subject,
    e.lease_until AS since,
    'No worker or scheduler is alive to requeue its runs: start one.' AS remedy
FROM worker AS w
JOIN worker_lease AS e ON e.worker_id = w.id
WHERE w.state IN ('active', 'draining') AND e.lease_until < strftime('%Y-%m-%d %H:%M:%f000', 'now', '-30 seconds')
UNION ALL
SELECT
    'no worker',
    'queue ' || q.queue,
    MIN(q.queued_at),
    'No active worker takes from this pool: start one, or correct the pool of its jobs.'
FROM v_queue AS q
WHERE q.state = 'queued' AND q.kind = 'program' AND q.pool_workers = 0
GROUP BY q.queue
UNION ALL
SELECT
    'long queue',
    'queue ' || q.queue,
    MIN(q.queued_at),
    'Runs wait for more than five minutes: add workers or slots, or check the labels that the jobs ask for.'
FROM v_queue AS q
WHERE q.state = 'queued' AND q.pool_workers > 0
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
    'schedule overdue',
    'schedule ' || s.name || ' of job ' || s.job,
    s.fire_at,
    'No scheduler is running: start one.'
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
HAVING COUNT(*) >= 3;
