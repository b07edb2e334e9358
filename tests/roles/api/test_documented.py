"""The curl command of every call works as it stands, and errors over HTTP advise calls, not commands of a shell."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobfac
from jobfac import errors
from jobfac.api import TABLE, openapi
from jobfac.api.examples import EXAMPLES, PATH_EXAMPLES
from jobfac.api.openapi import SERVER
from jobfac.store import workers
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served

STREAM = {"seconds=60": "seconds=0", "wait=30": "wait=0"}
"""Nothing happens here for which a stream or a wait would be worth its time."""

NOT_THERE = {"get_version", "rollback", "release", "approve", "call_job", "revoke_url", "revoke_urls"}
"""Calls whose version, hold, step or URL does not exist here: 404."""

PACKAGE = Path(jobfac.__file__).parent

SERVED = ("errors.py", "api", "operations", "store", "reports", "definitions", "recurrence", "views", "channels")
"""What a request passes through."""

ON_THE_SERVER = {
    "`jobfac db upgrade`",  # the API does not start on such a database, and hides the sentence if it changes later
    "`jobfac db script`",
    "`jobfac worker`",  # a worker is started on its machine
    "`jobfac keys create`",  # the first key cannot be made over HTTP
    "`jobfac report`",  # a docstring of a table
    "`jobfac jobs url`",  # the description of a key of definitions
    "--behind-proxy",  # an API that does not start
}
"""Commands that have to be typed on the server, and docstrings that the API shows."""


def samples() -> dict[str, str]:
    """The curl command of each operation; those that remove something come last."""
    found = {
        operation["operationId"]: operation["x-codeSamples"][0]["source"]
        for methods in openapi.document(TABLE)["paths"].values()
        for operation in methods.values()
    }
    return dict(sorted(found.items(), key=lambda one: "-X DELETE" in one[1]))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the samples are commands of curl")
def test_the_curl_command_of_every_call_works(served: Served, tmp_path: Path) -> None:
    job = PATH_EXAMPLES["job"]
    served.define(job, **EXAMPLES["put_job"])
    served.define("elsewhere", pool="etl")
    who = workers.Registration("w1", "localhost", 1, "token", "0.1.0", 4, ["default"], {})
    for _ in range(PATH_EXAMPLES["worker"]):
        served.db.transact(workers.register, who, 600)
    served.define("nightly", schedules=[{"cron": f"{minute} 6 * * *"} for minute in range(PATH_EXAMPLES["schedule"])])
    for _ in range(PATH_EXAMPLES["run"]):
        served.start(job)
    key = served.key(Role.ADMIN)
    script = [f"KEY={key}"]
    for name, text in samples().items():
        for before, after in STREAM.items():
            text = text.replace(before, after)
        script.append(f"echo {name}; {text} -w '\\n%{{http_code}}\\n'; echo ===")
    words = ["bash", "-c", "\n".join(script).replace(SERVER, served.url)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    answers = [answer.strip().split("\n") for answer in done.stdout.split("===\n")[:-1]]
    statuses = {answer[0]: int(answer[-1]) for answer in answers}
    assert list(statuses) == list(samples())
    wrong = {
        name: status
        for name, status in statuses.items()
        if not (status < 300 or status == 409 or (status == 404 and name in NOT_THERE))
    }
    assert wrong == {}, [answer for answer in answers if answer[0] in wrong]


def test_no_sample_needs_more_than_a_key() -> None:
    for name, text in samples().items():
        assert set(re.findall(r"\$\w+", text)) <= {"$KEY"}, name
        words = shlex.split(text.replace("\\\n", ""))
        assert words[:2] == ["curl", "-sS"], name
        if "-d" in words:
            json.loads(words[words.index("-d") + 1])


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of the modules that serve a request, with its place. Texts of ``Way`` are left out."""
    for path in (path for name in SERVED for path in PACKAGE.rglob("*.py") if name in path.relative_to(PACKAGE).parts):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ways = {
            id(text)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "Way"
            for text in ast.walk(call)
        }
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ways | documented:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value


def test_errors_advise_calls_over_http() -> None:
    advised = {
        command: where
        for where, text in sentences()
        for command in re.findall(r"`jobfac [^`]*`?|(?<!\w)--[a-z]+-[a-z-]+", text)
    }
    assert {command: where for command, where in advised.items() if command not in ON_THE_SERVER} == {}
    assert set(ON_THE_SERVER) <= set(advised), "nothing says these any more"


def test_every_remedy_over_http_is_a_call_of_the_api() -> None:
    ways = [value for value in vars(errors).values() if isinstance(value, errors.Way)]
    calls = {f"{endpoint.method} {endpoint.path}" for endpoint in TABLE}
    assert len(ways) > 5
    for way in ways:
        assert way is errors.FROM_FAILED or way.http.strip("`") in calls, way


def test_an_error_advises_in_the_words_of_its_edge(served: Served) -> None:
    problem = served.viewer.get("/v1/runs/99").json()
    assert problem["detail"] == "There is no run 99; `GET /v1/runs` shows what there is."
    assert problem["advice"] == {"http": "`GET /v1/runs`", "command": "`jobfac runs list`"}
    served.define("off", enabled=False)
    refused = served.operator.post("/v1/jobs/off/runs", json={}).json()
    assert refused["detail"] == "Job 'off' is disabled; `POST /v1/jobs/off/enable` allows it again."
    assert str(errors.no_run(99)) == "There is no run 99; `jobfac runs list` shows what there is."
    assert errors.no_run(99).fact == "There is no run 99."
