"""Requests that could be understood in two ways, or that could mean more than their sender wants."""

import gzip
from typing import Any

import pytest

from jobfac.api.serving.guard import own_cookies
from jobfac.scheduler.notifier import address_some
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served


@pytest.mark.parametrize("name", ["Idempotency-Key", "Authorization", "If-Match"])
def test_a_header_that_counts_comes_once(served: Served, name: str) -> None:
    served.define("a")
    own = [("Authorization", served.operator.headers["Authorization"])] if name != "Authorization" else []
    answer = served.operator.post("/v1/jobs/a/runs", json={}, headers=[*own, (name, "one"), (name, "two")])
    assert (answer.status_code, answer.json()["detail"]) == (400, f"Send the header {name} once.")
    assert served.operator.get("/v1/runs").json()["items"] == []


@pytest.mark.parametrize("body", ['{"priority": 1, "priority": 2}', '{"parameters": {"n": 1, "n": 2}}'])
def test_a_name_in_a_body_has_one_value(served: Served, body: str) -> None:
    served.define("a", parameters={"n": {"type": "integer", "default": 0}})
    headers = {"Content-Type": "application/json"}
    answer = served.operator.post("/v1/jobs/a/runs", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The body has two values for '")
    assert served.operator.get("/v1/runs").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/notifications:requeue", {"ids": None}, "ids"),
        ("/v1/keys", {"role": "viewer", "categories": None}, "categories"),
        ("/v1/keys", {"role": "viewer", "lifetime": None}, "lifetime"),
        ("/v1/jobs/a/backfill", {"from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z", "schedule": None},
         "schedule"),
        ("/v1/runs:stop", {"job": None, "since": "2027-01-01T00:00:00Z"}, "job"),
    ],
)  # fmt: skip
def test_a_variable_without_a_value_does_not_mean_all(
    served: Served, path: str, body: dict[str, Any], field: str
) -> None:
    served.define("a")
    answer = served.admin.post(path, json=body)
    assert answer.status_code == 422
    assert f"{field} is null" in answer.text


def test_a_key_that_ends_at_once_is_not_one_that_never_ends(served: Served) -> None:
    for lifetime in (0, "0s"):
        answer = served.admin.post("/v1/keys", json={"role": "viewer", "lifetime": lifetime})
        assert (answer.status_code, "lifetime: must be longer than 0" in answer.text) == (422, True), answer.text


WRONG: list[list[object]] = [[]] * 20_000


@pytest.mark.parametrize(
    "body",
    [
        {"parameters": {"n": WRONG}},
        {"parameters": {"n": [{}] * 20_000}},
        {"arguments": WRONG},
        {"arguments": {"a": WRONG}},
        {"notify": [{"on": WRONG, "to": {"email": "me@example.org"}}]},
        {"notify": [{"on": "failed", "to": {"email": WRONG}}]},
        {"parameters": {f"n{number}": {} for number in range(20_000)}},
        {f"n{number}": 1 for number in range(20_000)},
    ],
)
def test_a_body_with_very_many_mistakes_is_refused_with_a_few_of_them(served: Served, body: dict[str, Any]) -> None:
    """The description of each takes a thousand bytes: a body of 1.2 MB made 3 GB of them, which took 24 s."""
    served.define("a")
    answer = served.operator.post("/v1/jobs/a/runs", json=body)
    assert answer.status_code in (413, 422)
    assert len(answer.content) < 100_000


def test_of_the_categories_of_a_key_only_the_first_mistake_is_described(served: Served) -> None:
    answer = served.admin.post("/v1/keys", json={"role": "viewer", "categories": WRONG})
    assert [one["field"] for one in answer.json()["errors"] if "list" in one["field"]] == [
        "categories.list[constrained-str].0"
    ]


def test_a_list_of_valid_values_may_be_long(served: Served) -> None:
    served.define("a", parameters={"n": {"type": "integer", "many": True}})
    run = served.start("a", parameters={"n": list(range(10_000))}, arguments=["x"] * 20_000)
    assert len(served.viewer.get(f"/v1/runs/{run}").json()["arguments"]) == 20_000


def test_notifications_are_shown_as_on_their_page(served: Served) -> None:
    for name in ("north", "south"):
        served.define(name, category=name, notify=[{"on": ["stopped"], "to": {"email": f"{name}@example.org"}}])
        assert served.operator.post(f"/v1/runs/{served.start(name)}/stop").is_success
    served.db.transact(address_some)
    everywhere = served.viewer.get("/v1/notifications").json()["items"]
    assert {one["job"] for one in everywhere} == {"north", "south"}
    limited = served.client(served.key(Role.VIEWER, ["north"]))
    assert {one["job"] for one in limited.get("/v1/notifications").json()["items"]} == {"north"}


def test_a_compressed_body_is_refused_by_its_name(served: Served) -> None:
    """It was no JSON, and a body that only its header called compressed was read."""
    served.define("a")
    for body in (gzip.compress(b"{}"), b"{}"):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = served.operator.post("/v1/jobs/a/runs", content=body, headers=headers)
        assert (answer.status_code, "'gzip'" in answer.json()["detail"]) == (415, True)


def test_cookies_of_others_and_those_with_backslashes_are_not_read(served: Served) -> None:
    """One of 60 KB, without a key, stopped the event loop for 12 s."""
    odd = 'jobfac-1="' + r"\a" * 20_000 + '"'
    cookies = rf'other="\054"; {odd}; jobfac-theme=dark; b=c'
    assert own_cookies(cookies.encode()) == b"jobfac-theme=dark"
    page = served.client(None).get("/login", headers={"Cookie": cookies})
    assert 'data-theme="dark"' in page.text
    assert served.client(None).get("/v1/runs", headers={"Cookie": cookies}).status_code == 401
