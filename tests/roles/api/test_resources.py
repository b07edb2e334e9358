"""The calls of the API over a real socket. Calls whose SQL differs by engine run on every engine."""

import json
import threading
import time

import sqlalchemy as sa

from jobfac.database.tables import audit, run
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served, events
from tests.support.factory import wait_for

SSE = {"Accept": "text/event-stream"}


def test_a_start_returns_the_run_and_its_location(served: Served) -> None:
    served.define("a", priority=5)
    answer = served.operator.post("/v1/jobs/a/runs", json={"arguments": ["x", "ü"], "payload": "p"})
    run = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/runs/{run['id']}"
    assert (run["state"], run["priority"], run["arguments"], run["payload"]) == ("queued", 5, ["x", "ü"], "p")
    assert run["created_by"] == "operator"
    shown = served.viewer.get(answer.headers["location"]).json()
    assert shown == {**run, "waits_for": "no live worker serves pool 'default'"}


def test_the_same_key_gives_the_same_run(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a")
    answers = []

    def start() -> None:
        answers.append(served.operator.post("/v1/jobs/a/runs", headers={"Idempotency-Key": "order-7"}))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(served.viewer.get("/v1/runs").json()["items"]) == 1
    assert served.operator.post("/v1/jobs/a/runs", headers={"Idempotency-Key": "order-8"}).status_code == 201
    assert len(served.viewer.get("/v1/runs").json()["items"]) == 2


def test_a_denied_start_names_the_run(served: Served) -> None:
    served.define("a", already_running="deny")
    served.start("a")
    answer = served.operator.post("/v1/jobs/a/runs")
    assert answer.status_code == 409
    assert served.viewer.get(f"/v1/runs/{answer.json()['run_id']}").json()["state"] == "denied"


def test_a_disabled_job_is_not_started(served: Served) -> None:
    served.define("a")
    assert served.operator.post("/v1/jobs/a/disable").json()["enabled"] is False
    answer = served.operator.post("/v1/jobs/a/runs")
    assert (answer.status_code, "disabled" in answer.json()["detail"]) == (409, True)
    served.operator.post("/v1/jobs/a/enable")
    served.start("a")


def test_pages_are_stable_while_runs_are_added(served: Served) -> None:
    served.define("a")
    known = [served.start("a") for _ in range(9)]
    seen: list[int] = []
    cursor = ""
    while True:
        page = served.viewer.get(f"/v1/runs?limit=2{cursor}").json()
        seen += [item["id"] for item in page["items"]]
        served.start("a")
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == known[::-1]


def test_runs_are_filtered(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a")
    served.define("b")
    first, second = served.start("a"), served.start("b")
    later = served.start("b", delay="10m")
    assert served.viewer.get(f"/v1/runs/{later}").json()["state"] == "scheduled"

    def ids(query: str) -> list[int]:
        return [item["id"] for item in served.viewer.get(f"/v1/runs?{query}").json()["items"]]

    assert ids("job=b") == [later, second]
    assert ids("state=queued") == [second, first]
    assert ids("state=queued&state=scheduled") == [later, second, first]
    assert ids("since=2999-01-01T00:00:00Z") == []
    since = served.viewer.get(f"/v1/runs/{first}").json()["created_at"].replace("+00:00", "Z")
    assert ids(f"since={since}") == [later, second, first]


def test_a_waiting_request_is_answered_at_the_end_of_the_run(served: Served) -> None:
    served.define("a", command=["sh", "-c", "sleep 0.3; exit 3"])
    begin = time.monotonic()
    run = served.start("a")
    assert served.viewer.get(f"/v1/runs/{run}?wait=0.2").json()["state"] == "queued"
    with served.worker():
        ended = served.viewer.get(f"/v1/runs/{run}?wait=20").json()
    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    assert time.monotonic() - begin < 15


def test_a_run_is_stopped_and_retried(served: Served) -> None:
    served.define("a")
    run = served.start("a", payload="p")
    assert served.operator.post(f"/v1/runs/{run}/retry").status_code == 409
    assert served.operator.post(f"/v1/runs/{run}/stop").json() == {"before": "queued", "after": "stopped"}
    assert served.operator.post(f"/v1/runs/{run}/stop", json={"now": True}).json()["before"] == "stopped"
    again = served.operator.post(f"/v1/runs/{run}/retry")
    assert again.status_code == 201
    assert (again.json()["retry_of"], again.json()["payload"]) == (run, "p")
    with served.db.read() as conn:
        noted = conn.execute(sa.select(audit.c.action, audit.c.by).where(audit.c.subject == f"run {run}")).all()
    assert ("stop", "operator") in [tuple(row) for row in noted]
    assert ("retry", "operator") in [tuple(row) for row in noted]


def test_a_retry_with_a_key_happens_once(served: Served) -> None:
    served.define("a")
    key = {"Idempotency-Key": "k"}
    run = served.operator.post("/v1/jobs/a/runs", headers=key).json()["id"]
    served.operator.post(f"/v1/runs/{run}/stop")
    first, second = (served.operator.post(f"/v1/runs/{run}/retry", headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"] != run
    served.operator.post(f"/v1/runs/{first.json()['id']}/stop")
    assert served.operator.post(f"/v1/runs/{run}/retry").json()["id"] not in (run, first.json()["id"])
    assert served.operator.post(f"/v1/runs/{run}/retry", headers={"Idempotency-Key": ""}).status_code == 422
    limited = served.client(served.key(Role.OPERATOR, ["other"]))
    assert limited.post(f"/v1/runs/{run}/retry", headers=key).status_code == 404


def test_definitions_have_etags(served: Served) -> None:
    first = served.admin.put("/v1/jobs/a", json={"command": ["true"]}, headers={"If-None-Match": "*"})
    assert (first.status_code, first.headers["etag"]) == (201, '"1"')
    assert served.admin.put("/v1/jobs/a", json={"command": ["x"]}, headers={"If-None-Match": "*"}).status_code == 412
    for compressed in ('W/"1"', '"1-gzip"', '"1-br"'):  # as nginx and Apache send the tag of a compressed answer
        same = served.admin.put("/v1/jobs/a", json={"command": ["true"]}, headers={"If-Match": compressed})
        assert (same.status_code, same.headers["etag"]) == (200, '"1"')
    second = served.admin.put("/v1/jobs/a", json={"command": ["false"]}, headers={"If-Match": '"1"'})
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    assert served.admin.put("/v1/jobs/a", json={"command": ["true"]}, headers={"If-Match": '"1"'}).status_code == 412
    disabled = served.operator.post("/v1/jobs/a/disable")
    assert disabled.headers["etag"] not in ('"1"', '"2"')
    # Without `enabled` only the definition changes.
    assert served.admin.put("/v1/jobs/a", json={"command": ["y"]}).json()["enabled"] is False
    assert served.admin.delete("/v1/jobs/a", headers={"If-Match": '"2"'}).status_code == 412
    assert served.admin.delete("/v1/jobs/a").status_code == 204
    assert served.viewer.get("/v1/jobs/a").status_code == 404


def test_an_invalid_definition_names_every_problem(served: Served) -> None:
    answer = served.admin.put("/v1/jobs/a", json={"comand": ["true"], "timeout": "soon"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    fields = {error["field"] for error in answer.json()["errors"]}
    assert {"comand", "timeout"} <= fields
    answer = served.admin.put("/v1/jobs/s", json={"steps": [{"name": "one", "jobs": ["nowhere"]}]})
    assert (answer.status_code, "nowhere" in answer.json()["detail"]) == (422, True)


def test_a_job_in_a_sequence_is_not_deleted(served: Served) -> None:
    served.define("a")
    served.admin.put("/v1/jobs/s", json={"steps": [{"name": "one", "jobs": ["a"]}]}).raise_for_status()
    answer = served.admin.delete("/v1/jobs/a")
    assert (answer.status_code, "'s'" in answer.json()["detail"]) == (409, True)
    start = served.operator.post("/v1/jobs/s/runs", json={"arguments": {"a": ["x"]}, "payloads": {"a": "p"}})
    assert start.status_code == 201
    assert served.viewer.get(f"/v1/runs/{start.json()['id']}/path").json() == {"items": []}
    assert served.operator.post("/v1/jobs/s/runs", json={"arguments": ["x"]}).status_code == 422
    assert served.operator.post("/v1/jobs/a/runs", json={"payloads": {"a": "p"}}).status_code == 422


def test_schedules_are_paused_and_previewed(served: Served) -> None:
    served.define("a", schedules=[{"cron": "30 6 * * *", "name": "morning"}])
    found = served.viewer.get("/v1/schedules?job=a").json()["items"]
    assert [(one["name"], one["paused"]) for one in found] == [("morning", False)]
    path = f"/v1/schedules/{found[0]['id']}"
    assert served.operator.post(f"{path}/pause").json()["paused"] is True
    assert served.operator.post(f"{path}/resume").json()["paused"] is False
    preview = served.viewer.get("/v1/schedules/preview?job=a&count=2&from=2027-01-01T00:00:00Z").json()["items"]
    assert [one["due_at"] for one in preview] == ["2027-01-01T06:30:00+00:00", "2027-01-02T06:30:00+00:00"]


def test_the_fleet_is_listed_and_drained(served: Served) -> None:
    with served.worker() as worker:
        found = served.viewer.get("/v1/workers").json()["items"]
        assert [(one["name"], one["state"], one["slots"]) for one in found] == [("w1", "active", 4)]
        assert served.operator.post(f"/v1/workers/{found[0]['id']}/drain").status_code == 204
        assert worker.name == "w1"
        wait_for(lambda: not served.viewer.get("/v1/workers").json()["items"], "the worker left")
    assert served.viewer.get("/v1/workers?all=true").json()["items"][0]["state"] == "stopped"
    assert served.operator.post(f"/v1/workers/{found[0]['id']}/drain").status_code == 404


def test_metrics_contain_queue_runs_and_fleet(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a")
    served.viewer.get("/metrics").raise_for_status()
    run = served.start("a")
    assert 'jobfac_queue_runs{pool="default"} 1.0' in served.viewer.get("/metrics").text
    with served.worker():
        served.viewer.get(f"/v1/runs/{run}?wait=20")
        text = served.viewer.get("/metrics").text
    assert 'jobfac_runs_finished_total{job="a",state="succeeded"} 1.0' in text
    assert "jobfac_pickup_seconds_count 1.0" in text
    assert 'jobfac_workers{state="active"} 1.0' in text
    assert "jobfac_slots 4.0" in text


def test_a_limited_key_can_access_only_its_categories(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("hers", category="shop")
    served.define("theirs", category="bank", schedules=[{"cron": "0 0 1 1 *", "timezone": "UTC"}])
    mine, other = served.start("hers"), served.start("theirs")
    (schedule,) = served.admin.get("/v1/schedules").json()["items"]
    limited = served.client(served.key(Role.ADMIN, ["shop"]))
    assert [job["id"] for job in limited.get("/v1/jobs").json()["items"]] == ["hers"]
    assert [item["id"] for item in limited.get("/v1/runs").json()["items"]] == [mine]
    assert limited.get(f"/v1/runs/{mine}").status_code == 200
    for path in ("", "/output", "/events", "/attempts", "/path"):
        assert limited.get(f"/v1/runs/{other}{path}").status_code == 404
    for path in (
        f"/v1/runs/{other}/stop",
        f"/v1/runs/{other}/retry",
        "/v1/jobs/theirs/runs",
        "/v1/jobs/theirs/disable",
    ):
        assert limited.post(path).status_code == 404
    for word in ("pause", "resume"):
        answer = limited.post(f"/v1/schedules/{schedule['id']}/{word}")
        assert answer.json()["detail"].startswith(f"There is no schedule {schedule['id']}")
    assert limited.put("/v1/jobs/theirs", json={"command": ["x"], "category": "shop"}).status_code == 403
    assert limited.put("/v1/jobs/THEIRS", json={"command": ["x"], "category": "shop"}).status_code == 403
    assert limited.put("/v1/jobs/new", json={"command": ["x"], "category": "bank"}).status_code == 403
    assert limited.put("/v1/jobs/new", json={"command": ["x"], "category": "shop"}).status_code == 201
    steps = {"steps": [{"name": "one", "jobs": ["theirs"]}], "category": "shop"}
    assert limited.put("/v1/jobs/sequence", json=steps).status_code == 422
    assert limited.delete("/v1/jobs/theirs").status_code == 404
    assert limited.get("/metrics").status_code == 403
    headers = {**SSE, "Last-Event-ID": "0"}
    with limited.stream("GET", "/v1/events?seconds=0.3", headers=headers) as answer:
        assert {json.loads(one["data"])["run_id"] for one in events(answer.iter_lines())} == {mine}
    with served.db.read() as conn:
        assert conn.execute(sa.select(run.c.state).where(run.c.id == other)).scalar_one() == "queued"
