"""Whose share of the API's threads a request takes before its key is checked."""

from typing import Any, cast

from starlette.requests import Request

from jobfac.api.auth import Authenticator


def identity(**headers: str) -> str:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Authenticator(cast(Any, None), None).identity(Request({"type": "http", "headers": sent}))


def test_requests_with_one_key_or_session_share_and_those_without_do_not() -> None:
    assert identity(authorization="Bearer a") == identity(authorization="Bearer a", accept="text/html")
    assert len({identity(authorization="Bearer a"), identity(cookie="a"), identity(), identity()}) == 4
