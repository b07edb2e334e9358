"""Starts: the new run that a definition and a request produce."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.errors import NotFound, Refused
from jobfac.store import runs
from jobfac.store.runs import StartRequest, admission
from tests.support.database import Hand, define, events, get, make_due, now, origin, start, states, together


def test_a_run_stores_the_values_of_its_request(db: Database) -> None:
    define(db, job={"priority": 3, "labels": {"os": "linux"}, "restartable": False})
    before = now(db)
    found = get(db, start(db, "job", arguments=["--full", "Ärger 'x' 漢"], payload='{"a": "ß"}'))
    assert (found["job"], found["state"], found["kind"], found["attempt"]) == ("job", "queued", "program", 0)
    assert json.loads(found["arguments"]) == ["--full", "Ärger 'x' 漢"]
    assert found["payload"] == '{"a": "ß"}'
    assert (found["priority"], found["queue"], found["restartable"]) == (3, "default[os=linux]", False)
    assert found["created_by"] == "tester"
    assert before <= found["created_at"] == found["queued_at"] <= now(db)
    assert found["started_at"] is found["ended_at"] is found["ready_at"] is None


def test_the_definition_provides_defaults(db: Database) -> None:
    define(db, job={"arguments": ["--short"]})
    found = get(db, start(db, "job"))
    assert found["arguments"] is found["payload"] is found["start_key"] is None
    assert found["priority"] == 0


def test_the_priority_of_the_start_takes_precedence(db: Database) -> None:
    define(db, job={"priority": 3})
    assert get(db, start(db, "job", priority=-7))["priority"] == -7
    assert get(db, start(db, "job", priority=0))["priority"] == 0


def test_a_large_payload_is_stored_unchanged(db: Database) -> None:
    define(db, job={})
    payload = "Zeile ✓ 😀\n" * 50_000
    assert get(db, start(db, "job", payload=payload))["payload"] == payload
    with pytest.raises(Refused, match=r"4,194,305 characters; 4,194,304 is the most"):
        start(db, "job", payload="x" * (runs.drafting.PAYLOAD_LIMIT + 1))


def test_a_delayed_start_is_scheduled(db: Database) -> None:
    define(db, job={})
    run_id = start(db, "job", delay=90.0)
    found = get(db, run_id)
    assert found["state"] == "scheduled"
    assert abs(found["ready_at"] - found["created_at"] - timedelta(seconds=90)) < timedelta(milliseconds=500)
    assert found["queued_at"] is None
    assert events(db, run_id) == ["scheduled"]


def test_a_delay_of_many_days_does_not_overflow(db: Database) -> None:
    define(db, job={})
    found = get(db, start(db, "job", delay=400 * 86400.0))
    assert abs(found["ready_at"] - found["created_at"] - timedelta(days=400)) < timedelta(milliseconds=500)


def test_a_start_at_a_time_keeps_that_time(db: Database) -> None:
    define(db, job={})
    at = datetime(2031, 7, 1, 12, 30, 15, 123000, tzinfo=UTC)
    found = get(db, start(db, "job", at=at.astimezone()))
    assert (found["state"], found["ready_at"]) == ("scheduled", at)


def test_due_runs_are_promoted_and_others_are_not(db: Database) -> None:
    define(db, job={})
    due, later = start(db, "job", delay=60.0), start(db, "job", at=datetime(2031, 1, 1, tzinfo=UTC))
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == due).values(ready_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert db.transact(runs.promote_due, "w1") == 1
    assert states(db, [due, later]) == ["queued", "scheduled"]
    assert events(db, due) == ["scheduled", "queued"]
    assert get(db, due)["queued_at"] >= get(db, due)["created_at"]
    assert db.transact(runs.promote_due, "w1") == 0


def test_promotion_is_bounded(db: Database) -> None:
    define(db, job={})
    db.transact(runs.start_many, StartRequest("job", "tester", delay=60.0), 25)
    make_due(db)
    assert [db.transact(runs.promote_due, "w1", 10) for _ in range(4)] == [10, 10, 5, 0]


def test_the_same_key_gives_the_same_run(db: Database) -> None:
    define(db, job={}, other={})
    first = start(db, "job", key="2031-01-01")
    assert start(db, "job", key="2031-01-01") == first
    assert start(db, "job", key="2031-01-02") != first
    assert start(db, "other", key="2031-01-01") != first
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed)
    assert start(db, "job", key="2031-01-01") == first


def test_a_key_that_is_too_long_is_refused(db: Database) -> None:
    define(db, job={})
    assert start(db, "job", key="k" * 200)
    with pytest.raises(Refused, match="key has 201 characters; 200 is the most"):
        start(db, "job", key="k" * 201)


def test_a_time_that_no_zone_has_is_refused(db: Database) -> None:
    define(db, job={})
    with pytest.raises(Refused, match="cannot begin in the year 9999; give a time in the years 1970 to 2999"):
        start(db, "job", at=datetime(9999, 12, 31, tzinfo=UTC))


def test_concurrent_starts_with_the_same_key_give_one_run(db: Database) -> None:
    define(db, job={})
    found = together(8, lambda _: [start(db, "job", key=f"k{number}") for number in range(5)])
    assert all(one == found[0] for one in found)
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(run)).scalar_one() == 5


def test_many_are_started_in_bounded_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert admission.BATCH <= 1000
    monkeypatch.setattr(admission, "BATCH", 100)
    define(db, job={})
    inserts: list[str] = []

    def listen(conn: Any, cursor: Any, statement: str, *more: Any) -> None:
        inserts.extend(re.findall(r"INSERT INTO (?:jobfac\.)?run \(", statement))

    sa.event.listen(db.engine, "before_cursor_execute", listen)
    ids = db.transact(runs.start_many, StartRequest("job", "tester", payload="p"), 250)
    assert len(set(ids)) == 250
    assert ids == sorted(ids)
    assert len(inserts) >= 3
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).where(run.c.state == "queued")).scalar_one() == 250
    assert events(db, ids[0]) == events(db, ids[-1]) == ["queued"]


def test_an_unknown_job_is_not_found(db: Database) -> None:
    with pytest.raises(NotFound, match="There is no job 'nothing'; `jobfac jobs list` shows what there is"):
        start(db, "nothing")
    with pytest.raises(NotFound):
        db.transact(runs.start_many, StartRequest("nothing", "tester"), 3)


def test_a_disabled_job_is_not_started(db: Database) -> None:
    define(db, job={"enabled": False})
    with pytest.raises(Refused, match="'job' is disabled; `jobfac jobs enable job`"):
        start(db, "job")
    with pytest.raises(Refused):
        start(db, "job", manual=False)


def test_on_demand_false_refuses_only_manual_starts(db: Database) -> None:
    define(db, job={"on_demand": False})
    with pytest.raises(Refused, match="may not be started by hand: its definition says on_demand: false"):
        start(db, "job")
    assert start(db, "job", manual=False)


def test_replace_arguments_false_refuses_other_arguments(db: Database) -> None:
    define(db, job={"replace_arguments": False, "arguments": ["a"]})
    with pytest.raises(Refused, match="takes no other arguments: its definition says replace_arguments: false"):
        start(db, "job", arguments=["b"])
    assert start(db, "job", payload="a payload is no argument")
    assert start(db, "job", arguments=["a schedule's"], manual=False)


def test_a_run_keeps_the_version_it_was_started_with(db: Database) -> None:
    define(db, job={"command": ["one"]})
    first = start(db, "job")
    define(db, job={"command": ["two"]})
    second = start(db, "job")
    assert [get(db, run_id)["job_version"] for run_id in (first, second)] == [1, 2]
    assert {(c.id, c.job_version) for c in Hand(db).claim()} == {(first, 1), (second, 2)}


def test_many_different_requests_are_answered_in_order(db: Database) -> None:
    define(db, free={}, single={"already_running": "deny"}, off={"enabled": False})
    jobs = ["free", "nothing", "single", "free", "off", "single"]
    answers = db.transact(runs.start_each, [StartRequest(job, "tester", manual=False) for job in jobs])
    assert isinstance(answers[1], NotFound)
    assert isinstance(answers[4], Refused)
    started = [one for position in (0, 2, 3, 5) if isinstance(one := answers[position], int)]
    assert states(db, started) == ["queued", "queued", "queued", "denied"]
    assert [get(db, one)["job"] for one in started] == ["free", "single", "free", "single"]


def test_a_finished_run_is_retried(db: Database) -> None:
    define(db, job={"on_demand": False, "replace_arguments": False})
    first = start(db, "job", manual=False, arguments=["x"], payload="p", priority=4)
    with pytest.raises(Refused, match=f"Run {first} is still queued; stop it first, or wait for its end"):
        db.transact(runs.retry, first, "me")
    hand = Hand(db)
    hand.end(hand.take())
    again = get(db, db.transact(runs.retry, first, "me").run_id)
    assert (again["retry_of"], again["created_by"], again["state"]) == (first, "me", "queued")
    assert (origin(db, first), origin(db, again["id"])) == ("tester", f"retry of run {first} by me")
    assert (again["arguments"], again["payload"], again["priority"]) == ('["x"]', "p", 4)
    with pytest.raises(NotFound, match="There is no run 99999"):
        db.transact(runs.retry, 99999, "me")
