"""Errors of a request that are no fault of the program."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from jobfac.api.problems import HANDLERS
from jobfac.errors import IN_DOUBT, InDoubt


@pytest.mark.parametrize(("text", "status"), [("can't start new thread", 503), ("dictionary changed size", 500)])
def test_a_refused_thread_is_no_bug(text: str, status: int) -> None:
    async def fail(request: Request) -> Response:
        raise RuntimeError(text)

    app = Starlette(routes=[Route("/", fail)], exception_handlers=HANDLERS)
    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == status
    assert ("a bug" in answer.json()["detail"]) is (status == 500)
    assert ("Retry-After" in answer.headers) is (status == 503)


def test_who_may_have_changed_something_is_not_told_to_try_again() -> None:
    async def fail(request: Request) -> Response:
        raise InDoubt("The database on db.example.org cannot be reached.")

    answer = TestClient(Starlette(routes=[Route("/", fail)], exception_handlers=HANDLERS)).get("/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)
    assert answer.json()["detail"] == f"The database cannot be reached right now. {IN_DOUBT}"
