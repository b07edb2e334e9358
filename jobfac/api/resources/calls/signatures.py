"""Signatures of requests, in the forms in which GitHub and Stripe send them, and the ids of their deliveries."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Literal

from jobfac.definitions.triggers.call import Signature
from jobfac.store.triggers import start_urls
from jobfac.store.triggers.start_urls import Delivery

GITHUB, STRIPE = "x-hub-signature-256", "stripe-signature"

Form = Literal["github", "stripe"]


def problem(form: Form, key: str, body: bytes, headers: Mapping[str, str], now: float, tolerance: float) -> str | None:
    """Return what is wrong with the signature of a request; None: the owner of the key has sent it.

    Args:
        headers: with names in lower case.
        now: seconds since 1970.
        tolerance: seconds by which the time of a Stripe signature may differ from ``now``.
    """
    if form == "github":
        return _github(key, body, headers.get(GITHUB))
    return _stripe(key, body, headers.get(STRIPE), now, tolerance)


def _github(key: str, body: bytes, header: str | None) -> str | None:
    if header is None:
        return "it has no X-Hub-Signature-256"
    return None if _is_equal(header, f"sha256={_mac(key, body)}") else "X-Hub-Signature-256 does not fit the body"


def _stripe(key: str, body: bytes, header: str | None, now: float, tolerance: float) -> str | None:
    if header is None:
        return "it has no Stripe-Signature"
    parts = [part.strip().partition("=") for part in header.split(",")]
    stamp = next((value for name, _, value in parts if name == "t"), "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        return "Stripe-Signature has no time"
    # A request may have several signatures while keys are exchanged: one must fit.
    right = _mac(key, f"{stamp}.".encode() + body)
    if not any(_is_equal(value, right) for name, _, value in parts if name == "v1"):
        return "Stripe-Signature does not fit the body"
    if abs(now - int(stamp)) > tolerance:
        return f"the time of Stripe-Signature differs by more than {tolerance:g} s"
    return None


def _mac(key: str, body: bytes) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogatepass"), other.encode())


def delivery(signature: Signature | None, body: bytes, headers: Mapping[str, str]) -> Delivery:
    """Return how a repeated request is recognised.

    The id of a Stripe event is part of the signed body. The header with GitHub's id is not signed, so whoever has
    captured a request could send it again with another id: such a delivery is recognised by its body, too. Every
    request may have an ``Idempotency-Key``. Without a signature, anybody who has the URL may start the job, so both
    headers count.
    """
    form = None if signature is None else signature.form
    if form == "stripe" and (event := _field(body, "id")):
        return Delivery(f"{start_urls.STRIPE}{event}")
    found, key = headers.get("x-github-delivery"), headers.get("idempotency-key")
    is_github = form == "github" or (form is None and not key)
    name = f"github {found}" if is_github and found else f"key {key}" if key else None
    if signature is None:
        return Delivery(name)
    # A signature with a time is refused as soon as its time differs by more than the tolerance, in either direction.
    window = signature.seconds * (2 if form == "stripe" else 1)
    return Delivery(name, hashlib.sha256(body).hexdigest(), window)


def event(form: Form, body: bytes, headers: Mapping[str, str]) -> str:
    """Return the name of a signed request's event, empty if it has none."""
    return headers.get("x-github-event", "") if form == "github" else _field(body, "type")


def _field(body: bytes, name: str) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""
