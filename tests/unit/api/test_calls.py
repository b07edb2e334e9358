"""Signatures as GitHub and Stripe send them, and what a job takes from a request."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from jobfac.api.resources.calls.signatures import delivery, event, problem
from jobfac.definitions.triggers.call import Call, NotJsonError, Request, Signature, taken
from jobfac.store.triggers.start_urls import Delivery

NOW = 1_800_000_000
LATE = "the time of Stripe-Signature differs by more than 300 s"


def test_the_example_of_githubs_documentation_is_accepted() -> None:
    key, body = "It's a Secret to Everybody", b"Hello, World!"
    right = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    assert problem("github", key, body, right, NOW, 300) is None
    assert problem("github", key, body + b" ", right, NOW, 300) == "X-Hub-Signature-256 does not fit the body"
    assert problem("github", "other", body, right, NOW, 300) == "X-Hub-Signature-256 does not fit the body"
    assert problem("github", key, body, {"x-hub-signature-256": "sha256=\u00e4"}, NOW, 300) is not None
    assert problem("github", key, body, {}, NOW, 300) == "it has no X-Hub-Signature-256"


def stripe(key: str, body: bytes, at: int) -> str:
    return hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (f"t={NOW},v1={stripe('k', b'{}', NOW)}", None),
        (f"t={NOW}, v1={'0' * 64}, v1={stripe('k', b'{}', NOW)}, v0=x", None),
        (f"t={NOW - 299},v1={stripe('k', b'{}', NOW - 299)}", None),
        (
            f"t={NOW - 301},v1={stripe('k', b'{}', NOW - 301)}",
            LATE,
        ),
        (
            f"t={NOW + 301},v1={stripe('k', b'{}', NOW + 301)}",
            LATE,
        ),
        (f"t={NOW + 1},v1={stripe('k', b'{}', NOW)}", "Stripe-Signature does not fit the body"),
        (f"t={NOW},v0={stripe('k', b'{}', NOW)}", "Stripe-Signature does not fit the body"),
        (f"v1={stripe('k', b'{}', NOW)}", "Stripe-Signature has no time"),
        ("t=\u0663,v1=x", "Stripe-Signature has no time"),
        ("", "Stripe-Signature has no time"),
        (None, "it has no Stripe-Signature"),
    ],
)
def test_a_signature_of_stripe_has_a_time(header: str | None, says: str | None) -> None:
    assert problem("stripe", "k", b"{}", {} if header is None else {"stripe-signature": header}, NOW, 300) == says


def test_a_delivery_is_known_by_what_its_sender_has_signed() -> None:
    headers = {"x-github-delivery": "a-b", "idempotency-key": "k", "x-github-event": "push"}
    secret = {"secret": "env:K"}
    github, stripe = (Signature.model_validate({form: secret}) for form in ("github", "stripe"))
    empty, listed = hashlib.sha256(b"").hexdigest(), hashlib.sha256(b"[]").hexdigest()
    assert delivery(github, b"", headers) == Delivery("github a-b", empty, 3600)
    assert delivery(github, b"", {}) == Delivery(None, empty, 3600)
    longer = Signature.model_validate({"github": secret, "tolerance": "1d"})
    assert delivery(longer, b"", {}) == Delivery(None, empty, 86400)
    assert delivery(stripe, b'{"id": "evt_1"}', headers) == Delivery("stripe evt_1")
    assert delivery(stripe, b"[]", headers) == Delivery("key k", listed, 600)
    assert delivery(None, b'{"id": "evt_1"}', headers) == Delivery("key k")
    assert delivery(None, b'{"id": "evt_1"}', {"x-github-delivery": "a-b"}) == Delivery("github a-b")
    assert delivery(None, b"", {}) == Delivery()
    assert (event("github", b"", headers), event("stripe", b'{"type": "charge"}', {})) == ("push", "charge")


def mapped(body: Any, headers: dict[str, str] | None = None, **call: Any) -> tuple[dict[str, Any], str | None]:
    text = body if isinstance(body, str) else json.dumps(body)
    return taken(Call.model_validate(call), Request(text, headers or {}))


def test_parameters_come_from_the_body_and_the_headers() -> None:
    body = {"ref": "main", "n": 3, "list": [1, {"x": "y"}], "nothing": None, "o": {"a": 1}, "t": "${body.ref}"}
    parameters = {
        "ref": "${body.ref}", "n": "${body.n}", "all": "${body.list}", "deep": "${body.list.1.x}", "o": "${body.o}",
        "text": "n=${body.n} of ${ header.X-From }", "fixed": 7, "both": ["${body.ref}", "x"], "once": "${body.t}",
        "gone": "${body.no}", "null": "${body.nothing}", "beyond": "${body.list.9}", "part": "a ${body.no}",
    }  # fmt: skip
    assert mapped(body, {"x-from": "me"}, parameters=parameters, payload="<${body.ref}>") == (
        {
            "ref": "main", "n": 3, "all": [1, {"x": "y"}], "deep": "y", "o": {"a": 1}, "text": "n=3 of me", "fixed": 7,
            "both": ["main", "x"], "once": "${body.ref}",
        },
        "<main>",
    )  # fmt: skip


def test_a_body_that_is_no_json_may_be_a_payload() -> None:
    assert mapped("a=1&b=2", payload="${body}") == ({}, "a=1&b=2")
    with pytest.raises(NotJsonError):
        mapped("a=1&b=2", parameters={"a": "${body.a}"})
    with pytest.raises(NotJsonError):
        mapped("[" * 100_000, parameters={"a": "${body.a}"})
    assert mapped("", parameters={"a": "${body.a}"}, payload="${body.a}") == ({}, None)
