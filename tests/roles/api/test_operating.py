"""Holds, notes, acknowledgement and versions over HTTP, on every engine."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from jobfac.database.tables import audit, expectation
from jobfac.store import overview
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served
from tests.support.factory import wait_for


def test_a_hold_is_placed_listed_and_released(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a", category="etl")
    served.define("b", pool="big")
    placed = served.operator.post("/v1/holds", json={"job": "a", "reason": "why", "until": "2999-01-01T00:00:00Z"})
    assert placed.status_code == 201
    hold = placed.json()
    assert (hold["job"], hold["until"], hold["created_by"]) == ("a", "2999-01-01T00:00:00.000+00:00", "operator")
    run = served.start("a")
    assert served.viewer.get(f"/v1/runs/{run}").json()["held"] == f"hold {hold['id']} of job a: why"
    (listed,) = served.viewer.get("/v1/runs").json()["items"]
    assert listed["held"] == f"hold {hold['id']} of job a: why"
    assert served.viewer.get("/v1/holds").json()["items"] == [hold]
    assert served.viewer.get("/v1/overview").json()["holds"] == [hold]
    released = served.operator.delete(f"/v1/holds/{hold['id']}").json()
    assert released["released_by"] == "operator"
    assert served.operator.delete(f"/v1/holds/{hold['id']}").json() == released
    assert "held" not in served.viewer.get(f"/v1/runs/{run}").json()
    assert served.viewer.get("/v1/holds").json()["items"] == []
    assert served.viewer.get("/v1/holds?all=true").json()["items"] == [released]
    for body, status in (
        ({"reason": "r", "job": "zz"}, 404),
        ({"reason": "r", "pool": "big", "job": "a"}, 409),
        ({"job": "a"}, 422),
        ({"reason": " "}, 409),
        ({"reason": "r", "until": "2020-01-01T00:00:00Z"}, 409),
    ):
        assert served.operator.post("/v1/holds", json=body).status_code == status, body
    for scope in ("pool", "category", "job"):  # a variable without a value must not hold everything
        answer = served.operator.post("/v1/holds", json={scope: None, "reason": "r"})
        assert (answer.status_code, "leave out all three" in answer.text) == (422, True)
    for until in ("90m", "1h30m"):
        brief = served.operator.post("/v1/holds", json={"reason": "r", "until": until}).json()
        lasts = datetime.fromisoformat(brief["until"]) - datetime.fromisoformat(brief["created_at"])
        assert abs(lasts - timedelta(minutes=90)) < timedelta(minutes=1)
    for wrong in (7200, "soon", "0s", "1000000d"):
        assert served.operator.post("/v1/holds", json={"reason": "r", "until": wrong}).status_code in (409, 422)
    assert served.operator.delete("/v1/holds/99").status_code == 404
    limited = served.client(served.key(Role.OPERATOR, ["etl"]))
    assert limited.post("/v1/holds", json={"reason": "r"}).status_code == 403
    assert limited.post("/v1/holds", json={"reason": "r", "category": "etl"}).status_code == 201


def test_every_overdue_job_is_counted(served_everywhere: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served = served_everywhere
    monkeypatch.setattr(overview, "DUE", 2)
    overview._queries.cache_clear()
    for job in "abc":
        served.define(job, category="etl", expect={"every": "1s"})
    served.define("other", category="crm", expect={"every": "1s"})
    with served.db.begin() as conn:
        conn.execute(expectation.update().values(overdue_at=expectation.c.due_at, overdue_due_at=expectation.c.due_at))
    limited = served.client(served.key(Role.VIEWER, ["etl"]))
    shown = [client.get("/v1/overview").json() for client in (served.viewer, limited)]
    page = served.viewer.get("/", headers={"Accept": "text/html"}).text
    overview._queries.cache_clear()
    assert [(len(one["overdue"]), one["more_overdue"]) for one in shown] == [(2, 2), (2, 1)]
    assert "<b>4</b><span>late or overdue</span>" in page
    assert "And 2 more overdue jobs." in page


def test_holds_and_notes_are_read_page_by_page(served_everywhere: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served = served_everywhere
    monkeypatch.setattr(overview, "HOLDS", 2)
    served.define("a", category="etl")
    run = served.start("a")
    for word in ("one", "two", "three"):
        served.operator.post("/v1/holds", json={"job": "a", "reason": word}).raise_for_status()
        served.operator.post(f"/v1/runs/{run}/notes", json={"text": word}).raise_for_status()
    shown = served.viewer.get("/v1/overview").json()
    assert ([one["reason"] for one in shown["holds"]], shown["more_holds"]) == (["one", "two"], 1)
    seen = {
        ("/v1/holds", "reason"): ["one", "two", "three"],
        ("/v1/holds?all=true", "reason"): ["three", "two", "one"],
        (f"/v1/runs/{run}/notes", "text"): ["one", "two", "three"],
    }
    for (path, field), words in seen.items():
        everything = served.viewer.get(path).json()
        assert [one[field] for one in everything["items"]] == words
        assert everything["next_cursor"] is None
        glue = "&" if "?" in path else "?"
        first = served.viewer.get(f"{path}{glue}limit=2").json()
        second = served.viewer.get(f"{path}{glue}limit=2&cursor={first['next_cursor']}").json()
        assert [[one[field] for one in page["items"]] for page in (first, second)] == [words[:2], words[2:]]
        assert second["next_cursor"] is None
        assert served.viewer.get(f"{path}{glue}limit=501").status_code == 422
    limited = served.client(served.key(Role.VIEWER, ["other"]))
    assert limited.get("/v1/holds?limit=1").json()["items"] == []


def test_a_failure_is_noted_and_acknowledged(served: Served) -> None:
    served.define("bad", command=["false"])
    run = served.start("bad")
    assert served.operator.post(f"/v1/runs/{run}/acknowledge").status_code == 409
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json()["state"] == "failed", "it fails")
    assert [one["id"] for one in served.viewer.get("/v1/overview").json()["failures"]] == [run]
    written = served.operator.post(f"/v1/runs/{run}/notes", json={"text": "disk full"})
    assert (written.status_code, written.json()["by"]) == (201, "operator")
    assert served.viewer.get(f"/v1/runs/{run}/notes").json()["items"] == [written.json()]
    assert served.viewer.get(f"/v1/runs/{run}").json()["acknowledged_at"] is None
    acked = served.operator.post(f"/v1/runs/{run}/acknowledge").json()
    assert acked["acknowledged_by"] == "operator"
    assert served.operator.post(f"/v1/runs/{run}/acknowledge").json() == acked
    assert served.viewer.get("/v1/overview").json()["failures"] == []
    assert served.operator.post(f"/v1/runs/{run}/notes", json={"text": ""}).status_code == 422
    assert served.operator.post("/v1/runs/99/notes", json={"text": "x"}).status_code == 404
    with served.db.read() as conn:
        noted = conn.execute(sa.select(audit.c.action).where(audit.c.subject == f"run {run}")).scalars().all()
    assert noted == ["start", "note", "acknowledge"]


def test_versions_are_listed_and_rolled_back(served_everywhere: Served) -> None:
    served = served_everywhere
    served.define("a")
    run = served.start("a")
    served.define("a", priority=7)
    listed = served.viewer.get("/v1/jobs/a/versions").json()["items"]
    assert [(one["version"], one["current"], one["definition"]) for one in listed] == [
        (2, True, {"priority": 7, "command": ["true"]}),
        (1, False, {"command": ["true"]}),
    ]
    changes = served.viewer.get(f"/v1/runs/{run}/changes").json()["items"]
    assert changes == [{"path": "priority", "before": None, "after": 7}]
    back = served.admin.post("/v1/jobs/a/rollback", json={"version": 1})
    assert (back.json()["version"], back.headers["etag"]) == (3, '"3"')
    assert served.admin.post("/v1/jobs/a/rollback", json={"version": 1}).json()["version"] == 3
    assert served.viewer.get(f"/v1/runs/{run}/changes").json()["items"] == []
    assert served.admin.post("/v1/jobs/a/rollback", json={"version": 9}).status_code == 404
    assert served.viewer.get("/v1/jobs/zz/versions").status_code == 404
    first = served.viewer.get("/v1/jobs/a/versions/1").json()
    assert (first["version"], first["current"], "priority" in first["definition"]) == (1, False, False)
    missing = served.viewer.get("/v1/jobs/a/versions/9")
    assert (missing.status_code, missing.json()["detail"][:24]) == (404, "Job 'a' has no version 9")
    assert served.viewer.get("/v1/jobs/zz/versions/1").status_code == 404
