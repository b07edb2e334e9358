"""Parameters through T-SQL: checked as far as it can, the rest by the worker that claims the run."""

import json
from datetime import datetime
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import jobs, overview, parameters, runs, statistics
from jobfac.store.runs import StartRequest
from tests.database.parameters.test_parameters import LOAD, take
from tests.support.database import Hand
from tests.support.tsql import THROUGH_TSQL, define, execute, refusal, row

pytestmark = THROUGH_TSQL

UNFIT = "Job 'load' has the parameter '{}', which cannot have this value; see its definition."


def started(db: Database, **given: Any) -> int:
    return int(execute(db, "start_job", job="load", parameters=json.dumps(given)))


def test_the_worker_completes_what_t_sql_started(db: Database) -> None:
    define(db, load=LOAD)
    run_id = started(db, region="eu", limit="5", token="geheim")
    assert row(db, run_id)["parameters"] is None  # one of them is sensitive
    (claimed,) = take(Hand(db))
    with db.read() as conn:
        shown = runs.get(conn, run_id).parameters or {}
    assert json.loads(claimed.parameters) == shown
    assert {**shown, "day": "x"} == {
        "day": "x", "region": "eu", "limit": 5, "batch": f"b-{run_id}", "token": "***",
    }  # fmt: skip
    assert json.loads(row(db, run_id)["sensitive"]) == {"token": "geheim"}


def test_a_success_that_the_program_started_shows_that_one_of_t_sql_is_over(db: Database) -> None:
    define(db, load=LOAD)
    hand = Hand(db)
    us, eu = started(db, region="us"), started(db, region="eu", limit="5", day="2027-01-31")
    for claimed in take(hand):
        hand.end(claimed, RunState.FAILED)
    given = {"region": "eu", "limit": 5, "day": "2027-01-31"}
    db.transact(runs.start, StartRequest("load", "me", parameters=given))
    hand.end(take(hand)[0])
    assert [one.id for one in db.query(overview.read).failures] == [us]
    db.transact(statistics.count)
    assert row(db, us)["acknowledged_at"] is None
    assert row(db, eu)["acknowledged_by"] == f"run {eu + 1} succeeded"


@pytest.mark.parametrize("given", [{"arguments": '["eu","x"]'}, {"payload": "eu"}, {"parameters": '{"region": "eu"}'}])
def test_what_t_sql_gives_counts_as_what_the_program_gives(db: Database, given: dict[str, str]) -> None:
    define(db, load={"command": ["x"], **({"parameters": {"region": {}}} if "parameters" in given else {})})
    hand = Hand(db)
    others = {name: text.replace("eu", "us") for name, text in given.items()}
    eu, us = (int(execute(db, "start_job", job="load", **one)) for one in (given, others))
    for claimed in take(hand):
        hand.end(claimed, RunState.FAILED)
    read: dict[str, Any] = {name: text if name == "payload" else json.loads(text) for name, text in given.items()}
    db.transact(runs.start, StartRequest("load", "me", **read))
    hand.end(take(hand)[0])
    assert [one.id for one in db.query(overview.read).failures] == [us]
    execute(db, "start_job", job="load", **others)
    hand.end(take(hand)[0])
    assert not db.query(overview.read).failures
    db.transact(statistics.count)
    assert [row(db, one)["acknowledged_by"] for one in (eu, us)] == [f"run {us + place} succeeded" for place in (1, 2)]


def test_a_retry_knows_the_first_run_of_its_chain(db: Database) -> None:
    define(db, load={"command": ["x"]})
    hand = Hand(db)
    chain = [int(execute(db, "start_job", job="load"))]
    for _ in range(2):
        hand.end(take(hand)[0], RunState.FAILED)
        chain.append(int(execute(db, "retry_run", run=chain[-1])))
        assert json.loads(row(db, chain[-1])["origin"])["first"] == chain[0]


def test_what_t_sql_cannot_check_the_worker_refuses(db: Database) -> None:
    define(db, load={"parameters": {"code": {"pattern": "[A-Z]+"}}, "command": ["x"]})
    run_id = started(db, code="abc")
    (claimed,) = take(Hand(db))
    assert json.loads(claimed.parameters) == {"code": "abc"}
    assert row(db, run_id)["state"] == "running"  # its start fails with the sentence of the check


def test_a_number_of_more_digits_than_python_reads_is_a_text(db: Database) -> None:
    """It ended every worker that claimed the run."""
    define(db, load={"parameters": {"code": {}}, "command": ["x"]})
    run_id = int(execute(db, "start_job", job="load", parameters='{"code": ' + "1" * 5000 + "}"))
    take(Hand(db))
    with db.read() as conn:
        assert runs.get(conn, run_id).parameters == {"code": "1" * 5000}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "Job 'load' needs the parameter 'region'; give it in @parameters."),
        ({"region": None}, "Job 'load' needs the parameter 'region'; give it in @parameters."),
        ({"region": "eu", "x": 1}, "Job 'load' has no parameter 'x'; see its definition."),
        ({"region": "asia"}, UNFIT.format("region")),
        ({"region": "eu", "limit": "x"}, UNFIT.format("limit")),
        ({"region": "eu", "day": "2027-02-30"}, UNFIT.format("day")),
        ({"region": ["eu"]}, UNFIT.format("region")),
        ([1], '@parameters must be a JSON object such as {"day": "2027-01-31"}.'),
    ],
)  # fmt: skip
def test_mistakes_are_refused(db: Database, given: Any, says: str) -> None:
    define(db, load=LOAD)
    assert refusal(db, "start_job", job="load", parameters=json.dumps(given))[1] == says
    assert "@parameters must be a JSON object" in refusal(db, "start_job", job="load", parameters="x{")[1]


def test_a_retry_has_the_same_values(db: Database) -> None:
    define(db, load=LOAD)
    run_id = started(db, region="eu", day="2027-01-31", token="geheim")
    hand = Hand(db)
    hand.end(take(hand)[0])
    again = int(execute(db, "retry_run", run=run_id))
    former, found = row(db, run_id), row(db, again)
    assert (found["parameters"], found["sensitive"]) == (former["parameters"], former["sensitive"])
    assert datetime.fromisoformat(json.loads(found["origin"])["due"]) == former["created_at"]


def test_a_retry_does_no_other_work_because_a_parameter_was_renamed(db: Database) -> None:
    many, pin = {"many": True, "default": ["a", "b"]}, {"sensitive": True, "default": "1"}
    define(
        db,
        load={"parameters": {"region": {"default": "us"}, "codes": many, "pin": pin, "day": {"default": "${today}"}}},
    )
    first, usual = started(db, region="eu"), started(db)
    hand = Hand(db)
    for claimed in take(hand):
        hand.end(claimed)
    define(db, load={"parameters": {"area": {"default": "us"}}})
    number, sentence = refusal(db, "retry_run", run=first)
    assert number in (0, 50002)
    assert sentence.startswith(f"Run {first} has a value of 'region', which job 'load' no longer has, and none of its")
    again = int(execute(db, "retry_run", run=usual))
    assert row(db, again)["retry_of"] == usual
    (claimed,) = take(hand)
    assert parameters.values_of(parameters.row_of(claimed), db.query(jobs.load_version, "load", 2)) == {"area": "us"}
    hand.end(claimed)
    define(db, load={"parameters": {}})
    assert row(db, int(execute(db, "retry_run", run=first)))["retry_of"] == first


def test_what_was_sensitive_is_not_shown_by_a_retry(db: Database) -> None:
    shown = {name: one for name, one in LOAD["parameters"].items() if name != "token"} | {"token": {}}
    define(db, load=LOAD)
    first = started(db, region="eu", token="geheim")
    hand = Hand(db)
    hand.end(take(hand)[0])
    unclaimed = started(db, region="eu", limit=5)
    execute(db, "stop_run", run=unclaimed)
    define(db, load={**LOAD, "parameters": shown})
    says = f"Run {first} has a sensitive value of 'token', which is not sensitive in job 'load' now, so lists would"
    assert refusal(db, "retry_run", run=first)[1] == f"{says} show it; start the job."
    execute(db, "retry_run", run=unclaimed)
    db.transact(runs.retry, unclaimed, "me")
    with pytest.raises(Refused, match=says):
        db.transact(runs.retry, first, "me")
