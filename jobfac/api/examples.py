"""Examples in the OpenAPI document, by the name of the model, or of the handler for a request body."""

from typing import Any

RUN: dict[str, Any] = {
    "id": 42,
    "job": "orders-export",
    "state": "succeeded",
    "attempt": 1,
    "priority": 0,
    "arguments": ["--full"],
    "payload": None,
    "created_at": "2027-01-31T21:59:58.120+00:00",
    "started_at": "2027-01-31T21:59:58.164+00:00",
    "ended_at": "2027-01-31T22:00:06.001+00:00",
    "worker": "batch-1",
    "exit_code": 0,
    "signal": None,
    "reason": None,
    "progress": 1.0,
    "message": "12 of 12 files",
    "exit_message": "12 files",
    "sequence_run_id": None,
    "schedule_id": None,
    "due_at": None,
    "kind": "program",
    "job_version": 3,
    "queue": "default",
    "created_by": "shop",
    "ready_at": None,
    "queued_at": "2027-01-31T21:59:58.120+00:00",
    "outputs": {"files": "12"},
    "parameters": {"day": "2027-01-30"},
    "stop": None,
    "stop_by": None,
    "retry_of": None,
    "slots": None,
    "for_worker": None,
    "cpu_seconds": 6.41,
    "peak_memory": 91226112,
    "acknowledged_at": None,
    "acknowledged_by": None,
}
DEFINITION: dict[str, Any] = {
    "command": ["python3", "export.py"],
    "timeout": "30m",
    "retry": {"attempts": 3},
    "schedules": [{"cron": "0 6 * * MON-FRI", "timezone": "Europe/Berlin"}],
}
JOB: dict[str, Any] = {
    "id": "orders-export",
    "kind": "program",
    "version": 3,
    "enabled": True,
    "category": None,
    "queue": "default",
    "definition": DEFINITION,
}
WORKER: dict[str, Any] = {
    "id": 7,
    "name": "batch-1",
    "host": "batch-1.example.org",
    "pid": 4711,
    "version": "0.1.0",
    "slots": 8,
    "pools": ["default"],
    "labels": {"os": "linux"},
    "state": "active",
    "started_at": "2027-01-31T06:00:00.000+00:00",
    "seen_at": "2027-01-31T21:59:57.000+00:00",
    "lease_until": "2027-01-31T22:00:12.000+00:00",
    "ended_at": None,
    "busy": 1,
    "message": None,
    "cpu_pressure": 3.5,
    "free_memory": 6442450944,
}
SCHEDULE: dict[str, Any] = {
    "id": 5,
    "job": "orders-export",
    "name": "1",
    "paused": False,
    "job_enabled": True,
    "next_due_at": "2027-02-01T05:00:00.000+00:00",
    "fire_at": "2027-02-01T05:00:00.000+00:00",
    "last_due_at": None,
    "definition": DEFINITION["schedules"][0],
}
ATTEMPT: dict[str, Any] = {
    "run_id": 42,
    "number": 1,
    "worker_id": 7,
    "worker": "batch-1",
    "pid": 5120,
    "started_at": RUN["started_at"],
    "ended_at": RUN["ended_at"],
    "state": "succeeded",
    "exit_code": 0,
    "signal": None,
    "reason": None,
    "stdout_path": None,
    "stderr_path": None,
    "cpu_seconds": 6.41,
    "peak_memory": 91226112,
}
EVENT: dict[str, Any] = {
    "id": 130,
    "attempt": 1,
    "at": RUN["ended_at"],
    "event": "succeeded",
    "by": "batch-1",
    "detail": None,
}
CANDIDATE: dict[str, Any] = {
    "due_at": "2027-02-01T05:00:00+00:00",
    "schedule": "1",
    "local": "2027-02-01T06:00:00+01:00",
    "fires": True,
    "reason": None,
}

SUMMARY: dict[str, Any] = {
    name: RUN[name]
    for name in (
        "id", "job", "kind", "state", "attempt", "worker", "started_at", "ended_at", "progress", "message", "reason",
        "exit_message", "sequence_run_id",
    )
}  # fmt: skip
OVERVIEW: dict[str, Any] = {
    "now": "2027-01-31T22:00:10.000+00:00",
    "workers": [WORKER],
    "queued": [{"pool": "default", "number": 3, "seconds": 1.5, "hold": None}],
    "blocked": 0,
    "scheduled": 2,
    "held": 0,
    "running": [],
    "ended": [SUMMARY],
    "due": [{"job": SCHEDULE["job"], "name": SCHEDULE["name"], "fire_at": SCHEDULE["fire_at"]}],
    "failures": [],
    "holds": [],
    "overdue": [],
}

HOLD: dict[str, Any] = {
    "id": 3,
    "pool": "etl",
    "category": None,
    "job": None,
    "reason": "the database moves",
    "until": "2027-02-01T06:00:00.000+00:00",
    "created_at": "2027-01-31T22:00:00.000+00:00",
    "created_by": "ann",
    "released_at": None,
    "released_by": None,
}
NOTE: dict[str, Any] = {"id": 8, "run_id": 42, "at": RUN["ended_at"], "by": "ann", "text": "the share was full"}
VERSION: dict[str, Any] = {
    "job": "orders-export",
    "version": 3,
    "current": True,
    "created_at": "2027-01-30T09:00:00.000+00:00",
    "created_by": "ann",
    "definition": DEFINITION,
}
CHANGE: dict[str, Any] = {"path": "timeout", "before": None, "after": "30m"}

PATH_EXAMPLES = {
    "hold": 3,
    "key": 1,
    "report": "summary",
    "job": JOB["id"],
    "version": VERSION["version"],
    "run": RUN["id"],
    "worker": WORKER["id"],
    "schedule": SCHEDULE["id"],
    "step": "release",
    "url": 3,
    "token": "ju_0123456789ab_sJ5u2mV7f0mWc1kq8b3zq6c4x9t0y7p2r5d8w1h6n3g",
}

EXAMPLES: dict[str, Any] = {
    "Run": RUN,
    "StartedRun": RUN,
    "Runs": {"items": [{**RUN, "truncated": []}], "next_cursor": "42"},
    "Attempts": {"items": [ATTEMPT]},
    "RunEvents": {"items": [EVENT]},
    "OutputPage": {
        "attempt": 1,
        "pieces": [{"stream": "stdout", "offset": 0, "skipped": 0, "data": "MTIgZmlsZXMK"}],
        "position": "1:9:0",
        "complete": False,
    },
    "Approval": {"run": 42, "step": "release", "decision": "approved"},
    "Stopped": {"before": "running", "after": "stopping"},
    "Job": JOB,
    "Jobs": {"items": [{**JOB, "truncated": []}], "next_cursor": None},
    "Workers": {"items": [WORKER]},
    "Schedule": SCHEDULE,
    "Schedules": {"items": [{**SCHEDULE, "truncated": []}]},
    "Candidates": {"items": [CANDIDATE]},
    "Overview": OVERVIEW,
    "Hold": HOLD,
    "Holds": {"items": [HOLD], "next_cursor": None},
    "Note": NOTE,
    "Notes": {"items": [NOTE], "next_cursor": None},
    "JobVersion": VERSION,
    "Versions": {"items": [{**VERSION, "truncated": []}], "next_cursor": None},
    "Changes": {"items": [CHANGE]},
    "put_job": DEFINITION,
    "Backfill": {
        "items": [
            {
                "due_at": CANDIDATE["due_at"],
                "schedule": "1",
                "local": CANDIDATE["local"],
                "result": "started",
                "run": 57,
            }
        ],
        "next_from": None,
        "defined_at": "2026-01-05T08:00:00Z",
    },
    "ManyRuns": {
        "dry_run": False,
        "items": [
            {"id": 42, "job": "orders-export", "state": "failed", "result": "done", "new_run": 57, "reason": None}
        ],
        "next_cursor": None,
    },
    "retry_runs": {"filter": {"job": "orders-export", "since": "2027-01-31T00:00:00Z"}, "dry_run": True},
    "stop_runs": {"filter": {"job": "orders-export"}},
    "acknowledge_runs": {"filter": {"job": "orders-export", "since": "2027-01-31T00:00:00Z"}},
    "rollback": {"version": 2},
    "create_url": {"name": "github"},
    "call_job": {"ref": "refs/heads/main"},
    "Called": {"id": 57, "job": "deploy", "state": "queued", "reason": None},
    "RevokedUrls": {"revoked": [3]},
    "backfill": {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "dry_run": True},
    "apply_definitions": {
        "files": [{"name": "jobs.yaml", "text": "jobs: {hello: {command: [echo, hello]}}"}],
        "dry_run": True,
    },
    "create_key": {"role": "viewer", "name": "wallboard", "lifetime": "90d"},
    "requeue_notifications": {"ids": [12]},
    "hold": {"pool": "etl", "reason": "the database moves", "until": "2027-02-01T06:00:00Z"},
    "add_note": {"text": "the share was full", "acknowledge": True},
    "start": {"arguments": ["--full"], "priority": 10},
    "stop": {"now": False},
    "approve": {"approved": True, "reason": "checked the totals"},
    "retry": {"from_failed": False},
}
