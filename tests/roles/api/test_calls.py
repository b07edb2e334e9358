"""Start URLs on a real port: made with a key, called without one."""

import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from tests.support.api_stage import Served

KEY = "a key of the hook"


def signed(body: bytes) -> dict[str, str]:
    mac = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={mac}", "X-GitHub-Event": "push", "Content-Type": "application/json"}


def test_a_hook_starts_a_job(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)
    call = {
        "signature": {"github": {"secret": "env:HOOK_KEY"}},
        "events": ["push"],
        "parameters": {"branch": "${body.ref}", "n": "${body.n}"},
        "payload": "${body}",
    }
    parameters = {"branch": {"required": True}, "n": {"type": "integer", "default": 1}}
    served.define("deploy", parameters=parameters, call=call)
    assert served.operator.post("/v1/jobs/deploy/urls").status_code == 403
    made = served.admin.post("/v1/jobs/deploy/urls", json={"name": "github"})
    assert (made.status_code, made.json()["name"]) == (201, "github")
    url = made.json()["url"]
    assert url.startswith(f"{served.url}/v1/call/ju_")
    outside = served.client(None)
    body = json.dumps({"ref": "main", "n": 5}).encode()

    answer = outside.post(url, content=body, headers={**signed(body), "X-GitHub-Delivery": "d-1"})
    assert (answer.status_code, answer.json()["state"], answer.json()["job"]) == (202, "queued", "deploy")
    run = served.viewer.get(f"/v1/runs/{answer.json()['id']}").json()
    assert (run["parameters"], run["payload"]) == ({"branch": "main", "n": 5}, body.decode())
    assert run["created_by"] == f"url {made.json()['id']} (github)"
    again = outside.post(url, content=body, headers={**signed(body), "X-GitHub-Delivery": "d-1"})
    assert (again.status_code, again.json()["id"]) == (202, run["id"])
    replayed = outside.post(url, content=body, headers={**signed(body), "X-GitHub-Delivery": "d-2"})
    assert (replayed.status_code, replayed.json()["id"]) == (202, run["id"])

    assert outside.post(url, content=body).status_code == 401
    assert outside.post(url, content=body + b" ", headers=signed(body)).status_code == 401
    ping = outside.post(url, content=body, headers={**signed(body), "X-GitHub-Event": "ping"})
    assert (ping.status_code, ping.json()["id"], "'ping'" in ping.json()["reason"]) == (200, None, True)
    refused = ((b"no json", 400, "must be JSON"), (b"{}", 422, "branch"), (b"x" * 2**21, 413, "at most"))
    for wrong, status, words in refused:
        answer = outside.post(url, content=wrong, headers=signed(wrong))
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
    assert outside.get(url).status_code == 405

    served.admin.post("/v1/jobs/deploy/disable")
    new = json.dumps({"ref": "main", "n": 6}).encode()
    assert outside.post(url, content=new, headers=signed(new)).status_code == 409
    served.admin.post("/v1/jobs/deploy/enable")
    monkeypatch.delenv("HOOK_KEY")
    unreadable = outside.post(url, content=body, headers=signed(body))
    assert (unreadable.status_code, "HOOK_KEY" in unreadable.text) == (503, False)
    listed = served.admin.get("/v1/jobs/deploy/urls").json()["items"]
    assert ([one["name"] for one in listed], url.rpartition("/")[2] in str(listed)) == (["github"], False)
    assert served.admin.delete(f"/v1/jobs/deploy/urls/{made.json()['id']}").status_code == 204
    gone = outside.post(url, content=body, headers=signed(body))
    assert (gone.status_code, url.rpartition("/")[2] in gone.text) == (404, False)


def test_a_signed_request_that_comes_again_may_differ_in_what_is_not_signed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub's id of a delivery stands in a header, and Stripe counts pending deliveries in the body of an event."""
    monkeypatch.setenv("HOOK_KEY", KEY)
    key = {"secret": "env:HOOK_KEY"}
    of_headers = {"delivery": "${header.X-GitHub-Delivery}", "n": "${header.X-N}"}
    parameters = {"delivery": {"default": "none"}, "n": {"type": "integer"}}
    served.define("push", parameters=parameters, call={"signature": {"github": key}, "parameters": of_headers})
    served.define("paid", call={"signature": {"stripe": key}, "payload": "${body}"})
    push, paid = (served.admin.post(f"/v1/jobs/{job}/urls").json()["url"] for job in ("push", "paid"))
    outside = served.client(None)

    def pushed(body: bytes, name: str, **more: str) -> Any:
        return outside.post(push, content=body, headers={**signed(body), "X-GitHub-Delivery": name, **more})

    for name in ("d-1", "d-2"):
        answer = pushed(b"{}", name)
        assert (answer.status_code, answer.json()["id"]) == (202, 1)
    assert [pushed(b"[]", f"d-{n}", **{"X-N": "x"}).status_code for n in range(21)] == [422] * 20 + [429]
    assert pushed(b"{} ", "d-3").status_code == 202, "another body"

    for pending in (1, 0):
        body = json.dumps({"id": "evt_1", "pending_webhooks": pending}).encode()
        at = int(time.time())
        mac = hmac.new(KEY.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        answer = outside.post(paid, content=body, headers={"Stripe-Signature": f"t={at},v1={mac}"})
        assert (answer.status_code, answer.json()["id"]) == (202, 3)


def test_a_signature_by_an_empty_key_proves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable that a deployment has not filled: everybody could sign by it."""
    served.define("deploy", call={"signature": {"github": {"secret": "env:HOOK_KEY"}}})
    url = served.admin.post("/v1/jobs/deploy/urls").json()["url"]
    for key in ("", "\n"):
        monkeypatch.setenv("HOOK_KEY", key)
        digest = hmac.new(key.encode(), b"{}", hashlib.sha256).hexdigest()
        answer = served.client(None).post(url, content=b"{}", headers={"X-Hub-Signature-256": f"sha256={digest}"})
        assert answer.status_code == 503
    assert caplog.text.count("a signature cannot be checked") == 1, "whoever has the URL cannot fill the log"
    assert served.viewer.get("/v1/runs").json()["items"] == []


def test_a_url_without_a_signature_is_limited(served: Served) -> None:
    served.define("plain", call={"most_per_minute": 2}, already_running="deny")
    url = served.admin.post("/v1/jobs/plain/urls").json()["url"]
    outside = served.client(None)
    assert outside.post(url, headers={"Idempotency-Key": "a"}).status_code == 202
    denied = outside.post(url)
    assert (denied.status_code, "was denied" in denied.json()["detail"]) == (409, True)
    with served.db.begin():  # the limit costs no transaction that writes
        many = outside.post(url, headers={"Idempotency-Key": "new"})
    assert (many.status_code, 1 <= int(many.headers["Retry-After"]) <= 61) == (429, True)
    assert outside.post(url, headers={"Idempotency-Key": "a"}).status_code == 202
    assert served.admin.delete("/v1/jobs/plain/urls").json() == {"revoked": [1]}
    assert outside.post(url).status_code == 404


def test_a_repeated_delivery_without_a_signature_starts_nothing(served: Served) -> None:
    served.define("plain")
    url = served.admin.post("/v1/jobs/plain/urls").json()["url"]
    answers = [served.client(None).post(url, headers={"X-GitHub-Delivery": name}).json()["id"] for name in "aab"]
    assert answers == [1, 1, 2]


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\u0000b"', "[" * 5000 + "]" * 5000])
def test_a_text_that_no_payload_may_have_is_refused(served: Served, text: str) -> None:
    served.define("any", call={"payload": "${body.x}"})
    url = served.admin.post("/v1/jobs/any/urls").json()["url"]
    assert served.client(None).post(url, content=f'{{"x": {text}}}').status_code == 400


def test_who_sends_many_bodies_that_the_job_cannot_take_waits(served: Served) -> None:
    served.define("strict", parameters={"n": {"type": "integer"}}, call={"parameters": {"n": "${body.n}"}})
    url = served.admin.post("/v1/jobs/strict/urls").json()["url"]
    outside = served.client(None)
    answers = [outside.post(url, json={"n": "x"}).status_code for _ in range(21)]
    assert answers == [422] * 20 + [429]
