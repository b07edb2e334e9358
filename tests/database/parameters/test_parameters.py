"""Parameters of runs, on every engine: checked at each start, kept, completed at the claim, searched, and retried."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobfac.database.engine import Database
from jobfac.database.tables import job_version, schedule
from jobfac.definitions import DefinitionError, from_data
from jobfac.errors import Refused
from jobfac.operations import starting
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import jobs, parameters, runs, schedules, sequences
from jobfac.store.history import search
from jobfac.store.runs import StartRequest
from jobfac.worker import turn as turn_module
from jobfac.worker.executions.deliveries import Deliveries
from jobfac.worker.turn import Turn, TurnRequest
from tests.support.database import Hand, define, get, now, start
from tests.support.sequences import Player, children, path
from tests.support.tsql import execute

LOAD: dict[str, Any] = {
    "command": ["load", "${parameters.day}"],
    "parameters": {
        "day": {"type": "date", "default": "${due.date - 1d}"},
        "region": {"type": "choice", "choices": ["eu", "us"], "required": True},
        "limit": {"type": "integer", "minimum": 1, "default": 1000},
        "batch": {"default": "b-${run.id}"},
        "token": {"sensitive": True},
    },
}


def values(db: Database, run_id: int) -> dict[str, Any]:
    """The values of a run, as everybody may see them."""
    with db.read() as conn:
        return runs.get(conn, run_id).parameters or {}


def take(hand: Hand) -> list[Any]:
    """Claim all runs as a worker's turn does."""
    nothing = Deliveries([], [], [], [], {}, [], {}, set())
    turn = Turn(TurnRequest(hand.id, hand.name, {"default": 1}, False, 10, 10, nothing), {})
    return list(hand.db.transact(turn.take).claimed)


def test_a_worker_does_not_remember_definitions_without_end(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "KNOWN", 2)
    hand, known = Hand(db), dict[Any, Any]()
    for number in range(6):
        define(db, job={"name": str(number)})
        start(db, "job")
        nothing = Deliveries([], [], [], [], {}, [], {}, set())
        turn = Turn(TurnRequest(hand.id, hand.name, {"default": 1}, False, 10, 10, nothing), known)
        (claimed,) = hand.db.transact(turn.take).claimed
        assert known[claimed.job, claimed.job_version].name == str(number)
        assert len(known) <= 3


def test_a_worker_reads_definitions_again_on_a_new_connection(db: Database) -> None:
    """A failover may have lost the last version of a job, so another definition has its number now."""
    hand, known = Hand(db), dict[Any, Any]()
    nothing = Deliveries([], [], [], [], {}, [], {}, set())
    turn = Turn(TurnRequest(hand.id, hand.name, {"default": 1}, False, 10, 10, nothing), known)
    define(db, job={"name": "lost"})
    start(db, "job")
    (claimed,) = db.transact(turn.take).claimed
    with db.begin() as conn:
        conn.execute(job_version.update().values(definition=json.dumps({"command": ["true"], "name": "stored"})))
    db.engine.dispose()
    start(db, "job")
    assert db.transact(turn.take).claimed[0].job_version == claimed.job_version
    assert known[claimed.job, claimed.job_version].name == "stored"


def test_a_run_keeps_its_values(db: Database) -> None:
    define(db, load=LOAD)
    run_id = start(db, "load", parameters={"region": "eu", "limit": "5", "token": "geheim"})
    day = (now(db) - timedelta(days=1)).date().isoformat()
    kept = {"day": day, "region": "eu", "limit": 5, "token": "***"}
    assert values(db, run_id) == kept
    assert json.loads(get(db, run_id)["sensitive"]) == {"token": "geheim"}
    (claimed,) = take(Hand(db))
    assert json.loads(claimed.parameters) == {**kept, "batch": f"b-{run_id}"}
    assert values(db, run_id) == {**kept, "batch": f"b-{run_id}"}
    with db.read() as conn:
        assert parameters.sensitive_of(conn, run_id) == {"token": "geheim"}


def test_a_start_with_a_mistake_starts_nothing(db: Database) -> None:
    define(db, load=LOAD)
    with pytest.raises(DefinitionError, match=r"parameters\.region must be given"):
        start(db, "load")
    with pytest.raises(DefinitionError, match=r"parameters\.limit must be a whole number of at least 1, not 0"):
        starting.start(db, Caller("me"), StartRequest("load", "me", parameters={"region": "eu", "limit": 0}))
    with db.read() as conn:
        assert search.find_all(conn) == []


def test_a_start_by_hand_needs_no_trigger(db: Database) -> None:
    first = {"path": {"default": "${trigger.path}"}}
    define(
        db,
        direct={"command": ["load", "$${trigger.path}", "${trigger.path}"], "arguments": ["${trigger.run.id}"]},
        given={"arguments": ["${trigger.run.id}"]},
        declared={"command": ["load", "${parameters.path}"], "parameters": first},
        seq={"steps": [{"name": "one", "jobs": "given", "arguments": {"given": ["x"]}}]},
    )
    says = r"cannot be started by hand: command\[2\] refers to \$\{trigger.path\}, which this start does not have"
    with pytest.raises(Refused, match=says):
        start(db, "direct", arguments=["x"])
    with pytest.raises(Refused, match=r"arguments\[0\] refers to \$\{trigger.run.id\}, which"):
        start(db, "given")
    with pytest.raises(DefinitionError, match="refers to"):
        start(db, "declared")
    for job, more in (("given", {"arguments": ["x"]}), ("declared", {"parameters": {"path": "/in/a"}}), ("seq", {})):
        start(db, job, **more)
    db.transact(runs.start, StartRequest("direct", "s", manual=False, origin={"path": "/in/a", "run": {"id": 1}}))


def test_runs_are_found_by_their_values(db: Database) -> None:
    define(db, load=LOAD, flags={"parameters": {"on": {"type": "boolean"}, "x": {"type": "number"}}})
    eu, us = (start(db, "load", parameters={"region": region, "token": "t"}) for region in ("eu", "us"))
    flagged = start(db, "flags", parameters={"on": True, "x": 0.5})

    def found(**wanted: str) -> list[int]:
        with db.read() as conn:
            return [run.id for run in search.find_all(conn, search.Filter(parameters=tuple(wanted.items())))]

    assert found(region="eu") == [eu]
    assert found(limit="1000", region="us") == [us]
    assert found(limit="1000") == [us, eu]
    assert found(on="true") == found(x="0.5") == [flagged]
    assert found(token="t") == found(region="' OR 1=1 --") == []


@pytest.mark.parametrize("for_each", [{}, {"for_each": {"region": ["eu"]}}])
def test_a_running_sequence_gives_no_sensitive_value_to_what_would_show_it(
    db: Database, for_each: dict[str, Any]
) -> None:
    token = {"token": {"sensitive": True}}
    give = {"load": {"token": "${parameters.token}"}}
    steps = [{"name": "a", "jobs": "first"}, {"name": "b", "jobs": "load", "parameters": give, **for_each}]
    region: dict[str, Any] = {"region": {}}
    define(db, first={}, load={"parameters": {**token, **region}}, seq={"parameters": token, "steps": steps})
    run_id, player = start(db, "seq", parameters={"token": "secret"}), Player(db)
    player.look()
    define(db, load={"parameters": {"token": {}, **region}})
    player.finish("first")
    assert player.look() == []
    assert get(db, run_id)["reason"] == (
        "step 'b' failed: the parameter 'token' of job 'load' is not sensitive, so lists would show a sensitive value "
        "of the sequence; declare it sensitive"
    )
    define(db, load={"parameters": {**token, **region}})
    db.transact(sequences.retry, run_id, "me", from_failed=True)
    assert player.look() == ["load"]


def test_a_key_stands_for_its_values(db: Database) -> None:
    define(db, load=LOAD)
    first = start(db, "load", key="k", parameters={"region": "eu", "limit": 5})
    assert start(db, "load", key="k", parameters={"region": "eu", "limit": "5"}) == first
    for other in ({"region": "us", "limit": 5}, {"region": "eu"}, {"region": "eu", "limit": 5, "token": "x"}):
        with pytest.raises(DefinitionError, match="differs in parameters"):
            start(db, "load", key="k", parameters=other)


def test_a_schedule_gives_values_and_dates_in_its_zone(db: Database) -> None:
    rule = {
        "every": "1m",
        "timezone": "Asia/Tokyo",
        "missed": "once",
        "parameters": {"region": "eu", "limit": 7},
        "payload": "${due.date} ${parameters.region}",
        "arguments": ["${due.at}", "$${due.at}"],
    }
    db.transact(schedules.put, "load", from_data({"jobs": {"load": {**LOAD, "schedules": [rule]}}}).jobs["load"], "me")
    due = now(db) - timedelta(hours=1)
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=due, fire_at=due))
    (run_id,) = db.transact(schedules.insert_due, "s1").runs
    row = get(db, run_id)
    local = json.loads(row["origin"])["due"]
    assert local.endswith("+09:00")
    assert datetime.fromisoformat(local) == row["due_at"]
    day = datetime.fromisoformat(local).date()
    assert values(db, run_id) == {
        "day": (day - timedelta(days=1)).isoformat(), "region": "eu", "limit": 7, "token": None,
    }  # fmt: skip
    assert row["payload"] == f"{day.isoformat()} eu"
    assert json.loads(row["arguments"]) == [local, "${due.at}"]


def test_a_preview_shows_the_values(db: Database) -> None:
    rules = [
        {"cron": "0 6 * * *", "parameters": {"region": "eu"}},
        {"cron": "0 7 * * *", "parameters": {"region": "us"}},
    ]
    define(db, load={**LOAD, "schedules": rules}, since={
        "parameters": {"d": {"default": "${previous.success.date}"}}, "schedules": [{"cron": "0 6 * * *"}],
    })  # fmt: skip
    with db.read() as conn:
        six, seven = schedules.preview(conn, "load", 2, datetime.fromisoformat("2027-01-31T00:00:00+00:00"))
        (never,) = schedules.preview(conn, "since", 1)
    assert (six.parameters or {})["day"] == "2027-01-30"
    assert [(one.parameters or {})["region"] for one in (six, seven)] == ["eu", "us"]
    assert "has not succeeded before" in (never.reason or "")


def test_the_steps_of_a_sequence_pass_values_on(db: Database) -> None:
    steps = [
        {"name": "one", "jobs": ["first"]},
        {
            "name": "two",
            "jobs": ["load"],
            "parameters": {"load": {
                "day": "${parameters.day}", "region": "${parameters.region}",
                "limit": "${steps.one.first.outputs.rows}",
            }},
            "arguments": {"load": ["${parameters.region}-${due.date}", "${steps.one.first.outputs.text}"]},
        },
    ]  # fmt: skip
    own = {"day": {"type": "date", "default": "${due.date}"}, "region": {"default": "eu"}}
    define(db, load=LOAD, first={}, seq={"steps": steps, "parameters": own})
    player = Player(db)
    run_id = start(db, "seq", parameters={"day": "2027-01-31"})
    player.look()
    player.finish("first", outputs=json.dumps({"rows": 12, "text": "${parameters.region}"}))
    child = children(db, run_id)[1]
    assert json.loads(child["parameters"]) == {"day": "2027-01-31", "region": "eu", "limit": 12, "token": None}
    today = json.loads(get(db, run_id)["origin"])["due"][:10]
    assert json.loads(child["arguments"]) == [f"eu-{today}", "${parameters.region}"]


def test_a_step_with_a_wrong_value_fails(db: Database) -> None:
    step = {"name": "one", "jobs": ["load"], "parameters": {"load": {"region": "${parameters.region}"}}}
    define(db, load=LOAD, seq={"steps": [step], "parameters": {"region": {}}})
    player = Player(db)
    run_id = start(db, "seq", parameters={"region": "asia"})
    player.look()
    assert path(db, run_id) == ["one:failure>end_failed"]
    with db.read() as conn:
        (visit,) = sequences.step_history(conn, run_id)
    assert visit.runs[0].reason == "job 'load': parameters.region must be one of eu, us, not 'asia'"


def test_a_statement_that_changes_a_definition_later_does_not_hurt_a_waiting_run(db: Database) -> None:
    define(db, load=LOAD)
    run_id = start(db, "load", parameters={"region": "eu"})
    define(db, load={**LOAD, "parameters": {"other": {"required": True}}, "command": ["load"]})
    (claimed,) = take(Hand(db))
    assert (claimed.job_version, json.loads(claimed.parameters)["batch"]) == (1, f"b-{run_id}")


def test_nothing_is_stored_for_jobs_without_parameters(db: Database) -> None:
    define(db, plain={}, dated={"command": ["x", "${due.date}"]})
    row, dated = (get(db, start(db, job)) for job in ("plain", "dated"))
    assert (row["parameters"], row["sensitive"], row["origin"]) == (None, None, None)
    assert (dated["parameters"], "due" in json.loads(dated["origin"])) == (None, True)


def test_a_run_of_a_schedule_in_utc_is_for_the_day_in_utc(db: Database) -> None:
    """Also of a job whose first schedule has another zone, and so is what repeats it."""
    rules = [{"cron": "0 6 * * *", "timezone": "Pacific/Kiritimati"}, {"cron": "0 20 * * *"}]
    day = {"type": "date", "default": "${due.date}"}
    define(db, load={"schedules": rules, "parameters": {"day": day}}, plain={"schedules": rules})
    due = datetime(2027, 1, 30, 20, tzinfo=UTC)
    assert values(db, start(db, "load", manual=False, due_at=due)) == {"day": "2027-01-30"}
    assert values(db, start(db, "load", at=due)) == {"day": "2027-01-31"}, "by hand: the zone of the first one"
    run_id = start(db, "plain", manual=False, due_at=due)
    hand = Hand(db)
    hand.end(next(one for one in hand.claim(9) if one.id == run_id), RunState.FAILED)
    repeated = [starting.retry(db, Caller("me"), run_id).id]
    if db.dialect.name == "mssql":
        execute(db, "stop_run", run=repeated[0])
        repeated.append(execute(db, "retry_run", run=run_id))
    for one in (run_id, *repeated):
        with db.read() as conn:
            stored = jobs.load(conn, "plain")
        assert stored is not None
        row = get(db, one)
        for_day = parameters.due_of(row["origin"], row["due_at"], row["created_at"], stored.definition)
        assert for_day.isoformat() == due.isoformat()


def test_a_sequence_that_is_started_at_a_time_stands_for_it_in_all_of_its_jobs(db: Database) -> None:
    """Its own texts need no time, and so its jobs stood for the day of the start."""
    day = {"type": "date", "default": "${due.date}"}
    define(db, load={"parameters": {"day": day}}, night={"steps": [{"name": "one", "jobs": "load"}]})
    run_id = start(db, "night", at=datetime(2026, 3, 20, 3, tzinfo=UTC))
    db.transact(runs.promote_due, "s1")
    db.transact(sequences.begin, "s1")
    assert [values(db, child["id"]) for child in children(db, run_id)] == [{"day": "2026-03-20"}]
