"""A start's key identifies one start: a different start with the same key is refused."""

from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.definitions import DefinitionError
from tests.support.api_stage import Served
from tests.support.database import define, start

FIRST: dict[str, Any] = {"arguments": ["--day", "1"], "payload": "p", "priority": 5, "delay": 3600.0}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arguments": ["--day", "2"]}, "arguments"),
        ({"arguments": None}, "arguments"),
        ({"payload": "q"}, "payload"),
        ({"priority": 6}, "priority"),
        ({"delay": 60.0}, "time"),
        ({"delay": None}, "time"),
        ({"overrides": {"notify": []}}, "overrides"),
        ({"payload": None, "priority": 6}, "payload, priority"),
    ],
)
def test_a_key_that_is_used_for_another_start_is_refused(db: Database, change: dict[str, Any], named: str) -> None:
    define(db, job={})
    run = start(db, "job", key="k", **FIRST)
    assert start(db, "job", key="k", **FIRST) == run
    with pytest.raises(DefinitionError, match=f"the key 'k' was used for run {run}, which differs in {named}; give"):
        start(db, "job", key="k", **{**FIRST, **change})


def test_a_parameter_that_does_not_fit_is_another_start(db: Database) -> None:
    define(db, job={"parameters": {"n": {"type": "integer"}}})
    start(db, "job", key="k", parameters={"n": 1})
    with pytest.raises(DefinitionError, match="which differs in parameters"):
        start(db, "job", key="k", parameters={"n": "x"})


def test_over_http_a_reused_key_is_an_invalid_request(served: Served) -> None:
    served.define("a")
    headers = {"Idempotency-Key": "k"}
    first = served.operator.post("/v1/jobs/a/runs", json={"arguments": ["x"]}, headers=headers)
    again = served.operator.post("/v1/jobs/a/runs", json={"arguments": ["x"]}, headers=headers)
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 201, first.json()["id"])
    other = served.operator.post("/v1/jobs/a/runs", json={"arguments": ["y"]}, headers=headers)
    assert other.status_code == 422
    assert other.headers["content-type"] == "application/problem+json"
    assert f"was used for run {first.json()['id']}" in other.json()["detail"]
    served.define("b")
    assert served.operator.post("/v1/jobs/b/runs", json={"arguments": ["y"]}, headers=headers).status_code == 201


def test_an_invalid_definition_is_reported_before_a_failed_precondition(served: Served) -> None:
    served.define("a")
    headers = {"If-None-Match": "*"}
    assert served.admin.put("/v1/jobs/a", json={"nonsense": 1}, headers=headers).status_code == 422
    assert served.admin.put("/v1/jobs/a", json={"command": ["true"]}, headers=headers).status_code == 412


def test_a_denied_start_says_that_its_key_is_used(served: Served) -> None:
    """Otherwise who repeats it until it succeeds never starts the job."""
    served.define("pay", already_running="deny")
    served.start("pay")
    for headers, says in (({"Idempotency-Key": "november"}, True), ({}, False)):
        answer = served.operator.post("/v1/jobs/pay/runs", json={}, headers=headers)
        assert answer.status_code == 409
        assert ("its key starts no other run" in answer.json()["detail"]) == says
