"""The table of errors: the exit code and the problem of each."""

import asyncio
import importlib
import json
import pkgutil

import pytest
from starlette.requests import Request
from starlette.responses import Response

import jobfac
from jobfac.api.problems import HANDLERS
from jobfac.cli.common import Failure
from jobfac.definitions import DefinitionError, Problem
from jobfac.errors import Forbidden, JobfacError, Kind, NotFound, Outdated, Refused, Unreachable, WrongSchema
from jobfac.programs import StartError
from jobfac.secret_references import SecretError
from jobfac.settings import SettingsError

TOLD: list[tuple[JobfacError, int, int, str]] = [
    (NotFound("There is none."), 3, 404, "not-found"),
    (Refused("It is disabled."), 4, 409, "conflict"),
    (Forbidden("That is for others."), 4, 403, "forbidden"),
    (Outdated("It is version 3."), 4, 412, "precondition-failed"),
    (DefinitionError([Problem("must be a text", "name")]), 2, 422, "invalid"),
    (Unreachable("It is away."), 5, 503, "unavailable"),
    (WrongSchema("It is too old."), 5, 503, "unavailable"),
]


@pytest.mark.parametrize(("error", "code", "status", "problem"), TOLD, ids=lambda value: type(value).__name__)
def test_an_error_has_one_exit_code_and_one_problem(error: JobfacError, code: int, status: int, problem: str) -> None:
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    request = Request({"type": "http", "path": "/", "method": "GET", "headers": []})

    async def ask() -> Response:
        return await handler(request, error)

    answer = asyncio.run(ask())
    document = json.loads(bytes(answer.body))
    assert (error.exit_code, answer.status_code) == (code, status)
    assert (document["type"], document["status"]) == (f"urn:jobfac:problem:{problem}", status)


def test_errors_of_a_machine_have_exit_codes_but_no_problem_type() -> None:
    assert [kind("It is so.").exit_code for kind in (SettingsError, StartError, SecretError)] == [2, 1, 1]
    assert {kind.kind.status for kind in (SettingsError, StartError, SecretError)} == {500}
    assert Failure(4, "No.").exit_code == 4


def test_a_status_belongs_to_one_kind() -> None:
    assert Kind.of_status(500) is Kind.BUG
    assert Kind.of_status(418) is None
    assert len({kind.problem for kind in Kind}) == len(Kind)


def test_every_error_that_is_a_sentence_is_in_the_table() -> None:
    for module in pkgutil.walk_packages(jobfac.__path__, "jobfac."):
        if ".migrations" in module.name or module.name.endswith("__main__"):
            continue
        for name, found in vars(importlib.import_module(module.name)).items():
            # All other errors are caught by their callers and never shown.
            if isinstance(found, type) and found.__bases__ == (Exception,) and found.__module__ == module.name:
                assert name in (
                    "JobfacError",
                    "TooSlowError",
                    "TooLongError",
                    "Pending",
                    "Faulty",
                    "_Repeated",
                    "_Foreign",
                    "NotJsonError",
                    "_Missing",
                    "LeaseLost",
                    "SilentMount",
                    "UnknownReference",
                    "UnresolvedError",
                    "StepError",
                    "IllegalMove",
                ), name
