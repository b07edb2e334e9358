"""A key that is limited to categories learns nothing about jobs of others: by limits, sequences, holds or past."""

from typing import Any

from jobfac.states import RunState
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served
from tests.support.sequences import Player


def test_a_run_that_waits_for_another_category_does_not_name_its_holder(served: Served) -> None:
    for name, category in (("mine", "a"), ("theirs", "b")):
        served.define(name, category=category, command=["true"], concurrency={"limit": 1, "key": "shared"})
    served.operator.post("/v1/jobs/theirs/runs").raise_for_status()
    run = served.operator.post("/v1/jobs/mine/runs").json()["id"]
    everywhere, limited = served.viewer, served.client(served.key(Role.VIEWER, ["a"]))
    assert everywhere.get(f"/v1/runs/{run}").json()["waits_for"] == "concurrency limit 1 of 'shared': run 1 of theirs"
    html = {"Accept": "text/html"}
    for path in (f"/v1/runs/{run}", "/v1/runs", f"/runs/{run}", "/runs", "/"):
        assert "theirs" in everywhere.get(path, headers=html).text
        seen = limited.get(path, headers=html)
        assert seen.status_code == 200
        assert "shared" in seen.text
        assert "theirs" not in seen.text
    assert limited.get(f"/v1/runs/{run}").json()["waits_for"] == "concurrency limit 1 of 'shared'"


def test_a_limited_key_is_not_told_of_the_jobs_of_other_categories_in_its_sequence(served: Served) -> None:
    """What such a notification says is the whole run, in an email even with its output."""
    served.define("mine", category="a")
    served.define("theirs", category="b")
    for name, jobs in (("both", ["mine", "theirs"]), ("own", ["mine"])):
        body = {"category": "a", "steps": [{"name": "one", "jobs": jobs}]}
        served.admin.put(f"/v1/jobs/{name}", json=body).raise_for_status()
    served.admin.put("/v1/jobs/around", json={"category": "a", "steps": [{"name": "o", "jobs": ["both"]}]})
    limited = served.client(served.key(Role.OPERATOR, ["a"]))

    def start(client: Any, job: str, of: str) -> int:
        entry = {"on": ["finished"], "of": of, "to": {"email": "me@example.org"}}
        return int(client.post(f"/v1/jobs/{job}/runs", json={"notify": [entry]}).status_code)

    for of in ("jobs", "both"):
        assert (start(limited, "both", of), start(limited, "around", of)) == (422, 422)
        assert (start(limited, "own", of), start(served.operator, "both", of)) == (201, 201)
    assert start(limited, "both", "sequence") == 201


def test_a_limited_key_sees_no_hold_of_another_category(served: Served) -> None:
    for name, category in (("mine", "a"), ("theirs", "b")):
        served.define(name, category=category)
    for scope in ({"job": "theirs"}, {"category": "b"}, {"job": "mine"}, {"category": "a"}, {"pool": "default"}, {}):
        served.operator.post("/v1/holds", json={**scope, "reason": "why"}).raise_for_status()
    limited = served.client(served.key(Role.VIEWER, ["a"]))
    for held in (limited.get("/v1/overview").json()["holds"], limited.get("/v1/holds").json()["items"]):
        seen = [(one["job"], one["category"], one["pool"]) for one in held]
        assert seen == [("mine", None, None), (None, "a", None), (None, None, "default"), (None, None, None)]
    assert len(served.viewer.get("/v1/overview").json()["holds"]) == 6


def test_a_limited_key_does_not_take_over_a_deleted_job_of_another_category(served: Served) -> None:
    """A new job of the same id would show the runs and the versions of the deleted one."""
    for name, category in (("theirs", "b"), ("moved", "b"), ("moved", "a")):
        served.define(name, category=category)
    run = served.start("theirs", payload="secret")
    for name in ("theirs", "moved"):
        served.admin.delete(f"/v1/jobs/{name}").raise_for_status()
    limited = served.client(served.key(Role.ADMIN, ["a"]))
    body = {"command": ["true"], "category": "a"}
    for name in ("theirs", "Theirs"):
        assert limited.put(f"/v1/jobs/{name}", json=body).status_code == 403
    assert limited.get(f"/v1/runs/{run}").status_code == 404
    assert limited.put("/v1/jobs/moved", json=body).status_code == 201
    assert limited.put("/v1/jobs/new", json=body).status_code == 201


def test_what_defines_no_job_tells_nothing_of_the_jobs_of_other_categories(served: Served) -> None:
    """A request that would create a job of an id that is taken has to be refused; others tell nothing of it."""
    served.define("theirs", category="b")
    limited = served.client(served.key(Role.ADMIN, ["a"]))
    body = {"command": ["true"], "category": "a"}
    for wrong, headers in (
        (body, {"If-Match": "*"}),
        (body, {"If-Match": '"1"'}),
        ({**body, "category": "b"}, {}),
        ({**body, "comand": "x"}, {}),
        ({**body, "schedules": [{"after": {"job": "none"}}]}, {}),
    ):
        told = []
        for name in ("theirs", "nobody"):
            answer = limited.put(f"/v1/jobs/{name}", json=wrong, headers=headers)
            told.append((answer.status_code, answer.text.replace(name, "NAME")))
        assert told[0] == told[1], wrong
    answer = limited.put("/v1/jobs/theirs", json=body)
    assert answer.status_code == 403
    assert answer.json()["detail"].endswith("may not define a job with the id 'theirs'; choose another id.")


def test_the_run_of_a_sequence_says_nothing_of_what_jobs_of_other_categories_say(served: Served) -> None:
    """The programs' own words, what a definition takes, and the names of outputs."""
    served.define("theirs", category="b", parameters={"mode": {"type": "choice", "choices": ["hush"]}})
    served.define("mine", category="a")
    one = {"name": "one", "jobs": ["theirs"]}
    refers = {"name": "two", "jobs": ["mine"], "arguments": {"mine": ["${steps.one.theirs.outputs.none}"]}}
    steps = {
        "said": [one],
        "takes": [{**one, "parameters": {"theirs": {"mode": "${parameters.mode}"}}}],
        "outputs": [{**one, "on_failure": "next"}, refers],
        "each": [{**one, "for_each": {"mode": "${parameters.modes}"}}],
    }
    declared = {"mode": {"default": "other"}, "modes": {"many": True, "default": ["other"]}}
    for name, its in steps.items():
        body = {"category": "a", "parameters": declared, "steps": its}
        served.admin.put(f"/v1/jobs/{name}", json=body).raise_for_status()
    limited = served.client(served.key(Role.VIEWER, ["a"]))
    player = Player(served.db)
    said = {
        "state": RunState.FAILED,
        "exit_code": 2,
        "reason": "hush",
        "exit_message": "hush",
        "outputs": '{"hush": 1}',
    }
    reasons = {}
    for name in steps:
        run = served.start(name)
        for held in player.look():
            player.finish(held, **said)
        reasons[name] = served.viewer.get(f"/v1/runs/{run}").json()["reason"]
        for place in ("", "/path", "/events"):
            assert "hush" not in limited.get(f"/v1/runs/{run}{place}").text, (name, place)
    assert reasons == {
        "said": "step 'one' failed: theirs, exit code 2, run 2 of another category",
        "takes": "step 'one' was denied: theirs, a job of another category",
        "outputs": "step 'one' failed: theirs, exit code 2, run 5 of another category",
        "each": "step 'one' was denied: theirs[0], a job of another category",
    }


def test_a_refused_retry_tells_nothing_of_the_runs_of_other_categories(served: Served) -> None:
    served.define("mine", category="a")
    served.admin.put("/v1/jobs/theirs", json={"category": "b", "steps": [{"name": "one", "jobs": ["mine"]}]})
    run, player = served.start("theirs"), Player(served.db)
    player.look()
    player.fail("mine")
    again = served.operator.post(f"/v1/runs/{run}/retry").json()["id"]
    limited = served.client(served.key(Role.OPERATOR, ["a"]))
    end = "; wait for its end, or start the job."

    def told(client: Any) -> set[str]:
        many = client.post("/v1/runs:retry", json={"runs": [run + 1]}).json()["items"]
        return {client.post(f"/v1/runs/{run + 1}/retry").json()["detail"], many[0]["reason"]}

    assert told(served.operator) == {f"Run {run + 1} is being retried: run {again} is queued{end}"}
    assert told(limited) == {f"Run {run + 1} is being retried by a run of another category{end}"}


def test_the_origin_of_a_run_does_not_name_the_step_of_a_sequence_of_another_category(served: Served) -> None:
    served.define("mine", category="a")
    steps = [{"name": "hush", "jobs": ["mine"]}]
    for name, category in (("theirs", "b"), ("own", "a")):
        served.admin.put(f"/v1/jobs/{name}", json={"category": category, "steps": steps}).raise_for_status()
    runs = [served.start("theirs"), served.start("own")]
    Player(served.db).look()
    limited = served.client(served.key(Role.VIEWER, ["a"]))
    inside = {one["sequence_run_id"]: one["id"] for one in limited.get("/v1/runs?job=mine").json()["items"]}
    shown = [limited.get(f"/v1/runs/{inside[run]}").json()["origin"] for run in runs]
    assert shown == [f"run {runs[0]}", f"step hush of run {runs[1]}"]
    assert "hush" not in limited.get(f"/runs/{inside[runs[0]]}", headers={"Accept": "text/html"}).text
    assert served.viewer.get(f"/v1/runs/{inside[runs[0]]}").json()["origin"] == f"step hush of run {runs[0]}"


def test_the_form_of_a_start_names_no_job_of_another_category(served: Served) -> None:
    """A run may have been given values for jobs in a sequence inside that belongs to others."""
    served.define("hush", category="b")
    for name, category, inside in (("theirs", "b", "hush"), ("mine", "a", "theirs")):
        body = {"category": category, "steps": [{"name": "one", "jobs": [inside]}]}
        served.admin.put(f"/v1/jobs/{name}", json=body).raise_for_status()
    run = served.start("mine", payloads={"hush": "x"})
    limited = served.client(served.key(Role.OPERATOR, ["a"]), headers={"Accept": "text/html"})
    answer = limited.get(f"/jobs/mine/start?like={run}")
    assert (answer.status_code, "hush" in answer.text) == (409, False)
    assert "jobs that you may not see" in answer.text
    answer = limited.post("/jobs/mine/start", data={"like": str(run)})
    assert "hush" not in answer.text
    assert limited.get("/jobs/mine/start").status_code == 200
    everywhere = served.operator.get(f"/jobs/mine/start?like={run}", headers={"Accept": "text/html"})
    assert (everywhere.status_code, "hush" in everywhere.text) == (200, True)
    assert len(served.admin.get("/v1/runs?job=mine").json()["items"]) == 1


def test_where_no_key_is_limited_the_run_of_a_sequence_says_all(served: Served) -> None:
    served.define("theirs", category="b")
    steps = [{"name": "one", "jobs": ["theirs"]}]
    served.admin.put("/v1/jobs/sequence", json={"category": "a", "steps": steps}).raise_for_status()
    player = Player(served.db)
    run = served.start("sequence")
    player.finish(*player.look(), state=RunState.FAILED, reason="no such customer")
    assert served.viewer.get(f"/v1/runs/{run}").json()["reason"] == "step 'one' failed: theirs, no such customer"


def test_who_may_not_delete_a_job_learns_of_no_job_of_another_category(served: Served) -> None:
    for name in ("stepped", "followed"):
        served.define(name, category="a")
    steps = {"category": "b", "steps": [{"name": "one", "jobs": ["stepped"]}]}
    served.admin.put("/v1/jobs/hush-sequence", json=steps).raise_for_status()
    served.define("hush-follower", category="b", schedules=[{"after": {"job": "followed"}}])
    limited = served.client(served.key(Role.ADMIN, ["a"]))
    told = {name: limited.delete(f"/v1/jobs/{name}").json()["detail"] for name in ("stepped", "followed")}
    assert told == {
        "stepped": "Job 'stepped' is used by a sequence of others; change that first.",
        "followed": "A job of others starts after the job 'followed'; change that first.",
    }
    assert "'hush-sequence'" in served.admin.delete("/v1/jobs/stepped").json()["detail"]
