-- Views for reports. Times are UTC, seconds have three decimals, and states are those of the tables.
-- This file can be run again at any time; it replaces the existing objects.

CREATE OR ALTER VIEW jobfac.v_runs AS
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
    CAST(CASE
        WHEN r.state = 'queued' THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, SYSUTCDATETIME())
        WHEN r.started_at >= r.queued_at THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, r.started_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS wait_seconds,
    CAST(CASE
        WHEN r.state IN ('running', 'stopping') THEN DATEDIFF_BIG(MILLISECOND, r.started_at, SYSUTCDATETIME())
        ELSE DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    r.for_worker,
    r.cpu_seconds,
    r.peak_memory,
    COALESCE(r.slots, 1) AS slots,
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
FROM jobfac.run AS r
LEFT JOIN jobfac.job AS j ON j.id = r.job;
GO

CREATE OR ALTER VIEW jobfac.v_queue AS
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
    CAST(DATEDIFF_BIG(
        MILLISECOND, CASE WHEN r.state = 'queued' THEN r.queued_at ELSE r.created_at END, SYSUTCDATETIME()
    ) / 1000.0 AS DECIMAL(18, 3)) AS waiting_seconds,
    CASE
        WHEN r.state = 'scheduled' THEN CONCAT(
            CASE WHEN r.attempt > 0 THEN N'its next attempt at ' ELSE N'scheduled until ' END,
            CONVERT(NVARCHAR(19), r.ready_at, 120), N' UTC'
        )
        WHEN h.id IS NOT NULL THEN CONCAT(N'hold ', h.id, N' of ', CASE
            WHEN h.pool IS NOT NULL THEN CONCAT(N'pool ', h.pool)
            WHEN h.category IS NOT NULL THEN CONCAT(N'category ', h.category)
            WHEN h.job IS NOT NULL THEN CONCAT(N'job ', h.job)
            ELSE N'everything'
        END, N': ', h.reason)
        WHEN r.state = 'blocked' AND r.already_running <> 'start' AND b.same IS NOT NULL
            THEN CONCAT(N'run ', b.same, N' of the job has not ended')
        WHEN r.state = 'blocked' AND r.concurrency_key IS NULL THEN N'another run of the job has not ended'
        WHEN r.state = 'blocked' THEN CONCAT(
            N'concurrency limit ', r.concurrency_limit, N' of ''', r.concurrency_key, N'''',
            CASE WHEN b.holders > 0 THEN CONCAT(N': run ', b.first_holder, N' of ', c.job) END,
            CASE WHEN b.holders > 1 THEN CONCAT(N' and ', b.holders - 1, N' more') END
        )
        WHEN r.kind = 'sequence' THEN N'a worker or scheduler begins it'
        WHEN r.reason = N'its workers died while it ran; it waits for a worker on which nothing else runs' AND 0 < CASE
            WHEN r.for_worker IS NULL THEN f.healthy
            ELSE (
                SELECT COUNT(*)
                FROM jobfac.worker AS w
                JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
                WHERE w.name = r.for_worker AND w.state = 'active' AND w.message IS NULL
                    AND e.lease_until > SYSUTCDATETIME()
            )
        END
            THEN N'a worker on which nothing else runs, on a machine without another such run, because its workers died while it ran'
        WHEN r.for_worker IS NOT NULL THEN CONCAT(N'worker ', r.for_worker, COALESCE(
            N' claims nothing: ' + REPLACE(p.message, N'claims nothing: ', N''), N', which alone may claim it'
        ))
        WHEN COALESCE(f.workers, 0) = 0 THEN CONCAT(N'no live worker serves ', f.needed)
        WHEN f.healthy = 0 THEN CONCAT(
            N'worker ', i.name, N' claims nothing: ', REPLACE(i.message, N'claims nothing: ', N'')
        )
        WHEN f.free < f.taken AND f.taken > 1 THEN CONCAT(f.taken, N' free slots of one worker of ', f.needed)
        WHEN f.free < 1 AND f.slots = 1 THEN CONCAT(N'the only slot of ', f.needed, N' is busy')
        WHEN f.free < 1 THEN CONCAT(N'all ', f.slots, N' slots of ', f.needed, N' are busy')
        ELSE N'its turn: a slot is free'
    END AS waits_for,
    CASE WHEN r.for_worker IS NULL THEN COALESCE(f.workers, 0) ELSE COALESCE(p.workers, 0) END AS pool_workers,
    COALESCE(r.slots, 1) AS slots,
    h.id AS hold_id,
    r.concurrency_key,
    r.concurrency_limit,
    r.created_at,
    r.created_by,
    r.ready_at,
    r.queued_at,
    r.sequence_run_id,
    r.schedule_id
FROM jobfac.run AS r
OUTER APPLY (
    SELECT
        (
            SELECT MIN(o.id) FROM (
                SELECT MIN(n.id) AS id FROM jobfac.run AS n
                WHERE r.state = 'blocked' AND n.state IN ('queued', 'running', 'stopping') AND n.job = r.job
                    AND n.id <> r.id AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
                UNION ALL
                SELECT MIN(n.id) FROM jobfac.run AS n
                WHERE r.state = 'blocked' AND r.already_running = 'queue' AND r.attempt = 0
                    AND n.state = 'scheduled' AND n.attempt > 0 AND n.job = r.job
                    AND n.state IN ('blocked', 'queued', 'running', 'scheduled', 'stopping')
            ) AS o
        ) AS same,
        MIN(k.id) AS first_holder,
        COUNT(*) AS holders
    FROM jobfac.run AS k
    WHERE r.state = 'blocked' AND k.concurrency_key = r.concurrency_key
        AND k.state IN ('queued', 'running', 'stopping') AND k.id <> r.id
) AS b
LEFT JOIN jobfac.run AS c ON c.id = b.first_holder
LEFT JOIN (
    SELECT w.name, COUNT(*) AS workers, MAX(w.message) AS message
    FROM jobfac.worker AS w
    JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
    WHERE w.state = 'active' AND e.lease_until > SYSUTCDATETIME()
    GROUP BY w.name
) AS p ON p.name = r.for_worker
LEFT JOIN (
    SELECT
        q.name,
        q.pool,
        CONCAT(N'pool ''', q.pool, N'''', CASE
            WHEN q.labels <> N'{}' THEN CONCAT(N' (labels ', SUBSTRING(
                q.name,
                LEN(q.pool) + 2,
                LEN(q.name) - LEN(q.pool) - 2
                    - CASE WHEN q.slots > 1 THEN 1 + LEN(CAST(q.slots AS NVARCHAR(10))) ELSE 0 END
            ), N')')
        END, CASE WHEN q.slots > 1 THEN CONCAT(N' with ', q.slots, N' slots') END) AS needed,
        COALESCE(q.slots, 1) AS taken,
        COUNT(w.id) AS workers,
        SUM(CASE WHEN w.id IS NOT NULL AND w.message IS NULL THEN 1 ELSE 0 END) AS healthy,
        SUM(CASE WHEN w.message IS NULL THEN w.slots END) AS slots,
        MAX(CASE WHEN w.message IS NULL THEN w.slots - w.busy END) AS free,
        MAX(w.id) AS newest
    FROM jobfac.queue AS q
    LEFT JOIN (
        SELECT
            v.id,
            v.pools,
            v.labels,
            v.slots,
            v.message,
            COALESCE((
                SELECT SUM(COALESCE(h.slots, 1)) FROM jobfac.run AS h
                WHERE h.state IN ('running', 'stopping') AND h.worker_id = v.id
            ), 0) AS busy
        FROM jobfac.worker AS v
        JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = v.id
        WHERE v.state = 'active' AND e.lease_until > SYSUTCDATETIME()
    ) AS w
        ON (q.pool = N'@sequences' OR CHARINDEX(CONCAT(N'"', q.pool, N'"'), w.pools) > 0)
        AND (q.slots IS NULL OR w.slots >= q.slots)
        AND NOT EXISTS (
            SELECT 1 FROM OPENJSON(q.labels) AS n
            WHERE NOT EXISTS (
                SELECT 1 FROM OPENJSON(w.labels) AS m
                WHERE m.[key] COLLATE DATABASE_DEFAULT = n.[key] COLLATE DATABASE_DEFAULT AND m.[value] = n.[value]
            )
        )
    GROUP BY q.name, q.pool, q.labels, q.slots
) AS f ON f.name = r.queue
LEFT JOIN jobfac.worker AS i ON i.id = f.newest
LEFT JOIN jobfac.job AS j ON j.id = r.job
LEFT JOIN jobfac.start_hold AS h ON r.state <> 'scheduled' AND h.id = (
    SELECT MIN(x.id)
    FROM jobfac.start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > SYSUTCDATETIME())
        AND (x.pool IS NULL OR x.pool = f.pool OR EXISTS (
            SELECT 1 FROM jobfac.worker AS v
            WHERE v.name = r.for_worker AND v.state = 'active' AND CHARINDEX(CONCAT(N'"', x.pool, N'"'), v.pools) > 0
        ))
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = r.job)
)
WHERE r.state IN ('queued', 'scheduled', 'blocked');
GO

CREATE OR ALTER VIEW jobfac.v_fleet AS
-- All worker processes, including ended ones. alive: it renews its lease. busy: slots in use. message: why it claims
-- nothing. cpu_pressure: percent of time in which work waited for a processor. free_memory: bytes.
-- NOLOCK: a report in a long transaction must not block heartbeats.
SELECT
    w.id,
    w.name,
    w.host,
    w.pid,
    w.version,
    w.state,
    CAST(CASE WHEN w.state IN ('active', 'draining') AND e.lease_until > SYSUTCDATETIME() THEN 1 ELSE 0 END AS BIT)
        AS alive,
    w.slots,
    COALESCE(h.busy, 0) AS busy,
    w.pools,
    w.labels,
    w.started_at,
    e.seen_at,
    e.lease_until,
    w.ended_at,
    w.message,
    e.cpu_pressure,
    e.free_memory
FROM jobfac.worker AS w
JOIN jobfac.worker_lease AS e WITH (NOLOCK) ON e.worker_id = w.id
LEFT JOIN (
    SELECT r.worker_id, SUM(COALESCE(r.slots, 1)) AS busy
    FROM jobfac.run AS r
    WHERE r.state IN ('running', 'stopping')
    GROUP BY r.worker_id
) AS h ON h.worker_id = w.id;
GO

CREATE OR ALTER VIEW jobfac.v_job_statistics AS
-- All jobs with totals of their stored runs. failed: failed, timed_out, start_failed and lost. success_percent: the
-- share of succeeded runs among those that succeeded, were mixed or failed.
SELECT
    j.id AS job,
    j.category,
    j.kind,
    j.enabled,
    COALESCE(s.runs, 0) AS runs,
    COALESCE(s.waiting, 0) AS waiting,
    COALESCE(s.running, 0) AS running,
    COALESCE(s.succeeded, 0) AS succeeded,
    COALESCE(s.mixed, 0) AS mixed,
    COALESCE(s.failed, 0) AS failed,
    COALESCE(s.stopped, 0) AS stopped,
    COALESCE(s.denied, 0) AS denied,
    CAST(100.0 * s.succeeded / NULLIF(s.succeeded + s.mixed + s.failed, 0) AS DECIMAL(5, 1)) AS success_percent,
    CAST(s.average_ms / 1000.0 AS DECIMAL(18, 3)) AS average_seconds,
    CAST(s.maximum_ms / 1000.0 AS DECIMAL(18, 3)) AS maximum_seconds,
    CAST(s.average_wait_ms / 1000.0 AS DECIMAL(18, 3)) AS average_wait_seconds,
    s.last_started_at,
    s.last_success_at,
    s.last_failure_at,
    (SELECT TOP (1) l.state FROM jobfac.run AS l WHERE l.job = j.id ORDER BY l.id DESC) AS last_state
FROM jobfac.job AS j
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
        AVG(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)) AS average_ms,
        MAX(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at)) AS maximum_ms,
        AVG(CASE WHEN r.started_at >= r.queued_at THEN DATEDIFF_BIG(MILLISECOND, r.queued_at, r.started_at) END)
            AS average_wait_ms,
        MAX(r.started_at) AS last_started_at,
        MAX(CASE WHEN r.state = 'succeeded' THEN r.ended_at END) AS last_success_at,
        MAX(CASE WHEN r.state IN ('failed', 'timed_out', 'start_failed', 'lost') THEN r.ended_at END) AS last_failure_at
    FROM jobfac.run AS r
    GROUP BY r.job
) AS s ON s.job = j.id;
GO

CREATE OR ALTER VIEW jobfac.v_schedule AS
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
    CAST(DATEDIFF_BIG(MILLISECOND, SYSUTCDATETIME(), s.fire_at) / 1000.0 AS DECIMAL(18, 3)) AS seconds_until,
    s.last_due_at,
    r.id AS last_run_id,
    r.state AS last_run_state,
    r.started_at AS last_run_started_at,
    r.ended_at AS last_run_ended_at,
    s.definition
FROM jobfac.schedule AS s
LEFT JOIN jobfac.job AS j ON j.id = s.job
LEFT JOIN jobfac.queue AS q ON q.name = j.queue
LEFT JOIN jobfac.start_hold AS h ON h.id = (
    SELECT MIN(x.id)
    FROM jobfac.start_hold AS x
    WHERE x.freed = 0 AND x.released_at IS NULL AND (x.until IS NULL OR x.until > SYSUTCDATETIME())
        AND (x.pool IS NULL OR x.pool = q.pool)
        AND (x.category IS NULL OR x.category = j.category)
        AND (x.job IS NULL OR x.job = s.job)
)
LEFT JOIN jobfac.run AS r ON r.id = (
    SELECT TOP (1) l.id FROM jobfac.run AS l WHERE l.schedule_id = s.id ORDER BY l.due_at DESC
);
GO

CREATE OR ALTER VIEW jobfac.v_sequence_runs AS
-- All runs of sequences: the current or last step, and the numbers of the runs that they started, by state.
SELECT
    p.id,
    p.job,
    p.state,
    p.created_at,
    p.created_by,
    p.started_at,
    p.ended_at,
    CAST(CASE
        WHEN p.state IN ('running', 'stopping') THEN DATEDIFF_BIG(MILLISECOND, p.started_at, SYSUTCDATETIME())
        ELSE DATEDIFF_BIG(MILLISECOND, p.started_at, p.ended_at)
    END / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    (SELECT TOP (1) v.step FROM jobfac.visit AS v WHERE v.run_id = p.id ORDER BY v.id DESC) AS last_step,
    COALESCE(c.jobs, 0) AS jobs,
    COALESCE(c.active, 0) AS active,
    COALESCE(c.succeeded, 0) AS succeeded,
    COALESCE(c.mixed, 0) AS mixed,
    COALESCE(c.failed, 0) AS failed,
    COALESCE(c.stopped, 0) AS stopped,
    COALESCE(c.denied, 0) AS denied,
    p.reason,
    p.sequence_run_id,
    p.schedule_id,
    p.retry_of
FROM jobfac.run AS p
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
    FROM jobfac.run AS r
    WHERE r.sequence_run_id IS NOT NULL
    GROUP BY r.sequence_run_id
) AS c ON c.sequence_run_id = p.id
WHERE p.kind = 'sequence';
GO

CREATE OR ALTER VIEW jobfac.v_failures AS
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
    CAST(DATEDIFF_BIG(MILLISECOND, r.started_at, r.ended_at) / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    u.ended_at AS recovered_at,
    COALESCE(r.acknowledged_at, u.ended_at) AS acknowledged_at,
    CASE
        WHEN r.acknowledged_at IS NOT NULL THEN r.acknowledged_by
        WHEN u.id IS NOT NULL THEN CONCAT(N'run ', u.id, N' succeeded')
    END AS acknowledged_by,
    CASE WHEN r.state <> 'denied' AND COALESCE(r.acknowledged_at, u.ended_at) IS NULL THEN 1 ELSE 0 END
        AS unacknowledged,
    (SELECT TOP (1) t.text FROM jobfac.note AS t WHERE t.run_id = r.id ORDER BY t.id DESC) AS last_note,
    r.created_at,
    r.created_by,
    r.schedule_id,
    r.sequence_run_id
FROM jobfac.run AS r
LEFT JOIN jobfac.job AS j ON j.id = r.job
LEFT JOIN jobfac.run AS u ON u.id = CASE
    WHEN r.acknowledged_by LIKE 'run % succeeded'
        THEN TRY_CAST(SUBSTRING(r.acknowledged_by, 5, LEN(r.acknowledged_by) - 14) AS BIGINT)
    ELSE (
        SELECT TOP (1) s.id
        FROM (
            SELECT c.id
            FROM jobfac.run AS c
            WHERE r.acknowledged_at IS NULL AND c.ended_at IS NOT NULL AND c.counted = 0
                AND c.job = r.job AND c.id > r.id AND c.state = 'succeeded' AND c.ended_at >= r.ended_at
            UNION ALL
            SELECT n.id
            FROM (
                SELECT TOP (100) a.id
                FROM jobfac.run AS a
                WHERE r.acknowledged_at IS NOT NULL
                    AND a.job = r.job AND a.id > r.id AND a.state = 'succeeded' AND a.ended_at >= r.ended_at
                ORDER BY a.id
            ) AS n
        ) AS one
        JOIN jobfac.run AS s ON s.id = one.id
        WHERE (r.for_worker IS NULL OR s.for_worker = r.for_worker)
            AND (r.visit_id IS NULL OR s.visit_id IS NULL OR s.visit_id <> r.visit_id)
            AND (
                s.retry_of = r.id
                OR JSON_VALUE(s.origin, '$.first') =
                    COALESCE(JSON_VALUE(r.origin, '$.first'), CAST(r.id AS NVARCHAR(20)))
                OR (
                    (
                        JSON_VALUE(s.origin, '$.given') = JSON_VALUE(r.origin, '$.given')
                        OR (
                            (
                                s.parameters = r.parameters COLLATE Latin1_General_BIN2
                                OR (s.parameters IS NULL AND r.parameters IS NULL)
                            )
                            AND (
                                s.arguments = r.arguments COLLATE Latin1_General_BIN2
                                OR (s.arguments IS NULL AND r.arguments IS NULL)
                            )
                            AND COALESCE(JSON_QUERY(s.overrides, '$.arguments'), JSON_QUERY(s.overrides, '$.payloads')) IS NULL
                            AND COALESCE(JSON_QUERY(r.overrides, '$.arguments'), JSON_QUERY(r.overrides, '$.payloads')) IS NULL
                            AND s.payload IS NULL AND r.payload IS NULL
                        )
                    )
                    AND COALESCE(JSON_VALUE(s.origin, '$.path'), '') = COALESCE(JSON_VALUE(r.origin, '$.path'), '')
                    AND (
                        JSON_VALUE(s.origin, '$.due_utc') IS NULL
                        OR JSON_VALUE(r.origin, '$.due_utc') IS NULL
                        OR JSON_VALUE(s.origin, '$.due_utc') >= JSON_VALUE(r.origin, '$.due_utc')
                    )
                    AND (
                        JSON_VALUE(r.origin, '$.backfill') IS NULL
                        OR JSON_VALUE(s.origin, '$.due_utc') = JSON_VALUE(r.origin, '$.due_utc')
                    )
                )
            )
            AND (r.kind <> 'sequence' OR NOT EXISTS (
                SELECT 1
                FROM jobfac.visit AS f
                JOIN jobfac.visit AS k ON k.run_id = s.id AND k.step = f.step AND k.start = 'skipped'
                WHERE f.run_id = r.id AND f.result IN ('failure', 'mixed')
                    AND NOT EXISTS (
                        SELECT 1 FROM jobfac.visit AS d
                        WHERE d.run_id = s.id AND d.step = f.step AND d.start = 'started'
                    )
            ))
            AND (s.kind <> 'sequence' OR EXISTS (
                SELECT 1 FROM jobfac.visit AS v WHERE v.run_id = s.id AND v.start <> 'skipped'
            ))
        ORDER BY s.id
    )
END
WHERE r.state IN ('failed', 'timed_out', 'start_failed', 'lost');
GO

CREATE OR ALTER VIEW jobfac.v_daily_statistics AS
-- Totals by job and day (UTC) on which the runs ended. They include a run about a minute after its end, and stay when
-- it is purged. failed: failed, timed_out, start_failed and lost. late: began more than a minute after it was due or
-- requested; a backfill is never late.
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
    CAST(
        100.0 * d.succeeded / NULLIF(d.succeeded + d.mixed + d.failed + d.timed_out + d.start_failed + d.lost, 0)
        AS DECIMAL(5, 1)
    ) AS success_percent,
    d.attempts,
    d.retries,
    CAST(d.run_ms / 1000.0 AS DECIMAL(18, 3)) AS run_seconds,
    CAST(d.run_ms / 1000.0 / NULLIF(d.ran, 0) AS DECIMAL(18, 3)) AS average_seconds,
    CAST(d.shortest_ms / 1000.0 AS DECIMAL(18, 3)) AS minimum_seconds,
    CAST(d.longest_ms / 1000.0 AS DECIMAL(18, 3)) AS maximum_seconds,
    d.longest_run,
    CAST(d.wait_ms / 1000.0 / NULLIF(d.waited, 0) AS DECIMAL(18, 3)) AS average_wait_seconds,
    d.late,
    CAST(d.latest_ms / 1000.0 AS DECIMAL(18, 3)) AS latest_seconds,
    d.latest_run,
    CAST(d.cpu_ms / 1000.0 AS DECIMAL(18, 3)) AS cpu_seconds,
    d.peak_memory
FROM jobfac.daily AS d
LEFT JOIN jobfac.job AS j ON j.id = d.job;
GO

CREATE OR ALTER VIEW jobfac.v_daily_workers AS
-- The work of each worker by day (UTC): the executions that ended on that day, and the sum of the times that its slots
-- were busy on that day with executions that have ended.
SELECT
    d.day,
    d.worker,
    d.attempts AS executions,
    CAST(d.busy_ms / 1000.0 AS DECIMAL(18, 3)) AS busy_seconds
FROM jobfac.daily_worker AS d;
GO
