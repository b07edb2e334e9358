"""The recipients of a start are limited, and an address is that of one recipient."""

from dataclasses import replace

import pytest

from jobfac.database.engine import Database
from jobfac.definitions import DefinitionError, from_canonical, from_data
from jobfac.errors import Refused
from jobfac.store import runs
from jobfac.store.runs import StartRequest
from tests.support.api_stage import Served
from tests.support.database import define


def test_the_recipients_of_a_start_are_limited(db: Database) -> None:
    define(db, job={})
    many = [f"a{number}@example.org" for number in range(21)]
    notify = [{"on": ["failed"], "to": {"email": many[:10]}}, {"on": ["failed"], "to": {"email": many[10:]}}]
    with pytest.raises(Refused, match="A start may notify 20 recipients, not 21"):
        db.transact(runs.start, StartRequest("job", "tester", overrides={"notify": notify}))
    notify[1]["to"] = {"email": many[11:]}
    db.transact(runs.start, StartRequest("job", "tester", overrides={"notify": notify}))


@pytest.mark.parametrize(
    "address",
    [
        "u0,u1,u2@x.org", "a;b@x.org", "all:b@x.org", "a<b>@x.org", "(a)b@x.org", '"a,b"@x.org', "a\\,b@x.org",
        "a[b]@x.org", "=?utf-8?q?u0=2Cu1?=@x.org", "a@x.org,b", "a@x.org;b", "a@[x,y]",
    ],
)  # fmt: skip
def test_an_address_is_one_recipient(address: str) -> None:
    entry = {"on": ["failed"], "to": {"email": ["ops@example.org", address]}}
    for data in (
        {"jobs": {"job": {"command": ["true"], "notify": [entry]}}},
        {"defaults": {"night": {"notify": [entry]}}},
    ):
        with pytest.raises(DefinitionError, match=r"notify\[0\]\.to\.email has '.*', which is not one plain address"):
            from_data(data)


def test_an_address_of_a_start_is_one_recipient(db: Database) -> None:
    define(db, job={})
    notify = [{"on": ["failed"], "to": {"email": ["u0,u1,u2@x.org"]}}]
    assert from_canonical("job", {"command": ["true"], "notify": notify}), "an earlier version may have stored it"
    request = StartRequest("job", "tester", overrides={"notify": notify})
    with pytest.raises(
        DefinitionError, match=r"cannot notify a recipient whose email has '.*', which is not one plain address"
    ):
        db.transact(runs.start, request)
    with pytest.raises(Refused, match="A start may notify 20 recipients, not 21"):
        db.transact(runs.start, replace(request, overrides={"notify": notify * 7}, retry_of=1))


def test_usual_addresses_are_taken() -> None:
    for right in (
        "o'neil+x@mail.example.org",
        "ops@[10.0.0.5]",
        "ops@[IPv6:::1]",
        "über@exämple.org",
        "root@localhost",
    ):
        from_data({"jobs": {"job": {"command": ["true"], "notify": [{"on": "failed", "to": {"email": right}}]}}})


def test_the_recipients_of_a_start_over_http_are_limited(served: Served) -> None:
    served.define("a")
    entry = {"on": ["failed"], "to": {"webhook": "http://hook.example/"}}
    assert served.operator.post("/v1/jobs/a/runs", json={"notify": [entry] * 21}).status_code == 422
    many = {"on": ["failed"], "to": {"email": [f"a{number}@example.org" for number in range(20_000)]}}
    assert served.operator.post("/v1/jobs/a/runs", json={"notify": [many]}).status_code == 422
