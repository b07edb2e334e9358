"""A sequence cannot do what a job's definition or a key's categories forbid."""

import json
from collections.abc import Iterator
from contextlib import closing, nullcontext
from itertools import product
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.operations import jobs as operations
from jobfac.operations import starting, stopping, versions
from jobfac.operations.caller import Caller
from jobfac.store import sequences
from jobfac.store.api_keys import Role
from jobfac.store.runs import StartRequest
from jobfac.store.sequences import advance, decide
from jobfac.store.sequences.checking import steps_before
from jobfac.store.sequences.decide import Visit
from jobfac.store.sequences.stepping import length_of_items
from tests.support.api_stage import Served
from tests.support.database import define, get, start
from tests.support.factory import wait_for
from tests.support.sequences import Player


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"arguments": {"fixed": ["x"]}}, "Job 'fixed' takes no arguments from a start by hand: .* replace_arguments"),
        ({"arguments": {"deep": ["x"]}}, "Job 'deep' takes no arguments from a start by hand: .* replace_arguments"),
        ({"arguments": {"timed": ["x"]}}, "Job 'timed' takes no arguments from a start by hand: .* on_demand: false"),
        ({"payloads": {"timed": "x"}}, "Job 'timed' takes no payloads from a start by hand: .* on_demand: false"),
    ],
)
def test_a_sequence_passes_no_values_to_a_job_that_takes_none(db: Database, overrides: Any, words: str) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "fixed": {"replace_arguments": False},
        "deep": {"replace_arguments": False},
        "timed": {"on_demand": False},
        "inner": {"steps": [{"name": "i", "jobs": ["deep"]}]},
        "seq": {"steps": [{"name": "o", "jobs": ["fixed", "timed", "inner"], "arguments": {"fixed": ["own"]}}]},
    }
    define(db, **jobs)
    with pytest.raises(Refused, match=words):
        start(db, "seq", overrides=overrides)
    start(db, "seq")  # may be started with values that its definition allows
    start(db, "seq", overrides={"payloads": {"fixed": "x"}})


def _define(served: Served) -> None:
    served.define("mine", category="a", command=["sh", "-c", "echo $0"])
    served.define("theirs", category="b", command=["sh", "-c", "echo secret; exit 3"])
    steps = [{"name": "one", "jobs": ["theirs", "mine"], "on_mixed": "next"}, {"name": "two", "jobs": ["mine"]}]
    served.admin.put("/v1/jobs/both", json={"category": "a", "steps": steps}).raise_for_status()


def test_a_limited_key_passes_no_values_to_jobs_of_other_categories(served: Served) -> None:
    _define(served)
    limited = served.client(served.key(Role.OPERATOR, ["a"]))
    for body in ({"arguments": {"theirs": ["x"]}}, {"payloads": {"theirs": "x"}}):
        answer = limited.post("/v1/jobs/both/runs", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            422, f"{next(iter(body))}: job 'both' has no job 'theirs' inside."
        )  # fmt: skip
    spying = {"arguments": {"mine": ["${steps.one.theirs.outputs.key}"]}}
    assert limited.post("/v1/jobs/both/runs", json=spying).status_code == 422
    assert limited.post("/v1/jobs/both/runs", json={"arguments": {"mine": ["x"]}}).status_code == 201
    assert served.operator.post("/v1/jobs/both/runs", json={"arguments": {"theirs": ["x"]}}).status_code == 201


def test_a_limited_key_sees_no_outcome_of_jobs_of_other_categories(served: Served) -> None:
    _define(served)
    limited = served.client(served.key(Role.OPERATOR, ["a"]))
    run = limited.post("/v1/jobs/both/runs").json()["id"]
    with served.worker():
        wait_for(lambda: limited.get(f"/v1/runs/{run}").json()["ended_at"], "the sequence has ended")
    both = {one["job"] for visit in served.viewer.get(f"/v1/runs/{run}/path").json()["items"] for one in visit["runs"]}
    mine = {one["job"] for visit in limited.get(f"/v1/runs/{run}/path").json()["items"] for one in visit["runs"]}
    assert (both, mine) == ({"mine", "theirs"}, {"mine"})
    listed = limited.get("/v1/runs", params={"sequence_run_id": run}).json()["items"]
    assert {one["job"] for one in listed} == {"mine"}


def test_the_step_history_omits_refused_starts_of_other_categories(db: Database) -> None:
    define(
        db, gone={"category": "b", "enabled": False}, seq={"category": "a", "steps": [{"name": "s", "jobs": ["gone"]}]}
    )
    run = start(db, "seq")
    Player(db).look()
    with db.read() as conn:
        assert [one.job for one in sequences.step_history(conn, run)[0].runs] == ["gone"]
        assert sequences.step_history(conn, run, ["a"])[0].runs == []


@pytest.mark.parametrize(
    ("overrides", "is_refused"),
    [
        ({"arguments": {"moved": ["x"]}}, True),
        ({"payloads": {"moved": "x"}}, True),
        ({"arguments": {"mine": ["${steps.one.moved.outputs.key}"]}}, True),
        ({"notify": [{"on": ["finished"], "to": {"email": "me@example.org"}, "of": "both"}]}, True),
        ({"notify": [{"on": ["finished"], "to": {"email": "me@example.org"}}], "payloads": {"mine": "x"}}, False),
    ],
)
def test_a_retry_by_a_limited_key_reaches_no_job_that_has_moved(
    sqlite_url: str, overrides: dict[str, Any], is_refused: bool
) -> None:
    limited = Caller("me", categories=("a",))
    steps = [{"name": "one", "jobs": ["moved"]}, {"name": "two", "jobs": ["mine"]}]
    with closing(Database(sqlite_url)) as db:
        define(db, mine={"category": "a"}, moved={"category": "a"}, seq={"category": "a", "steps": steps})
        (first,) = starting.start(db, limited, StartRequest("seq", "me", overrides=overrides))
        stopping.stop(db, limited, first.id)
        define(db, moved={"category": "b"})
        with pytest.raises(Refused, match="this key may not see") if is_refused else nullcontext():
            starting.retry(db, limited, first.id)
        if is_refused:
            starting.retry(db, Caller("all"), first.id)


def test_a_rollback_by_a_limited_key_reaches_no_job_that_has_moved(sqlite_url: str) -> None:
    step = {"name": "one", "jobs": ["moved"]}
    with closing(Database(sqlite_url)) as db:
        before = {"category": "a", "steps": [{**step, "arguments": {"moved": ["x"]}}]}
        define(db, moved={"category": "a"}, seq=before)
        define(db, moved={"category": "b"}, seq={"category": "a", "steps": [step]})
        with pytest.raises(Refused, match="unknown job 'moved'"):
            versions.rollback(db, Caller("me", categories=("a",)), "seq", 1)
        assert versions.rollback(db, Caller("all"), "seq", 1).version == 3


@pytest.mark.parametrize(
    "closing_one",
    [{"steps": [{"name": "s", "jobs": ["mine"]}]}, {"command": ["x"], "schedules": [{"after": {"job": "mine"}}]}],
)
def test_a_limited_key_closes_no_circle_through_a_job_that_it_cannot_see(
    sqlite_url: str, closing_one: dict[str, Any]
) -> None:
    limited = Caller("me", categories=("a",))
    bodies: list[dict[str, Any]] = [
        {"steps": [{"name": "s", "jobs": [job]}]}
        if "steps" in closing_one
        else {"schedules": [{"after": {"job": job}}]}
        for job in ("last", "theirs")
    ]
    with closing(Database(sqlite_url)) as db:
        define(db, last={"category": "a"}, theirs={"category": "b", **bodies[0]}, mine={"category": "a", **bodies[1]})
        with pytest.raises(d.DefinitionError, match="job 'last' does not fit jobs that this key may not see") as caught:
            operations.put(db, limited, "last", {"category": "a", **closing_one})
        assert "theirs" not in str(caught.value)
        operations.put(db, limited, "last", {"category": "a", "command": ["true"]})


@pytest.fixture
def repeated(sqlite_url: str) -> Iterator[tuple[Database, Player, int]]:
    """A sequence whose second step refers 100,000 times to what its first one reports. It waits for the first."""
    db = Database(sqlite_url)
    define(db, a={}, b={}, seq={"steps": [{"name": "one", "jobs": ["a"]}, {"name": "two", "jobs": ["b"]}]})
    run = start(db, "seq", overrides={"payloads": {"b": "${steps.one.a.outputs.text}" * 100_000}})
    player = Player(db)
    assert player.look() == ["a"]
    yield db, player, run
    db.close()


def test_a_reference_that_is_repeated_is_read_once(repeated: tuple[Database, Player, int]) -> None:
    db, player, _ = repeated
    statements = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    player.finish("a", outputs=json.dumps({"text": "x"}))
    assert len(statements) < 100
    (claimed,) = player.claim(1)
    assert claimed.payload == "x" * 100_000


def test_references_cannot_multiply_an_output(repeated: tuple[Database, Player, int]) -> None:
    db, player, run = repeated
    (ended,) = player.finish("a", outputs=json.dumps({"text": "x" * 200_000}))
    assert (ended.run_id, str(ended.state)) == (run, "failed")
    assert "its references stand for more than 4,194,304 characters" in get(db, run)["reason"]


def test_for_each_does_not_multiply_a_long_value(db: Database) -> None:
    """Who starts the sequence gives the values. 500,000 characters, 1,000 times, took 2 GB of the worker's memory."""
    many = {name: {"type": "text", "many": True} for name in ("long", "other")}
    each = {name: f"${{parameters.{name}}}" for name in many}
    define(
        db,
        a={"parameters": {name: {"type": "text"} for name in many}},
        seq={"parameters": many, "steps": [{"name": "one", "jobs": ["a"], "for_each": each}]},
    )
    others = [str(number) for number in range(1000)]
    refused = start(db, "seq", parameters={"long": ["x" * 5000], "other": others})
    taken = start(db, "seq", parameters={"long": ["x" * 3000], "other": others})
    player = Player(db)
    assert set(player.look()) == {"a"}
    assert "the values of for_each have 5,0" in get(db, refused)["reason"]
    assert (get(db, refused)["state"], get(db, taken)["state"]) == ("failed", "running")


@pytest.mark.parametrize("lists", [{"a": ["x", "yy"], "b": [1, 2, 3]}, {"a": [], "b": [1]}, {"a": ["é" * 100]}])
def test_the_length_of_combinations_is_known_before_they_are_made(lists: dict[str, list[Any]]) -> None:
    made = json.dumps([dict(zip(lists, one, strict=True)) for one in product(*lists.values())], ensure_ascii=False)
    assert abs(length_of_items(lists) - len(made)) < 60


APPROVE = {"by": "admin"}
GATED: list[dict[str, Any]] = [
    {"name": "load", "jobs": ["a"], "on_failure": {"step": "undo"}},
    {"name": "release", "approve": APPROVE, "on_failure": {"step": "load"}},
    {"name": "publish", "jobs": ["b"], "on_success": "end"},
    {"name": "undo", "jobs": ["a"]},
]


@pytest.mark.parametrize(
    ("first", "before"),
    [("load", []), ("release", ["load"]), ("publish", ["load", "release"]), ("undo", ["load"])],
)
def test_the_steps_before_a_step_are_those_that_lead_to_it(first: str, before: list[str]) -> None:
    sequence = d.from_data({"jobs": {"a": {"command": ["a"]}, "b": {"command": ["b"]}, "s": {"steps": GATED}}}).jobs[
        "s"
    ]
    assert isinstance(sequence, d.Sequence)
    assert [step.name for step in steps_before(sequence, first)] == before


def test_an_approval_is_not_skipped_by_a_start_behind_it(served: Served) -> None:
    served.define("a")
    served.define("b", command=["false"])
    own = [
        {**GATED[1], "approve": {"by": "operator", "not_by_starter": True}},
        GATED[2],
        {"name": "load", "jobs": ["a"]},
    ]
    outer = [{"name": "inside", "jobs": ["gated"]}, {"name": "then", "jobs": ["b"]}]
    for job, steps in (("gated", GATED), ("own", own), ("outer", outer)):
        wanted = {"steps": steps, "parameters": {"amount": {"type": "integer", "default": 1}}}
        served.admin.put(f"/v1/jobs/{job}", json=wanted).raise_for_status()

    def start(client: httpx.Client, job: str, step: str) -> int:
        return client.post(f"/v1/jobs/{job}/runs", json={"from_step": step}).status_code

    for job, step in (("gated", "publish"), ("own", "publish"), ("outer", "then")):
        assert start(served.operator, job, step) == 403
    assert [start(served.operator, "gated", step) for step in ("load", "release", "undo")] == [201] * 3
    assert [start(served.admin, job, "publish") for job in ("gated", "own")] == [201, 403]
    started = served.admin.get("/v1/runs?job=gated").json()["items"][0]["id"]
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{started}").json()["ended_at"], "the admin's run has ended")
        for body in ({}, {"from_failed": True}):  # it would begin behind the approval again
            assert served.operator.post(f"/v1/runs/{started}/retry", json=body).status_code == 403
        many = served.operator.post("/v1/runs:retry", json={"runs": [started]}).json()["items"]
        assert (many[0]["result"], "would skip the approval" in many[0]["reason"]) == ("refused", True)
        run = served.start("gated")
        wait_for(lambda: _approved(served, run), "the step was approved")
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json()["ended_at"], "the sequence has failed")
        other = {"from_failed": True, "parameters": {"amount": 1000}}  # nobody has approved this amount
        assert served.operator.post(f"/v1/runs/{run}/retry", json=other).status_code == 403
        assert served.operator.post(f"/v1/runs/{run}/retry", json={"from_failed": True}).status_code == 201


def _approved(served: Served, run: int) -> bool:
    return served.admin.post(f"/v1/runs/{run}/steps/release/approve").is_success


def test_a_retry_changes_no_parameter_of_a_job_that_is_not_started_by_hand(served: Served) -> None:
    """Otherwise who may retry the job behind an approval could give it values that nobody has approved."""
    wanted = {"amount": {"type": "integer", "default": 5}, "day": {"type": "text", "default": ""}}
    served.define("pay", parameters=wanted, on_demand=False)
    served.define("around", parameters=wanted, on_demand=True)
    run = start(served.db, "pay", manual=False, parameters={"amount": 7, "day": "monday"})
    free = served.start("around")
    for one in (run, free):
        served.operator.post(f"/v1/runs/{one}/stop").raise_for_status()

    def retry(one: int, **parameters: Any) -> httpx.Response:
        return served.operator.post(f"/v1/runs/{one}/retry", json={"parameters": parameters} if parameters else {})

    refused = retry(run, amount=1_000_000)
    assert (refused.status_code, "on_demand: false" in refused.json()["detail"]) == (409, True)
    assert retry(run).json()["parameters"] == {"amount": 7, "day": "monday"}
    assert retry(free, amount=9).json()["parameters"]["amount"] == 9


def test_an_output_that_is_missing_fails_the_step_and_not_the_worker(db: Database) -> None:
    """The transaction in which a program's end is stored also starts what follows."""
    fan = {"name": "fan", "jobs": ["b"], "for_each": {"n": [1, 2]}, "arguments": {"b": ["${steps.one.a.outputs.rows}"]}}
    steps = [{"name": "one", "jobs": ["a"]}, fan]
    define(db, a={}, b={"parameters": {"n": {"type": "integer"}}}, seq={"steps": steps})
    run = start(db, "seq")
    player = Player(db)
    player.look()
    (ended,) = player.finish("a", outputs=json.dumps({"other": 1}))
    assert (ended.run_id, str(ended.state)) == (run, "failed")
    assert "step 'fan' failed: ${steps.one.a.outputs.rows} is unknown" in get(db, run)["reason"]


def test_a_sequence_that_cannot_be_advanced_ends_no_worker(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is simulated: none is known. The run's end is stored, and a sweep advances the sequence later."""

    def fail(sequence: d.Sequence, last: Visit | None, *rest: Any) -> Any:
        if last is not None and not last.running:
            raise RuntimeError
        return decide.decide(sequence, last, *rest)

    served.define("a")
    served.admin.put("/v1/jobs/seq", json={"steps": [{"name": "one", "jobs": ["a"]}]}).raise_for_status()
    run = served.start("seq")
    with monkeypatch.context() as patched:
        patched.setattr(advance, "decide", fail)
        with served.worker() as worker:
            wait_for(lambda: _ended(served, "a"), "the program's end is stored")
            other = served.start("a")
            wait_for(lambda: served.viewer.get(f"/v1/runs/{other}").json()["ended_at"], "the worker goes on")
            assert worker.running == 0
    assert served.viewer.get(f"/v1/runs/{run}").json()["state"] == "running"
    elsewhere = Database(str(served.db.url))
    elsewhere.transact(sequences.sweep, "me")
    elsewhere.close()
    assert served.viewer.get(f"/v1/runs/{run}").json()["state"] == "succeeded"


def _ended(served: Served, job: str) -> bool:
    found = served.viewer.get("/v1/runs", params={"job": job}).json()["items"]
    return bool(found) and all(one["state"] == "succeeded" for one in found)


def test_a_worker_begins_all_steps_at_once_although_no_job_ends(served: Served) -> None:
    """More than one transaction may begin. No scheduler is there to sweep, and no worker serves the pool."""
    served.define("a", pool="nobody")
    steps = [{"name": f"s{number}", "jobs": ["a"], "proceed": "at_once"} for number in range(60)]
    assert served.admin.put("/v1/jobs/seq", json={"steps": steps}).status_code == 201
    with served.worker():
        run = served.start("seq")
        wait_for(lambda: len(served.viewer.get("/v1/runs?job=a&limit=100").json()["items"]) == 60, "all have begun")
        assert served.operator.post(f"/v1/runs/{run}/stop").is_success
