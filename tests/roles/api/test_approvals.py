"""Approvals and fan-outs through HTTP and the command line."""

from typing import Any

from tests.support.api_stage import Served
from tests.support.factory import Factory, wait_for

RELEASE: dict[str, Any] = {
    "steps": [
        {
            "name": "release",
            "approve": {
                "by": "operator",
                "not_by_starter": True,
                "parameters": {"percent": {"type": "integer", "required": True}, "note": {"default": "none"}},
            },
        }
    ],
}


def test_a_step_is_approved_by_http(served: Served) -> None:
    assert served.admin.put("/v1/jobs/release", json=RELEASE).is_success
    run = served.admin.post("/v1/jobs/release/runs").json()["id"]
    call = f"/v1/runs/{run}/steps/release/approve"
    early = served.operator.post(call)
    assert (early.status_code, "does not wait at the step" in early.json()["detail"]) == (409, True)
    with served.worker():
        path = f"/v1/runs/{run}/path"
        wait_for(lambda: served.viewer.get(path).json()["items"], "the step waits")
        assert served.viewer.post(call).status_code == 403
        mine = served.admin.post(call)
        assert (mine.status_code, "somebody other than its starter" in mine.json()["detail"]) == (403, True)
        assert served.operator.post(f"/v1/runs/{run}/steps/nothing/approve").status_code == 404
        wrong = served.operator.post(call, json={"parameters": {"percent": "x"}})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "parameters.percent")
        right = {"approved": True, "reason": "checked", "parameters": {"percent": 20}, "number": 1}
        assert served.operator.post(call, json=right | {"number": 2}).status_code == 409, "another visit of the step"
        answer = served.operator.post(call, json=right)
        assert (answer.status_code, answer.json()) == (200, {"run": run, "step": "release", "decision": "approved"})
        assert served.operator.post(call, json=right).json()["decision"] == "approved"  # may be repeated
        assert served.operator.post(call, json={"approved": False}).status_code == 409
        assert served.viewer.get(f"/v1/runs/{run}?wait=10").json()["state"] == "succeeded"
    (visit,) = served.viewer.get(path).json()["items"]
    assert (visit["decision"], visit["decided_by"], visit["reason"]) == ("approved", "operator", "checked")
    assert visit["parameters"] == {"percent": 20, "note": "none"}


def test_a_sequence_fans_out_and_waits_by_itself(factory: Factory) -> None:
    load = {"command": ["sh", "-c", 'echo "$1"', "sh", "${parameters.n}"], "parameters": {"n": {"type": "integer"}}}
    steps = [
        {"name": "fan", "jobs": ["load"], "for_each": {"n": [1, 2, 3]}, "at_most": 2},
        {"name": "pause", "wait": {"duration": "100ms"}},
        {"name": "release", "approve": {"parameters": {"percent": {"type": "integer"}}}},
    ]
    factory.apply({"load": load, "seq": {"steps": steps}})
    factory.worker()
    factory.role("scheduler")
    run = factory.start("seq")
    wait_for(lambda: len(factory.show(run)["path"]) == 3, "the sequence waits for an approval")
    told = factory.run("approve", str(run), "release", "--reason", "ok", "--set", "percent=20")
    assert told.stdout == f"step 'release' of run {run} is approved\n"
    assert factory.wait(run)["state"] == "succeeded"
    fan = factory.show(run)["path"][0]
    assert (fan["children"], fan["counts"], [one["item"] for one in fan["runs"]]) == (3, {"succeeded": 3}, [0, 1, 2])
    shown = factory.run("runs", "show", str(run)).stdout
    assert all(text in shown for text in ("3 succeeded", "approved by", "with percent=20", "elapsed"))
