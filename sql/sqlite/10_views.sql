-- Views for reports. Times are UTC, seconds have three decimals, and states are those of the tables.
-- This file can be run again at any time; it replaces the existing objects.

DROP VIEW IF EXISTS v_runs;
CREATE VIEW v_runs AS
-- All stored runs. run_seconds is the time from the first start to the end, wait_seconds the time in the queue before that
-- start. Both grow while the run waits or runs.
SELECT
    r.id,
    r.job,
    j.category,
    r.kind,
    r.state,
    r.attempt,
    r.failures,
    r.priority,
    r.queue,
    r.worker,
    r.arguments,
    r.payload,
    r.parameters,
    r.created_at,
    r.created_by,
    r.ready_at,
    r.queued_at,
    r.started_at,
    r.ended_at,
    round(CASE
        WHEN r.state = 'queued' THEN (julianday('now') - julianday(r.queued_at)) * 86400.0
        WHEN r.started_at >= r.queued_at THEN (julianday(r.started_at) - julianday(r.queued_at)) * 86400.0
    END, 3) AS wait_seconds,
    round(CASE
        WHEN r.state IN ('running', 'stopping') THEN (julianday('now') - julianday(r.started_at)) * 86400.0
        ELSE (julianday(r.ended_at) - julianday(r.started_at)) * 86400.0
    END, 3) AS run_seconds,
    r.for_worker,
    r.cpu_seconds,
    r.peak_memory,
    coalesce(r.slots, 1) AS slots,
    r.exit_code,
    r.signal,
    r.reason,
    r.progress,
    r.message,
    r.exit_message,
    r.outputs,
    r.stop,
    r.stop_by,
    r.job_version,
    r.schedule_id,
    r.due_at,
    r.sequence_run_id,
    r.retry_of
FROM run AS r
LEFT JOIN job AS j ON j.id = r.job;

DROP VIEW IF EXISTS v_queue;
CREATE VIEW v_queue AS
-- All waiting runs, and what each waits for, in the words of the pages and of `jobfac runs list`. The run with place 1 is
-- claimed next from its queue. pool_workers: the workers that claim from the run's pool now and have its labels and slots,
-- or, for a run of a job with each_worker, the worker that it is for.
-- hold_id: the hold that the run waits for (v_holds); meanwhile it has no place.
SELECT
    r.id,
    r.job,
    r.kind,
    r.state,
    r.queue,
    CASE WHEN r.state = 'queued' AND h.id IS NULL
        THEN ROW_NUMBER() OVER (
            PARTITION BY r.state, r.queue, CASE WHEN h.id IS NULL THEN 0 ELSE 1 END ORDER BY r.priority DESC, r.id
        )
    END AS place,
    r.priority,
    r.attempt,
    round(
        (julianday('now') - julianday(CASE WHEN r.state = 'queued' THEN r.queued_at ELSE r.created_at END)) * 86400.0, 3
    ) AS waiting_seconds,
    CASE
        WHEN r.state = 'scheduled'
            THEN CASE WHEN r.attempt > 0 THEN 'its next attempt at ' ELSE 'scheduled until ' END
                || substr(r.ready_at, 1, 19) || ' UTC'
        WHEN h.id IS NOT NULL THEN 'hold ' || h.id || ' of ' || coalesce(
            'pool ' || h.pool, 'category ' || h.category, 'job ' || h.job, 'everything'
        ) || ': ' || h.reason
        WHEN r.state = 'blocked' THEN coalesce(
            CASE WHEN r.already_running <> 'start' THEN 'run ' || (
                -- The narrower condition comes first: SQLite searches with the first one that fits the index.
                SELECT MIN(o.id) FROM (
                    SELECT MIN(n.id) AS id FROM run AS n
                    WHERE n.state IN ('queued', 'running', 'stopping') AND n.job = r.job AND n.id <> r.id
                        AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                    UNION ALL
                    SELECT MIN(n.id) FROM run AS n
                    WHERE n.state = 'scheduled' AND n.job = r.job AND n.attempt > 0
                        AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                        AND r.already_running = 'queue' AND r.attempt = 0
                ) AS o
            ) || ' of the job has not ended' END,
            'concurrency limit ' || r.concurrency_limit || ' of ''' || r.concurrency_key || '''' || coalesce((
                SELECT ': run ' || h.id || ' of ' || h.job
                    || CASE WHEN k.holders > 1 THEN ' and ' || (k.holders - 1) || ' more' ELSE '' END
                FROM (
                    SELECT MIN(o.id) AS id, COUNT(*) AS holders FROM run AS o
                    WHERE o.concurrency_key = r.concurrency_key AND o.state IN ('queued', 'running', 'stopping')
                        AND o.id <> r.id
                ) AS k
                JOIN run AS h ON h.id = k.id
            ), ''),
            'another run of the job has not ended'
        )
        WHEN r.kind = 'sequence' THEN 'a worker or scheduler begins it'
        WHEN r.reason = 'its workers died while it ran; it waits for a worker on which nothing else runs' AND 0 < CASE
            WHEN r.for_worker IS NULL THEN f.healthy
            ELSE (
                SELECT COUNT(*) FROM worker AS w JOIN worker_lease AS e ON e.worker_id = w.id
                WHERE w.name = r.for_worker AND w.state = 'active' AND w.message IS NULL
                    AND e.lease_until > strftime('%Y-%m-%d %H:%M:%f000', 'now')
            )
        END
            THEN 'a worker on which nothing else runs, on a machine without another such run, because its workers died while it ran'
        WHEN r.for_worker IS NOT NULL THEN 'worker ' || r.for_worker || coalesce((
            SELECT ' claims nothing: ' || replace(MAX(w.message), 'claims nothing: ', '')
            FROM worker AS w JOIN worker_lease AS e ON e.worker_id = w.id
            WHERE w.name = r.for_worker AND w.state = 'active'
                AND e.lease_until > strftime('%Y-%m-%d %H:%M:%f000', 'now')
        ), ', which alone may claim it')
        WHEN coalesce(f.workers, 0) = 0 THEN 'no live worker serves ' || f.needed
        WHEN f.healthy = 0 THEN (
            SELECT 'worker ' || w.name || ' claims nothing: ' || replace(w.message, 'claims nothing: ', '')
            FROM worker AS w WHERE w.id = f.newest
        )
        WHEN f.free < f.taken AND f.taken > 1 THEN f.taken || ' free slots of one worker of ' || f.needed
        WHEN f.free < 1 AND f.slots = 1 THEN 'the only slot of ' || f.needed || ' is busy'
        WHEN f.free < 1 THEN 'all ' || f.slots || ' slots of ' || f.needed || ' are busy'
        ELSE 'its turn: a slot is free'
    END AS waits_for,
    CASE
        WHEN r.for_worker IS NULL THEN coalesce(f.workers, 0)
        ELSE (
            SELECT COUNT(*) FROM worker AS w JOIN worker_lease AS e ON e.worker_id = w.id
            WHERE w.name = r.for_worker AND w.state = 'active'
                AND e.lease_until > strftime('%Y-%m-%d %H:%M:%f000', 'now')
        )
    END AS pool_workers,
    coalesce(r.slots, 1) AS slots,
    h.id AS hold_id,
    r.concurrency_key,
    r.concurrency_limit,
    r.created_at,
    r.created_by,
    r.ready_at,
    r.queued_at,
    r.sequence_run_id,
    r.schedule_id
FROM run AS r
LEFT JOIN (
    SELECT
        q.name,
        q.pool,
        'pool ''' || q.pool || '''' || CASE
            WHEN q.labels = '{}' THEN ''
            ELSE ' (labels ' || substr(
                q.name,
                length(q.pool) + 2,
                length(q.name) - length(q.pool) - 2 - CASE WHEN q.slots > 1 THEN 1 + length(q.slots) ELSE 0 END
            ) || ')'
        END || CASE WHEN q.slots > 1 THEN ' with ' || q.slots || ' slots' ELSE '' END AS needed,
        coalesce(q.slots, 1) AS taken,
        COUNT(w.id) AS workers,
        SUM(CASE WHEN w.id IS NOT NULL AND w.message IS NULL THEN 1 ELSE 0 END) AS healthy,
        SUM(CASE WHEN w.message IS NULL THEN w.slots END) AS slots,
        MAX(CASE WHEN w.message IS NULL THEN w.slots - w.busy END) AS free,
        MAX(w.id) AS newest
    FROM queue AS q
    LEFT JOIN (
        SELECT
            v.id,
            v.pools,
            v.labels,
            v.slots,
            v.message,
            coalesce((
                SELECT SUM(coalesce(h.slots, 1)) FROM run AS h
                WHERE h.state IN ('running', 'stopping') AND h.worker_id = v.id
            ), 0) AS busy
        FROM worker AS v
        JOIN worker_lease AS e ON e.worker_id = v.id
        WHERE v.state = 'active' AND e.lease_until > strftime('%Y-%m-%d %H:%M:%f000', 'now')
    ) AS w
        ON (q.pool = '@sequences' OR instr(lower(w.pools), '"' || lower(q.pool) || '"') > 0)
        AND (q.slots IS NULL OR w.slots >= q.slots)
        AND NOT EXISTS (
            SELECT 1 FROM json_each(q.labels) AS n
            WHERE NOT EXISTS (
                SELECT 1 FROM json_each(w.labels) AS m
                WHERE lower(m.key) = lower(n.key) AND lower(m.value) = lower(n.value)
            )
        )
    GROUP BY q.name, q.pool, q.labels, q.slots
) AS f ON f.name = r.queue
LEFT JOIN job AS j ON j.id = r.job
LEFT JOIN start_hold AS h ON r.state <> 'scheduled' AND h.id = (
    SELECT MIN(x.id)
    FROM start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > strftime('%Y-%m-%d %H:%M:%f000', 'now'))
        AND (x.pool IS NULL OR x.pool = f.pool OR EXISTS (
            SELECT 1 FROM worker AS v
            WHERE v.name = r.for_worker AND v.state = 'active' AND instr(v.pools, '"' || x.pool || '"') > 0
        ))
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = r.job)
)
WHERE r.state IN ('queued', 'scheduled', 'blocked');

DROP VIEW IF EXISTS v_fleet;
CREATE VIEW v_fleet AS
-- All worker processes, including ended ones. alive: it renews its lease. busy: slots in use. message: why it claims
-- nothing. cpu_pressure: percent of time in which work waited for a processor. free_memory: bytes.
SELECT
    w.id,
    w.name,
    w.host,
    w.pid,
    w.version,
    w.state,
    w.state IN ('active', 'draining') AND e.lease_until > strftime('%Y-%m-%d %H:%M:%f000', 'now') AS alive,
    w.slots,
    coalesce(h.busy, 0) AS busy,
    w.pools,
    w.labels,
    w.started_at,
    e.seen_at,
    e.lease_until,
    w.ended_at,
    w.message,
    e.cpu_pressure,
    e.free_memory
FROM worker AS w
JOIN worker_lease AS e ON e.worker_id = w.id
LEFT JOIN (
    SELECT r.worker_id, sum(coalesce(r.slots, 1)) AS busy
    FROM run AS r
    WHERE r.state IN ('running', 'stopping')
    GROUP BY r.worker_id
) AS h ON h.worker_id = w.id;

DROP VIEW IF EXISTS v_job_statistics;
CREATE VIEW v_job_statistics AS
-- All jobs with totals of their stored runs. failed: failed, timed_out, start_failed and lost. success_percent: the
-- share of succeeded runs among those that succeeded, were mixed or failed.
SELECT
    j.id AS job,
    j.category,
    j.kind,
    j.enabled,
    coalesce(s.runs, 0) AS runs,
    coalesce(s.waiting, 0) AS waiting,
    coalesce(s.running, 0) AS running,
    coalesce(s.succeeded, 0) AS succeeded,
    coalesce(s.mixed, 0) AS mixed,
    coalesce(s.failed, 0) AS failed,
    coalesce(s.stopped, 0) AS stopped,
    coalesce(s.denied, 0) AS denied,
    round(100.0 * s.succeeded / nullif(s.succeeded + s.mixed + s.failed, 0), 1) AS success_percent,
    round(s.average_seconds, 3) AS average_seconds,
    round(s.maximum_seconds, 3) AS maximum_seconds,
    round(s.average_wait_seconds, 3) AS average_wait_seconds,
    s.last_started_at,
    s.last_success_at,
    s.last_failure_at,
    (SELECT l.state FROM run AS l WHERE l.job = j.id ORDER BY l.id DESC LIMIT 1) AS last_state
FROM job AS j
LEFT JOIN (
    SELECT
        r.job,
        COUNT(*) AS runs,
        SUM(CASE WHEN r.state IN ('queued', 'scheduled', 'blocked') THEN 1 ELSE 0 END) AS waiting,
        SUM(CASE WHEN r.state IN ('running', 'stopping') THEN 1 ELSE 0 END) AS running,
        SUM(CASE WHEN r.state = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
        SUM(CASE WHEN r.state = 'mixed' THEN 1 ELSE 0 END) AS mixed,
        SUM(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN r.state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
        SUM(CASE WHEN r.state = 'denied' THEN 1 ELSE 0 END) AS denied,
        AVG((julianday(r.ended_at) - julianday(r.started_at)) * 86400.0) AS average_seconds,
        MAX((julianday(r.ended_at) - julianday(r.started_at)) * 86400.0) AS maximum_seconds,
        AVG(CASE WHEN r.started_at >= r.queued_at THEN (julianday(r.started_at) - julianday(r.queued_at)) * 86400.0 END)
            AS average_wait_seconds,
        MAX(r.started_at) AS last_started_at,
        MAX(CASE WHEN r.state = 'succeeded' THEN r.ended_at END) AS last_success_at,
        MAX(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN r.ended_at END) AS last_failure_at
    FROM run AS r
    GROUP BY r.job
) AS s ON s.job = j.id;

DROP VIEW IF EXISTS v_schedule;
CREATE VIEW v_schedule AS
-- All schedules: the next due time (NULL: none) and the state of the last run. seconds_until is negative while the
-- schedule is paused after its due time, or if no scheduler runs. hold_id: the hold that covers its job.
SELECT
    s.id,
    s.job,
    s.name,
    j.enabled AS job_enabled,
    s.paused,
    h.id AS hold_id,
    s.next_due_at,
    round((julianday(s.fire_at) - julianday('now')) * 86400.0, 3) AS seconds_until,
    s.last_due_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.started_at AS last_run_started_at,
    r.ended_at AS last_run_ended_at,
    s.definition
FROM schedule AS s
LEFT JOIN job AS j ON j.id = s.job
LEFT JOIN queue AS q ON q.name = j.queue
LEFT JOIN start_hold AS h ON h.id = (
    SELECT MIN(x.id)
    FROM start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > strftime('%Y-%m-%d %H:%M:%f000', 'now'))
        AND (x.pool IS NULL OR x.pool = q.pool)
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = s.job)
)
LEFT JOIN run AS r ON r.id = (
    SELECT l.id FROM run AS l WHERE l.schedule_id = s.id ORDER BY l.due_at DESC LIMIT 1
);

DROP VIEW IF EXISTS v_sequence_runs;
CREATE VIEW v_sequence_runs AS
-- All runs of sequences: the current or last step, and the numbers of the runs that they started, by state.
SELECT
    p.id,
    p.job,
    p.state,
    p.created_at,
    p.created_by,
    p.started_at,
    p.ended_at,
    round(CASE
        WHEN p.state IN ('running', 'stopping') THEN (julianday('now') - julianday(p.started_at)) * 86400.0
        ELSE (julianday(p.ended_at) - julianday(p.started_at)) * 86400.0
    END, 3) AS run_seconds,
    (SELECT v.step FROM visit AS v WHERE v.run_id = p.id ORDER BY v.id DESC LIMIT 1) AS last_step,
    coalesce(c.jobs, 0) AS jobs,
    coalesce(c.active, 0) AS active,
    coalesce(c.succeeded, 0) AS succeeded,
    coalesce(c.mixed, 0) AS mixed,
    coalesce(c.failed, 0) AS failed,
    coalesce(c.stopped, 0) AS stopped,
    coalesce(c.denied, 0) AS denied,
    p.reason,
    p.sequence_run_id,
    p.schedule_id,
    p.retry_of
FROM run AS p
LEFT JOIN (
    SELECT
        r.sequence_run_id,
        COUNT(*) AS jobs,
        SUM(CASE WHEN r.ended_at IS NULL THEN 1 ELSE 0 END) AS active,
        SUM(CASE WHEN r.state = 'succeeded' THEN 1 ELSE 0 END) AS succeeded,
        SUM(CASE WHEN r.state = 'mixed' THEN 1 ELSE 0 END) AS mixed,
        SUM(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN r.state = 'stopped' THEN 1 ELSE 0 END) AS stopped,
        SUM(CASE WHEN r.state = 'denied' THEN 1 ELSE 0 END) AS denied
    FROM run AS r
    WHERE r.sequence_run_id IS NOT NULL
    GROUP BY r.sequence_run_id
) AS c ON c.sequence_run_id = p.id
WHERE p.kind = 'sequence';

DROP VIEW IF EXISTS v_failures;
CREATE VIEW v_failures AS
-- All failed runs: failed, timed_out, start_failed and lost. recovered_at: when a later run of the job first succeeded
-- after the failure and showed that it is over (jobfac help duty says which does). Of a failure that a person
-- acknowledged, the next 100 successes of the job are looked at. acknowledged_at and acknowledged_by: by a person, or by
-- that success. unacknowledged 1: neither has acknowledged it yet, so ORDER BY unacknowledged DESC, ended_at DESC shows
-- those first. last_note: the latest note.
SELECT
    r.id,
    r.job,
    j.category,
    r.kind,
    r.state,
    r.ended_at,
    r.attempt,
    r.worker,
    r.exit_code,
    r.signal,
    r.reason,
    r.exit_message,
    round((julianday(r.ended_at) - julianday(r.started_at)) * 86400.0, 3) AS run_seconds,
    u.ended_at AS recovered_at,
    COALESCE(r.acknowledged_at, u.ended_at) AS acknowledged_at,
    CASE
        WHEN r.acknowledged_at IS NOT NULL THEN r.acknowledged_by
        WHEN u.id IS NOT NULL THEN 'run ' || u.id || ' succeeded'
    END AS acknowledged_by,
    CASE WHEN r.state <> 'denied' AND COALESCE(r.acknowledged_at, u.ended_at) IS NULL THEN 1 ELSE 0 END
        AS unacknowledged,
    (SELECT t.text FROM note AS t WHERE t.run_id = r.id ORDER BY t.id DESC LIMIT 1) AS last_note,
    r.created_at,
    r.created_by,
    r.schedule_id,
    r.sequence_run_id
FROM run AS r
LEFT JOIN job AS j ON j.id = r.job
LEFT JOIN run AS u ON u.id = CASE
    WHEN r.acknowledged_by LIKE 'run % succeeded' THEN CAST(substr(r.acknowledged_by, 5) AS INTEGER)
    ELSE (
        SELECT s.id
        FROM (
            SELECT c.id
            FROM run AS c
            WHERE r.acknowledged_at IS NULL AND c.ended_at IS NOT NULL AND c.counted = 0
                AND +c.job = r.job AND +c.id > r.id AND c.state = 'succeeded' AND c.ended_at >= r.ended_at
            UNION ALL
            SELECT n.id
            FROM (
                SELECT a.id
                FROM run AS a
                WHERE r.acknowledged_at IS NOT NULL
                    AND a.job = r.job AND a.id > r.id AND a.state = 'succeeded' AND a.ended_at >= r.ended_at
                ORDER BY a.id
                LIMIT 100
            ) AS n
        ) AS one
        CROSS JOIN run AS s ON s.id = one.id
        WHERE (r.for_worker IS NULL OR s.for_worker = r.for_worker)
            AND (r.visit_id IS NULL OR s.visit_id IS NULL OR s.visit_id <> r.visit_id)
            AND (
                s.retry_of = r.id
                OR json_extract(s.origin, '$.first') = COALESCE(json_extract(r.origin, '$.first'), r.id)
                OR (
                    (
                        json_extract(s.origin, '$.given') = json_extract(r.origin, '$.given')
                        OR (
                            (
                                s.parameters = r.parameters
                                OR (s.parameters IS NULL AND r.parameters IS NULL)
                            )
                            AND (
                                s.arguments = r.arguments
                                OR (s.arguments IS NULL AND r.arguments IS NULL)
                            )
                            AND COALESCE(json_extract(s.overrides, '$.arguments'), json_extract(s.overrides, '$.payloads')) IS NULL
                            AND COALESCE(json_extract(r.overrides, '$.arguments'), json_extract(r.overrides, '$.payloads')) IS NULL
                            AND s.payload IS NULL AND r.payload IS NULL
                        )
                    )
                    AND COALESCE(json_extract(s.origin, '$.path'), '') = COALESCE(json_extract(r.origin, '$.path'), '')
                    AND (
                        json_extract(s.origin, '$.due_utc') IS NULL
                        OR json_extract(r.origin, '$.due_utc') IS NULL
                        OR json_extract(s.origin, '$.due_utc') >= json_extract(r.origin, '$.due_utc')
                    )
                    AND (
                        json_extract(r.origin, '$.backfill') IS NULL
                        OR json_extract(s.origin, '$.due_utc') = json_extract(r.origin, '$.due_utc')
                    )
                )
            )
            AND (r.kind <> 'sequence' OR NOT EXISTS (
                SELECT 1
                FROM visit AS f
                JOIN visit AS k ON k.run_id = s.id AND k.step = f.step AND k.start = 'skipped'
                WHERE f.run_id = r.id AND f.result IN ('failure', 'mixed')
                    AND NOT EXISTS (
                        SELECT 1 FROM visit AS d WHERE d.run_id = s.id AND d.step = f.step AND d.start = 'started'
                    )
            ))
            AND (s.kind <> 'sequence' OR EXISTS (
                SELECT 1 FROM visit AS v WHERE v.run_id = s.id AND v.start <> 'skipped'
            ))
        ORDER BY s.id
        LIMIT 1
    )
END
WHERE r.state IN ('failed', 'timed_out', 'start_failed', 'lost');

DROP VIEW IF EXISTS v_daily_statistics;
CREATE VIEW v_daily_statistics AS
-- Totals by job and day (UTC) on which the runs ended. They include a run about a minute after its end, and stay when
-- it is purged. failed: failed, timed_out, start_failed and lost. late: began more than a minute after it was due or
-- requested.
SELECT
    d.day,
    d.job,
    j.category,
    d.succeeded + d.mixed + d.failed + d.timed_out + d.start_failed + d.lost + d.stopped + d.denied AS runs,
    d.succeeded,
    d.mixed,
    d.failed + d.timed_out + d.start_failed + d.lost AS failed,
    d.stopped,
    d.denied,
    round(
        100.0 * d.succeeded / nullif(d.succeeded + d.mixed + d.failed + d.timed_out + d.start_failed + d.lost, 0), 1
    ) AS success_percent,
    d.attempts,
    d.retries,
    round(d.run_ms / 1000.0, 3) AS run_seconds,
    round(d.run_ms / 1000.0 / nullif(d.ran, 0), 3) AS average_seconds,
    round(d.shortest_ms / 1000.0, 3) AS minimum_seconds,
    round(d.longest_ms / 1000.0, 3) AS maximum_seconds,
    d.longest_run,
    round(d.wait_ms / 1000.0 / nullif(d.waited, 0), 3) AS average_wait_seconds,
    d.late,
    round(d.latest_ms / 1000.0, 3) AS latest_seconds,
    d.latest_run,
    round(d.cpu_ms / 1000.0, 3) AS cpu_seconds,
    d.peak_memory
FROM daily AS d
LEFT JOIN job AS j ON j.id = d.job;

DROP VIEW IF EXISTS v_daily_workers;
CREATE VIEW v_daily_workers AS
-- The work of each worker by day (UTC): the executions that ended on that day, and the sum of the times that its slots
-- were busy on that day with executions that have ended.
SELECT
    d.day,
    d.worker,
    d.attempts AS executions,
    round(d.busy_ms / 1000.0, 3) AS busy_seconds
FROM daily_worker AS d;
