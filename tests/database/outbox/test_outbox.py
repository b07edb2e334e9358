"""The outbox: the events that are recorded, and the recipients that they are addressed to."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import news, schedule
from jobfac.definitions import DefinitionError
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import jobs, outbox, runs, schedules, sequences
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs.event import Event
from jobfac.views.serialization import as_json
from tests.support.database import Hand, define, make_due, now, start, state
from tests.support.outbox import OPS, apply_defaults, rows, tell, told
from tests.support.sequences import Player


def test_what_happens_is_told_as_it_was_at_that_moment(db: Database) -> None:
    define(db, a={"notify": [tell("started", "failed")]})
    run_id = start(db, "a", payload="ü")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, exit_code=3, reason="exit code 3")
    assert told(db) == [("a", "started"), ("a", "failed")]
    began, failed = rows(db)
    assert began["run_id"] == failed["run_id"] == run_id
    assert json.loads(began["recipient"]) == OPS
    body = json.loads(began["body"])
    assert (body["id"], body["job"], body["state"], body["attempt"], body["payload"]) == (
        run_id,
        "a",
        "running",
        1,
        "ü",
    )
    assert (body["event"], body["detail"], body["ended_at"]) == ("started", None, None)
    shown = db.query(lambda conn: as_json(runs.get(conn, run_id)))
    assert json.loads(failed["body"]) == shown | {"event": "failed", "detail": "exit code 3"}
    assert (failed["state"], failed["tries"]) == ("waiting", 0)
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(news)).scalar_one() == 0


def test_runs_of_which_nobody_wants_to_hear_cost_nothing(db: Database) -> None:
    define(db, quiet={}, picky={"notify": [tell("failed")]})
    said: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    hand = Hand(db)
    counts = []
    for job in ("quiet", "picky"):
        said.clear()
        start(db, job)
        hand.end(hand.take())
        counts.append(len(said))
        assert not [text for text in said if "news" in text or "notification" in text]
    assert counts[0] == counts[1]
    assert told(db) == []


def test_what_is_rolled_back_is_not_told(db: Database) -> None:
    define(db, a={"notify": [tell("stopped")]})
    run_id = start(db, "a")
    with db.engine.connect() as conn:
        runs.request_stop(conn, run_id, now=False, by="me")
        conn.rollback()
    assert told(db) == []


def test_final_states(db: Database) -> None:
    define(db, a={"notify": [tell("finished")]})
    hand = Hand(db)
    ends = ["succeeded", "failed", "timed_out", "stopped", "start_failed"]
    for word in ends:
        start(db, "a")
        hand.end(hand.take(), RunState(word))
    assert [event for _, event in told(db)] == ends


def test_a_retry_and_the_end_after_it(db: Database) -> None:
    define(db, a={"notify": [tell("retry", "failed", "started")], "retry": {"attempts": 2}})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, reason="exit code 1", retry_after=5.0)
    make_due(db)
    db.transact(runs.promote_due, "w")
    hand.end(hand.take(), RunState.FAILED)
    assert told(db) == [("a", "started"), ("a", "retry"), ("a", "failed")]
    assert json.loads(rows(db)[1]["body"])["detail"] == "failed: exit code 1; again in 5.0 s"


def test_a_recovery_is_the_first_success_after_a_failure(db: Database) -> None:
    define(db, a={"notify": [tell("recovered")]}, b={"notify": [tell("succeeded")]})
    hand = Hand(db)
    for word in ("succeeded", "failed", "stopped", "succeeded", "succeeded", "timed_out", "lost", "succeeded"):
        for job in ("a", "b"):
            start(db, job)
        for claimed in hand.claim():
            hand.end(claimed, RunState(word))
    found = told(db)
    assert [event for job, event in found if job == "a"] == ["recovered", "recovered"]
    assert [event for job, event in found if job == "b"] == ["succeeded"] * 4
    assert json.loads(rows(db)[1]["body"])["event"] in ("recovered", "succeeded")


def test_a_worker_that_dies(db: Database) -> None:
    define(db, lost={"restartable": False, "notify": [tell("finished")]}, again={"notify": [tell("finished")]})
    lost, again, stopping = start(db, "lost"), start(db, "again"), start(db, "again")
    hand = Hand(db)
    hand.claim()
    db.transact(runs.request_stop, stopping, now=False, by="me")
    hand.die()
    assert sorted(told(db)) == [("again", "stopped"), ("lost", "lost")]
    assert [state(db, one) for one in (lost, again, stopping)] == ["lost", "queued", "stopped"]


def test_a_stop_before_the_beginning(db: Database) -> None:
    define(db, a={"notify": [tell("stopped")]})
    db.transact(runs.request_stop, start(db, "a"), now=False, by="me")
    assert told(db) == [("a", "stopped")]
    assert json.loads(rows(db)[0]["body"])["reason"] == "stopped by me before it began"


def test_denied_at_the_start_and_when_its_time_has_come(db: Database) -> None:
    define(db, a={"already_running": "deny", "notify": [tell("denied")]})
    later = start(db, "a", delay=60.0)
    start(db, "a")
    assert state(db, start(db, "a")) == "denied"
    make_due(db)
    db.transact(runs.promote_due, "w")
    assert state(db, later) == "denied"
    assert told(db) == [("a", "denied")] * 2


def test_events_of_a_job_are_delivered_to_whom_they_concern(db: Database) -> None:
    def item(job: str, event: str) -> OutboxEvent:
        return OutboxEvent(job, event, {"job": job}, detail="why")

    every = ("overdue", "on_time_again", "paused", "held")
    define(db, a={"notify": [tell(*every)]}, b={"notify": [tell("failed")]})
    db.transact(outbox.record, [item(job, event) for job in "ab" for event in every])
    assert sorted(told(db)) == sorted(("a", event) for event in every)


def test_running_long_each_time_or_once(db: Database) -> None:
    define(
        db,
        each={"notify": [tell("running_long")]},
        once={"notify": [tell("running_long", once=True)]},
        quiet={"notify": [tell("failed")]},
    )
    for job in ("each", "once", "quiet"):
        start(db, job)
    hand = Hand(db)
    for _ in range(2):
        claims = hand.claim()
        events = [Event(c.id, c.attempt, "running_long", "w1", "still running after 1s", c.notify) for c in claims]
        for _ in range(2):  # the answer to the first commit was lost
            db.transact(runs.record, events)
        for claimed in claims:
            hand.end(claimed, RunState.QUEUED)
        told(db)
    assert sorted(told(db)) == [("each", "running_long"), ("each", "running_long"), ("once", "running_long")]
    assert json.loads(rows(db)[0]["body"])["detail"] == "still running after 1s"


def test_a_missed_time(db: Database) -> None:
    body = {"command": ["true"], "schedules": [{"cron": "0 * * * *", "missed": "skip"}]}
    jobs = {"a": {**body, "notify": [tell("missed")]}, "quiet": body}
    for job, definition in d.from_data({"jobs": jobs}).jobs.items():
        db.transact(schedules.put, job, definition, "me")
    past = (now(db) - timedelta(hours=5)).replace(microsecond=0)
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=past, fire_at=past))
    db.transact(schedules.insert_due, "s1")
    assert told(db) == [("a", "missed")]
    found = rows(db)[0]
    body = json.loads(found["body"])
    assert found["run_id"] is None
    assert (body["job"], body["schedule"], body["event"]) == ("a", "1", "missed")
    assert body["since"] == past.isoformat()
    assert "times of the schedule '1' from" in body["detail"]


# Sequences


def test_a_sequence_itself_its_jobs_or_both(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a"], "on_failure": "end"}]
    define(
        db,
        a={},
        itself={"steps": steps, "notify": [tell("started", "failed")]},
        jobs={"steps": steps, "notify": [tell("started", "failed", of="jobs")]},
        both={"steps": steps, "notify": [tell("started", "failed", of="both")]},
    )
    hand = Player(db)
    found = {}
    for job in ("itself", "jobs", "both"):
        before = len(told(db))
        start(db, job)
        hand.look()
        hand.fail("a")
        found[job] = told(db)[before:]
    assert found["itself"] == [("itself", "started"), ("itself", "failed")]
    assert found["jobs"] == [("a", "started"), ("a", "failed")]
    assert found["both"] == [("both", "started"), ("a", "started"), ("a", "failed"), ("both", "failed")]


def test_jobs_of_a_sequence_in_a_sequence(db: Database) -> None:
    define(
        db,
        a={"notify": [tell("succeeded", to={"email": ["owner@example.org"]})]},
        inner={"steps": [{"name": "one", "jobs": ["a"]}]},
        outer={"steps": [{"name": "one", "jobs": ["inner"]}], "notify": [tell("succeeded", of="jobs")]},
    )
    start(db, "outer")
    hand = Player(db)
    hand.look()
    hand.finish("a")
    assert sorted(told(db)) == [("a", "succeeded"), ("a", "succeeded"), ("inner", "succeeded")]


def test_a_sequence_that_ends_mixed_or_is_stopped(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "b"], "on_mixed": "end"}]
    define(db, a={}, b={}, s={"steps": steps, "notify": [tell("finished", "recovered")]})
    hand = Player(db)
    start(db, "s")
    hand.look()
    hand.fail("a")
    hand.finish("b")
    start(db, "s")
    hand.look()
    hand.finish("a", "b")
    stopped = start(db, "s")
    db.transact(sequences.stop, stopped, now=False, by="me")
    assert told(db) == [("s", "mixed"), ("s", "recovered"), ("s", "stopped")]


# Categories and single starts


def test_defaults_of_a_category(db: Database) -> None:
    apply_defaults(db, money={"notify": [tell("failed")]})
    define(db, a={"category": "money"}, b={"category": "other"}, c={"category": "money", "notify": [tell("started")]})
    hand = Hand(db)

    def run_all() -> None:
        for job in ("a", "b", "c"):
            start(db, job)
        for claimed in hand.claim():
            hand.end(claimed, RunState.FAILED)

    run_all()
    assert sorted(told(db)) == [("a", "failed"), ("c", "failed"), ("c", "started")]
    apply_defaults(db, money={"notify": [tell("succeeded")]}, other={"notify": [tell("failed")]})
    run_all()
    assert sorted(told(db)[3:]) == [("b", "failed"), ("c", "started")]
    apply_defaults(db)
    run_all()
    assert told(db)[5:] == [("c", "started")]
    with db.read() as conn:
        assert jobs.load_defaults(conn) == {}


def test_a_start_may_bring_its_own(db: Database) -> None:
    define(db, a={}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    run_id = start(db, "a", overrides={"notify": [tell("failed")]})
    hand = Player(db)
    hand.look()
    hand.fail("a")
    db.transact(runs.retry, run_id, "me")
    hand.look()
    hand.fail("a")
    start(db, "s", overrides={"notify": [tell("succeeded", of="both")]})
    hand.look()
    hand.finish("a")
    assert told(db) == [("a", "failed"), ("a", "failed"), ("a", "succeeded"), ("s", "succeeded")]


def test_what_a_start_brings_is_checked(db: Database) -> None:
    define(db, a={})
    with pytest.raises(DefinitionError, match=r"notify\[0\]\.on\[0\] must be .*, not 'faild'; did you mean 'failed'"):
        start(db, "a", overrides={"notify": [tell("faild")]})
    hook = "https://example.org/"
    for to in (
        {"webhook": hook, "headers": {"X": {"secret": "env:PASSWORD"}}},
        {"webhook": hook, "secret": "env:PASSWORD"},
        {"apprise": {"secret": "env:PASSWORD"}},
    ):
        with pytest.raises(Refused, match=r"A start cannot have the secret env:PASSWORD sent"):
            start(db, "a", overrides={"notify": [tell("failed", to=to)]})


def test_one_message_for_whoever_is_named_twice_and_one_for_each_address(db: Database) -> None:
    apply_defaults(db, money={"notify": [tell("failed", "finished")]})
    both = tell("finished", to={"email": ["ops@example.org", "dev@example.org"]})
    hook = tell("failed", to={"webhook": "https://example.org/"})
    define(db, a={"category": "money", "notify": [tell("failed"), both, hook]})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    assert told(db) == [("a", "failed")] * 3
    found = rows(db)
    recipients = sorted(json.dumps(json.loads(row["recipient"])) for row in found)
    assert recipients == [
        '{"email": ["dev@example.org"]}',
        '{"email": ["ops@example.org"]}',
        '{"webhook": "https://example.org/"}',
    ]
    assert len({row["dedupe"] for row in found}) == 3


def test_what_a_run_recorded_counts_not_what_the_job_says_by_now(db: Database) -> None:
    define(db, a={"notify": [tell("failed")]})
    start(db, "a")
    define(db, a={})
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    assert told(db) == [("a", "failed")]


def test_a_run_that_is_gone_is_told_as_the_job_says(db: Database) -> None:
    define(db, a={"notify": [tell("failed")]})
    run_id = start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    with db.begin() as conn:
        conn.execute(sa.text("DELETE FROM jobfac.run" if db.dialect.name == "mssql" else "DELETE FROM run"))
    assert told(db) == [("a", "failed")]
    assert json.loads(rows(db)[0]["body"])["id"] == run_id
