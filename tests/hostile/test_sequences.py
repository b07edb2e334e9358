"""A sequence cannot do what a job's definition or a key's categories forbid."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.store import sequences
from jobfac.store.api_keys import Role
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
