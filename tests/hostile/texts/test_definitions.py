"""Any definitions file is read or refused within seconds."""

import contextlib
import json
import time
from typing import Any

import pytest

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.tables import category, job_version
from jobfac.database.tables import run as run_table
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from tests.support.api_stage import Served
from tests.support.factory import wait_for

AT_ONCE = 5.0
"""Time limit in seconds. Exponential growth would take minutes or all memory."""


def refused(text: str, why: str) -> None:
    begun = time.monotonic()
    with pytest.raises(d.DefinitionError, match=why):
        d.loads(text)
    assert time.monotonic() - begun < AT_ONCE


def test_aliases_of_aliases_do_not_multiply() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 27)]
    refused("\n".join([*levels, "jobs: {one: {command: [true], environment: *a26}}"]), "aliases up to here expand to")


def test_lists_of_two_aliases_do_not_multiply_either() -> None:
    levels = ["a0: &a0 {command: [echo]}", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 27))]
    refused("\n".join([*levels, "jobs: {one: {command: *a26}}"]), "aliases up to here expand to")


@pytest.mark.parametrize("wrong", ["unknown: 1", "priority: high"])
def test_nested_merges_do_not_multiply(wrong: str) -> None:
    levels = ["a0: &a0 {command: [echo]}"]
    levels += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}" for n in range(1, 27)]
    refused("\n".join([*levels, f"jobs: {{one: {{<<: *a26, {wrong}}}}}"]), "merges more than 1,000 mappings")


def test_a_chain_of_aliases_does_not_circumvent_the_depth_limit() -> None:
    chain = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000))]
    refused("\n".join([*chain, "jobs: {}"]), "nested deeper than 100 levels")


@pytest.mark.parametrize("text", ["[" * 500 + "]" * 500, "[" * 100_000, '{"a":' * 100_000, "- " * 5000])
def test_deep_nesting_is_refused(text: str) -> None:
    refused(text, "nested|not valid YAML")


def test_moderate_aliases_and_merges_are_read() -> None:
    shared = "x: &base {pool: etl, retry: {attempts: 3}}\ny: &due [{cron: '0 6 * * *'}, {cron: '0 7 * * *'}]\n"
    jobs = "".join(f"  j{n}: {{<<: *base, command: [echo], schedules: *due}}\n" for n in range(500))
    with pytest.raises(d.DefinitionError) as raised:
        d.loads(f"{shared}jobs:\n{jobs}")
    assert {str(one) for one in raised.value.problems} == {
        "line 1: unknown key 'x'; the keys are jobs and defaults",
        "line 2: unknown key 'y'; the keys are jobs and defaults",
    }


@pytest.mark.parametrize("job", [".", ".."])
def test_no_id_is_the_name_of_a_folder(job: str) -> None:
    refused(f"jobs: {{'{job}': {{command: [echo]}}}}", "names a folder in paths and URLs")


@pytest.mark.parametrize("name", ["punycode", "idna", "unicode_escape", "zip"])
def test_an_encoding_decodes_every_output_in_linear_time(name: str) -> None:
    refused(f"jobs: {{one: {{command: [echo], encoding: {name}}}}}", "must be a text encoding")


def test_a_stored_definition_that_cannot_be_read_ends_no_worker(served: Served) -> None:
    """A newer jobfac or a newer machine may have stored it, or somebody by SQL. A program needs no zone of a schedule.

    Only a text with the date of an undated start cannot be filled in without it.
    """
    rule = {"cron": "0 3 * * *", "timezone": "Europe/Of_Next_Year", "starts": "2026-01-01", "ends": "2099-12-31"}
    zone = {"schedules": [rule]}
    texts: dict[str, dict[str, Any]] = {
        "newer": {"command": ["true"], "of_a_later_version": 1},
        "dated": {"command": ["echo", "${due.date}"], **zone},
        "zoned": {"command": ["true"], **zone},
        "steps": {"steps": [{"name": "one", "jobs": ["step"]}], **zone},
    }
    served.define("step")
    for job in texts.keys() - {"steps"}:
        served.define(job)
    assert served.admin.put("/v1/jobs/steps", json={"steps": texts["steps"]["steps"]}).is_success
    runs = {job: served.start(job) for job in texts}
    with served.db.begin() as conn:
        for job, body in texts.items():
            conn.execute(job_version.update().where(job_version.c.job == job).values(definition=json.dumps(body)))
        conn.execute(run_table.update().values(origin=None))
        due = {"origin": json.dumps({"due": "2026-11-30T03:00:00+01:00"})}  # as a schedule of such a zone gives it
        conn.execute(run_table.update().where(run_table.c.job == "steps").values(due))

    def views() -> dict[str, Any]:
        return {job: served.viewer.get(f"/v1/runs/{run}").json() for job, run in runs.items()}

    with served.worker():
        wait_for(lambda: all(one.get("ended_at") for one in views().values()), "all have ended")
    found = views()
    assert [one["state"] for one in found.values()] == ["start_failed", "start_failed", "succeeded", "succeeded"]
    assert found["newer"]["reason"].startswith("its definition cannot be read by this version of jobfac: ")
    assert found["dated"]["reason"].endswith(
        "its date needs the unknown time zone 'Europe/Of_Next_Year'; install tzdata"
    )


def test_defaults_that_cannot_be_read_are_shown_as_stored_and_replaced(served: Served) -> None:
    texts = {"newer": '{"notify": [{"on": ["of_a_later_version"], "to": {"email": "a@b.c"}}]}', "broken": "no JSON"}
    with served.db.begin() as conn:
        for name, text in texts.items():
            values = {"name": name, "definition": text, "updated_by": "a DBA"}
            conn.execute(category.insert().values(updated_at=utcnow()), values)
    stored = {"newer": json.loads(texts["newer"]), "broken": {}}
    assert served.viewer.get("/v1/defaults").json() == {"defaults": stored}
    served.define("a", category="broken")
    assert "cannot be read" in served.viewer.get("/v1/jobs/a").json()["unreadable"]
    entry = {"notify": [{"on": ["failed"], "to": {"email": ["a@b.example"]}}]}
    wanted = d.from_data({"defaults": dict.fromkeys(texts, entry)})
    jobs.apply(served.db, Caller("me"), lambda known: wanted, prune=False)
    assert served.viewer.get("/v1/defaults").json() == {"defaults": dict.fromkeys(texts, entry)}
    assert "unreadable" not in served.viewer.get("/v1/jobs/a").json()


def test_a_definition_that_cannot_be_read_hides_no_other(served: Served) -> None:
    """It is listed and shown as it is stored, and may be disabled, deleted and replaced, but not started."""
    body = {"command": ["true"], "schedules": [{"cron": "@daily"}]}
    for job in ("newer", "broken", "other"):
        served.define(job, **body)
    texts = {"newer": '{"command": ["true"], "of_a_later_version": 1}', "broken": "no JSON"}
    with served.db.begin() as conn:
        for job, text in texts.items():
            conn.execute(job_version.update().where(job_version.c.job == job).values(definition=text))
    listed = {one["id"]: one for one in served.viewer.get("/v1/jobs").json()["items"]}
    assert [listed[job].get("unreadable") is None for job in ("newer", "broken", "other")] == [False, False, True]
    assert listed["newer"]["definition"] == {"command": ["true"], "of_a_later_version": 1}
    assert "unknown key 'of_a_later_version'" in listed["newer"]["unreadable"]
    assert listed["broken"]["definition"] == {}
    for job in texts:
        assert served.viewer.get(f"/v1/jobs/{job}").json()["unreadable"] == listed[job]["unreadable"]
        refused = served.operator.post(f"/v1/jobs/{job}/runs", json={})
        assert (refused.status_code, "cannot be read by this version" in refused.json()["detail"]) == (409, True)
        assert served.operator.post(f"/v1/jobs/{job}/disable").json()["enabled"] is False
        assert served.viewer.get(f"/v1/jobs/{job}/versions").is_success
    user = {"steps": [{"name": "one", "jobs": ["newer", "broken"]}]}
    assert served.admin.put("/v1/jobs/user", json=user).status_code == 201
    assert served.admin.delete("/v1/jobs/user").status_code == 204
    served.define("newer", command=["false"])
    assert "unreadable" not in served.viewer.get("/v1/jobs/newer").json()
    assert served.admin.delete("/v1/jobs/broken").status_code == 204


@pytest.mark.parametrize(
    "command",
    [
        ["sh", *["${parameters.x}"] * 3000],
        ["python3", *["${parameters.x}"] * 3000],
        [*["sh", "-oc"] * 3000, "x", "${parameters.x}"],
        ["sh", "-" + "c" * 100_000 + "1", "${parameters.x}"],
        [*["env", "perl", "A=b"] * 3000, "${parameters.x}"],
    ],
    ids=["a shell", "an interpreter", "shells", "an option", "interpreters"],
)
def test_the_time_for_a_command_grows_with_its_length(command: list[str]) -> None:
    """To look from each of 1,500 words at all others took a minute, in which an API did nothing else."""
    begun = time.thread_time()
    body = {"command": command, "parameters": {"x": {}}}
    with contextlib.suppress(d.DefinitionError):
        d.from_data({"jobs": {"one": body}})
    assert time.thread_time() - begun < AT_ONCE


def test_quotes_that_nothing_ends_take_no_time() -> None:
    refused('jobs: "' + '\\"' * 100_000, "while scanning a quoted scalar")


@pytest.mark.parametrize("pattern", ["(" * 2000 + ")" * 2000, "a{99999999999999}", "a" * 6000, "[<" * 2000])
def test_a_pattern_that_cannot_be_compiled_is_refused_in_a_sentence(pattern: str) -> None:
    body = {"command": ["a"], "parameters": {"x": {"pattern": pattern}}}
    with pytest.raises(d.DefinitionError, match=r"parameters\.x\.pattern must be a regular expression"):
        d.from_data({"jobs": {"one": body}})


def refused_data(jobs: dict[str, object], why: str) -> d.DefinitionError:
    """As ``refused``, of definitions whose YAML would take longer to read than they take to check."""
    begun = time.process_time()
    with pytest.raises(d.DefinitionError, match=why) as raised:
        d.from_data({"jobs": jobs})
    assert time.process_time() - begun < AT_ONCE
    return raised.value


def test_many_unknown_steps_are_refused_at_once() -> None:
    """Each name took a search among all others, even beyond the limit of problems: 2,000 steps took 44 s."""
    long = "x" * 30
    steps = [{"name": f"a{n}{long}", "jobs": ["one"], "on_success": {"step": f"b{n}{long}"}} for n in range(2000)]
    error = refused_data({"one": {"command": ["true"]}, "all": {"steps": steps}}, "names the unknown step 'b0x")
    assert len(error.problems) == 100


def test_many_inputs_that_no_step_asks_for_are_refused_at_once() -> None:
    asks = [{"name": f"a{n}", "approve": {"by": "operator", "timeout": "1h"}} for n in range(5000)]
    values = {"p": ["${steps.last.one.outputs.x}"] * 5000}
    last = {"name": "last", "jobs": ["one"], "parameters": {"one": values}}
    one = {"command": ["true"], "parameters": {"p": {"type": "text", "many": True}}}
    wrong = {"name": "wrong", "jobs": ["one"], "parameters": {"one": {"p": ["${steps.a7.outputs.x}"]}}}
    why = "names 'x', for which the step 'a7' does not ask"
    assert len(refused_data({"one": one, "all": {"steps": [*asks, last, wrong]}}, why).problems) == 1


def test_many_schedules_of_a_large_sequence_are_checked_at_once() -> None:
    jobs: dict[str, object] = {f"j{n}": {"command": ["true"]} for n in range(2000)}
    due = [{"at": "2027-01-01T00:00:00Z", "name": f"n{n}", "payloads": {"j1": "x"}} for n in range(4000)]
    due.append({"at": "2027-01-01T00:00:00Z", "name": "last", "payloads": {"no": "x"}})
    refused_data(jobs | {"all": {"steps": [{"name": "a", "jobs": list(jobs)}], "schedules": due}}, "names 'no', which")


def test_a_long_command_is_a_list() -> None:
    refused(f"jobs: {{one: {{command: {'a' * 400_000}}}}}", "is text of 400,000 characters; write more than 100,000 as")
    read = d.loads(f"jobs: {{one: {{command: {'a' * 100_000}}}, two: {{command: [{'a' * 400_000}]}}}}").jobs
    assert [len(getattr(job, "command", ("",))[0]) for job in read.values()] == [100_000, 400_000]
