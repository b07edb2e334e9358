"""Parameters through the command line, the worker and HTTP: what a program sees, and who sees what."""

import json
from typing import Any

from jobfac.store.api_keys import Role
from tests.support.api_stage import Served
from tests.support.factory import Factory

HOSTILE = '\'; echo "$(id)" `id` ${parameters.day} #\\\n-rf'
SHOWN = 'printf "%s|" "$@"; printf "%s|" "$JOBFAC_PARAM_DAY" "$JOBFAC_PARAM_TOKEN"; cat "$JOBFAC_PARAMETERS_FILE"'
LOAD: dict[str, Any] = {
    "parameters": {
        "day": {"type": "date", "default": "${due.date}"},
        "name": {"default": "x"},
        "token": {"sensitive": True},
        "batch": {"type": "integer", "default": "${run.id}"},
    },
    "command": ["sh", "-c", SHOWN, "sh", "a ${parameters.name} b"],
    "arguments": ["${parameters.batch}"],
    "environment": {"DAY": "${parameters.day}"},
}


def test_a_program_gets_its_values_as_they_are(factory: Factory) -> None:
    factory.apply({"load": LOAD})
    factory.worker()
    words = ("--set", "day=2027-01-31", "--set", f"name={HOSTILE}", "--set", "token=tr0ub4dor")
    run_id = factory.start("load", *words)
    run = factory.wait(run_id)
    assert run["state"] == "succeeded", run
    first, second, day, token, document = factory.logs(run_id).split("|")
    assert (first, second, day, token) == (f"a {HOSTILE} b", str(run_id), "2027-01-31", "*" * 9)
    shown = {"day": "2027-01-31", "name": HOSTILE, "token": "*" * 9, "batch": run_id}
    assert json.loads(document) == shown
    assert run["parameters"] == {**shown, "token": "tr0ub4dor"}
    (listed,) = factory.json("runs", "list", "--parameter", "day=2027-01-31")
    assert listed["parameters"] == {**shown, "token": "***"}
    again = int(factory.run("retry", str(run_id), "--set", "name=plain").stdout)
    assert factory.wait(again)["parameters"] == {**shown, "name": "plain", "token": "tr0ub4dor"}
    assert not list((factory.folder / "spool").glob("**/*.parameters"))


def test_a_mistake_is_told_and_nothing_starts(sqlite_factory: Factory) -> None:
    sqlite_factory.apply({"load": LOAD})
    told = sqlite_factory.run("start", "load", "--set", "day=2027-02-30", "--set", "nme=x", code=2).stderr
    assert told.splitlines() == [
        "job 'load': parameters has the unknown name 'nme'; did you mean 'name'?",
        "job 'load': parameters.day must be a date that exists, as YYYY-MM-DD, not '2027-02-30'",
    ]
    assert "--set must be NAME=VALUE" in sqlite_factory.run("start", "load", "--set", "day", code=2).stderr
    file = sqlite_factory.folder / "values.yaml"
    file.write_text("day: 2027-01-31\nname: [a]\n")
    told = sqlite_factory.run("start", "load", "--set-file", str(file), code=2).stderr
    assert "parameters.name must be text, not a list" in told
    assert sqlite_factory.json("runs", "list") == []
    file.write_text("day: 2027-01-31\n")
    run_id = sqlite_factory.start("load", "--set-file", str(file), "--set", "name=y")
    assert sqlite_factory.show(run_id)["parameters"]["name"] == "y"


def test_viewers_do_not_see_sensitive_values(served: Served) -> None:
    served.define("load", **LOAD)
    body = {"parameters": {"token": "geheim", "day": "2027-01-31", "name": None}}
    answer = served.operator.post("/v1/jobs/load/runs", json=body)
    assert answer.status_code == 201, answer.text
    place = answer.headers["location"]
    shown = {"day": "2027-01-31", "name": "x", "token": "***"}
    assert answer.json()["parameters"] == served.viewer.get(place).json()["parameters"] == shown
    assert served.operator.get(place).json()["parameters"] == {**shown, "token": "geheim"}
    assert [one["parameters"] for one in served.operator.get("/v1/runs?parameter=day=2027-01-31").json()["items"]] == [
        shown
    ]
    assert served.viewer.get("/v1/runs?parameter=token=geheim").json()["items"] == []
    assert served.viewer.get("/v1/runs?parameter=token").status_code == 422
    wrong = served.operator.post("/v1/jobs/load/runs", json={"parameters": {"day": 5}})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "parameters.day")
    form = served.client(served.key(Role.VIEWER)).get("/v1/jobs/load").json()["definition"]["parameters"]
    assert form["day"] == {"type": "date", "default": "${due.date}"}
