"""Many runs at once over HTTP, as the command line does it at home."""

from jobfac.states import RunState
from tests.support.api_stage import Served
from tests.support.database import Hand


def test_runs_are_found_by_everything(served: Served) -> None:
    served.define("a", category="red")
    run_id = served.start("a")
    for query in ("category=red", "state=queued&state=running", "text=A", "since=2020-01-01T00:00:00Z"):
        items = served.viewer.get(f"/v1/runs?{query}").json()["items"]
        assert [run["id"] for run in items] == [run_id], query
    for query in ("category=blue", "worker=w1", "key=k", "until=2020-01-01T00:00:00Z", "text=%25"):
        assert served.viewer.get(f"/v1/runs?{query}").json()["items"] == [], query


def test_a_filter_is_shown_first_and_then_done(served: Served) -> None:
    served.define("a")
    ids = [served.start("a") for _ in range(3)]
    url = "/v1/runs:stop"
    first = served.operator.post(url, json={"filter": {"job": "a"}, "limit": 2, "dry_run": True}).json()
    assert [line["id"] for line in first["items"]] == ids[1:]
    more = {"job": "a", "limit": 2, "dry_run": True, "cursor": first["next_cursor"]}  # the filter's fields beside it
    rest = served.operator.post(url, json=more).json()
    assert ([line["id"] for line in rest["items"]], rest["next_cursor"]) == (ids[:1], None)
    assert {run["state"] for run in served.viewer.get("/v1/runs").json()["items"]} == {"queued"}
    done = served.operator.post(url, json={"runs": ids[:2]}).json()
    assert [line["result"] for line in done["items"]] == ["done", "done"]
    everything = served.operator.post(url, json={"job": "a"}).json()
    assert [line["id"] for line in everything["items"]] == ids[2:]
    url = "/v1/runs:retry"
    retried = served.operator.post(url, json={"filter": {"job": "a", "state": ["stopped"]}}).json()["items"]
    assert [line["id"] for line in retried] == ids
    assert all(line["new_run"] > ids[-1] for line in retried)
    again = served.operator.post(url, json={"filter": {"job": "a", "state": ["stopped"]}}).json()["items"]
    assert {line["result"] for line in again} == {"skipped"}


def test_wrong_requests_say_what_is_missing(served: Served) -> None:
    for body, told in (
        ({}, "Select runs"),
        ({"state": ["failed"]}, "Select runs"),
        ({"filter": {}, "runs": [1]}, "exclude each other"),
        ({"job": "a", "runs": [1]}, "exclude each other"),
    ):
        answer = served.operator.post("/v1/runs:retry", json=body)
        assert answer.status_code == 409
        assert told in answer.text
    assert served.operator.post("/v1/runs:stop", json={"filter": {"jobs": "a"}}).status_code == 422
    assert served.viewer.post("/v1/runs:stop", json={"job": "a"}).status_code == 403


def test_failures_are_acknowledged_by_a_filter(served: Served) -> None:
    served.define("a")
    hand, ids = Hand(served.db), [served.start("a") for _ in range(3)]
    for claimed in hand.claim():
        hand.end(claimed, RunState.FAILED, reason="exit code 1")
    url, listed = "/v1/runs:acknowledge", "/v1/runs?unacknowledged=true"
    assert served.operator.post(url, json={"unacknowledged": True}).status_code == 409  # that says not which
    shown = served.operator.post(url, json={"job": "a", "limit": 2, "dry_run": True}).json()
    assert [(line["id"], line["result"]) for line in shown["items"]] == [(ids[2], "chosen"), (ids[1], "chosen")]
    assert len(served.viewer.get(listed).json()["items"]) == 3
    done = served.operator.post(url, json={"runs": ids[1:]}).json()["items"]
    assert [line["result"] for line in done] == ["done", "done"]
    assert [run["id"] for run in served.viewer.get(listed).json()["items"]] == ids[:1]
    again = served.operator.post(url, json={"runs": ids[1:]}).json()["items"]
    assert {line["reason"] for line in again} == {"it was acknowledged: operator"}
    rest = served.operator.post(url, json={"text": "exit code"}).json()["items"]
    assert [(line["id"], line["result"]) for line in rest] == [(ids[0], "done")]
    assert served.viewer.get(listed).json()["items"] == []
    assert served.operator.post(url, json={"filter": {"job": "a", "state": ["succeeded"]}}).status_code == 409
