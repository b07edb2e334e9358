"""Whose share of the API's threads a request takes before its key is checked."""

from types import SimpleNamespace
from typing import Any, cast

from starlette.requests import Request

from jobfac.api.auth import Authenticator
from jobfac.api.single_sign_on import PEER, SECRET


def identity(peer: str = "10.0.0.1", **headers: str) -> str:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    app = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(public_url="")))
    proxy = cast(Any, SimpleNamespace(header="x-user"))
    request = Request({"type": "http", "headers": sent, "app": app, PEER: (peer, 1)})
    return Authenticator(cast(Any, None), proxy).identity(request)


def test_requests_with_one_key_or_session_share_and_those_without_do_not() -> None:
    assert identity(authorization="Bearer a") == identity(authorization="bearer   a", accept="text/html")
    assert identity(cookie="jobfac-443=a") == identity(cookie="jobfac-theme=dark; jobfac-443=a")
    ways = [{"authorization": "Bearer a"}, {"cookie": "jobfac-443=a"}, {}, {}]
    ways += [{"cookie": "jobfac-theme=dark"}, {"cookie": "jobfac-theme=dark"}]
    assert len({identity(**way) for way in ways}) == len(ways)


def test_nobody_but_the_proxy_shares_with_a_person_whom_it_names() -> None:
    proven = {"x_user": "anna", SECRET.lower().replace("-", "_"): "s"}
    assert identity(**proven) == identity(**proven, cookie="jobfac-theme=dark", authorization="Bearer of the proxy")
    assert len({identity(**proven), identity(x_user="anna"), identity("10.0.0.2", **proven)}) == 3
