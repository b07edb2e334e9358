"""What each role may do over HTTP."""

from jobfac.store.api_keys import Role

VIEWER, OPERATOR, ADMIN = Role

ALLOWED: dict[tuple[str, str], Role | None] = {
    ("GET", "/v1/jobs"): VIEWER,
    ("GET", "/v1/jobs/{job}"): VIEWER,
    ("PUT", "/v1/jobs/{job}"): ADMIN,
    ("DELETE", "/v1/jobs/{job}"): ADMIN,
    ("POST", "/v1/jobs/{job}/enable"): OPERATOR,
    ("POST", "/v1/jobs/{job}/disable"): OPERATOR,
    ("POST", "/v1/jobs/{job}/runs"): OPERATOR,
    ("POST", "/v1/jobs/{job}/backfill"): OPERATOR,
    ("GET", "/v1/defaults"): VIEWER,
    ("GET", "/v1/runs"): VIEWER,
    ("GET", "/v1/runs/{run:id}"): VIEWER,
    ("POST", "/v1/definitions:apply"): ADMIN,
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("DELETE", "/v1/keys/{key:id}"): ADMIN,
    ("GET", "/v1/notifications"): OPERATOR,
    ("POST", "/v1/notifications:requeue"): OPERATOR,
    ("GET", "/v1/reports/{report}"): VIEWER,
    ("GET", "/v1/reports.html"): VIEWER,
    ("POST", "/v1/purge"): ADMIN,
    ("GET", "/v1/doctor"): OPERATOR,
    ("POST", "/v1/runs:retry"): OPERATOR,
    ("POST", "/v1/runs:stop"): OPERATOR,
    ("POST", "/v1/runs/{run:id}/stop"): OPERATOR,
    ("POST", "/v1/runs/{run:id}/retry"): OPERATOR,
    ("GET", "/v1/runs/{run:id}/attempts"): VIEWER,
    ("GET", "/v1/runs/{run:id}/events"): VIEWER,
    ("GET", "/v1/runs/{run:id}/path"): VIEWER,
    ("GET", "/v1/runs/{run:id}/output"): VIEWER,
    ("GET", "/v1/events"): VIEWER,
    ("GET", "/v1/output"): VIEWER,
    ("GET", "/v1/overview"): VIEWER,
    ("GET", "/v1/workers"): VIEWER,
    ("POST", "/v1/workers/{worker:id}/drain"): OPERATOR,
    ("POST", "/v1/workers/{worker:id}/undrain"): OPERATOR,
    ("GET", "/v1/schedules"): VIEWER,
    ("GET", "/v1/schedules/preview"): VIEWER,
    ("GET", "/v1/schedules/load"): VIEWER,
    ("POST", "/v1/schedules/{schedule:id}/pause"): OPERATOR,
    ("POST", "/v1/schedules/{schedule:id}/resume"): OPERATOR,
    ("GET", "/metrics"): VIEWER,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/login"): None,
}
"""The least role for each call, None: no key is needed. Written out here, not derived: a mistake must stand out."""

QUERIES = {
    "/v1/events": "?seconds=0",
    "/v1/schedules/preview": "?job=a",
    "/login": "?token=none",
    "/v1/output": "?text=a",
}
