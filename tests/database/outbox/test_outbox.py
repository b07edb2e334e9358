"""The outbox: the events that are recorded, and the recipients that they are addressed to."""

import contextlib
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.engine import Database
from jobfac.database.tables import outbox_event, schedule
from jobfac.definitions import DefinitionError
from jobfac.errors import Refused
from jobfac.states import RunState
from jobfac.store import outbox, runs, schedules, sequences
from jobfac.store.jobs import category_defaults
from jobfac.store.outbox import OutboxEvent
from jobfac.store.runs.event import Event
from jobfac.views.serialization import as_json
from tests.support.database import Hand, define, make_due, now, start, state
from tests.support.outbox import OPS, apply_defaults, notified_events, on, rows
from tests.support.sequences import Player


def test_a_notification_contains_the_run_at_the_time_of_the_event(db: Database) -> None:
    define(db, a={"notify": [on("started", "failed")]})
    run_id = start(db, "a", payload="ü")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, exit_code=3, reason="exit code 3")
    assert notified_events(db) == [("a", "started"), ("a", "failed")]
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
        assert conn.execute(sa.select(sa.func.count()).select_from(outbox_event)).scalar_one() == 0


def test_runs_without_a_subscription_cost_no_statement(db: Database) -> None:
    define(db, quiet={}, picky={"notify": [on("failed")]})
    statements: list[str] = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    hand = Hand(db)
    counts = []
    for job in ("quiet", "picky"):
        statements.clear()
        start(db, job)
        hand.end(hand.take())
        counts.append(len(statements))
        assert not [text for text in statements if "news" in text or "notification" in text]
    assert counts[0] == counts[1]
    assert notified_events(db) == []


def test_a_rolled_back_event_is_not_notified(db: Database) -> None:
    define(db, a={"notify": [on("stopped")]})
    run_id = start(db, "a")
    with contextlib.suppress(InterruptedError), db.begin() as conn:
        runs.request_stop(conn, run_id, now=False, by="me")
        raise InterruptedError
    assert notified_events(db) == []


def test_each_final_state_is_notified(db: Database) -> None:
    define(db, a={"notify": [on("finished")]})
    hand = Hand(db)
    ends = ["succeeded", "failed", "timed_out", "stopped", "start_failed"]
    for word in ends:
        start(db, "a")
        hand.end(hand.take(), RunState(word))
    assert [event for _, event in notified_events(db)] == ends


def test_a_retry_and_its_end_are_notified(db: Database) -> None:
    define(db, a={"notify": [on("retry", "failed", "started")], "retry": {"attempts": 2}})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED, reason="exit code 1", retry_after=5.0)
    make_due(db)
    db.transact(runs.promote_due, "w")
    hand.end(hand.take(), RunState.FAILED)
    assert notified_events(db) == [("a", "started"), ("a", "retry"), ("a", "failed")]
    assert json.loads(rows(db)[1]["body"])["detail"] == "failed: exit code 1; again in 5.0 s"


def test_a_run_that_is_retried_does_not_say_how_the_attempt_before_ended(db: Database) -> None:
    define(db, a={"notify": [on("running_long")], "retry": {"attempts": 2}})
    run_id, hand = start(db, "a"), Hand(db)
    hand.end(hand.take(), RunState.FAILED, exit_code=9, reason="exit code 9", retry_after=5.0)
    make_due(db)
    db.transact(runs.promote_due, "w")
    hand.take()
    with db.begin() as conn:
        runs.record(conn, [Event(run_id, 2, "running_long", "w", "still running after 1s", "running_long")])
    assert notified_events(db) == [("a", "running_long")]
    body = json.loads(rows(db)[0]["body"])
    assert (body["state"], body["exit_code"], body["signal"], body["reason"]) == ("running", None, None, None)


def test_the_loss_of_a_worker_is_notified(db: Database) -> None:
    define(
        db,
        lost={"restartable": False, "notify": [on("finished")]},
        again={"notify": [on("finished")]},
    )
    lost, again, stopping = start(db, "lost"), start(db, "again"), start(db, "again")
    hand = Hand(db)
    hand.claim()
    db.transact(runs.request_stop, stopping, now=False, by="me")
    hand.die()
    assert sorted(notified_events(db)) == [("again", "stopped"), ("lost", "lost")]
    assert [state(db, one) for one in (lost, again, stopping)] == ["lost", "queued", "stopped"]


def test_a_stop_of_a_waiting_run_is_notified(db: Database) -> None:
    define(db, a={"notify": [on("stopped")]})
    db.transact(runs.request_stop, start(db, "a"), now=False, by="me")
    assert notified_events(db) == [("a", "stopped")]
    assert json.loads(rows(db)[0]["body"])["reason"] == "stopped by me before it began"


def test_a_denial_is_notified_at_the_start_and_at_the_due_time(db: Database) -> None:
    define(db, a={"already_running": "deny", "notify": [on("denied")]})
    later = start(db, "a", delay=60.0)
    start(db, "a")
    assert state(db, start(db, "a")) == "denied"
    make_due(db)
    db.transact(runs.promote_due, "w")
    assert state(db, later) == "denied"
    assert notified_events(db) == [("a", "denied")] * 2


def test_events_of_a_job_are_delivered_to_whom_they_concern(db: Database) -> None:
    def item(job: str, event: str) -> OutboxEvent:
        return OutboxEvent(job, event, {"job": job}, detail="why")

    every = ("overdue", "on_time_again", "paused", "held")
    define(db, a={"notify": [on(*every)]}, b={"notify": [on("failed")]})
    db.transact(outbox.record, [item(job, event) for job in "ab" for event in every])
    assert sorted(notified_events(db)) == sorted(("a", event) for event in every)


def test_running_long_is_notified_for_each_attempt_or_once(db: Database) -> None:
    define(
        db,
        each={"notify": [on("running_long")]},
        once={"notify": [on("running_long", once=True)]},
        quiet={"notify": [on("failed")]},
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
        notified_events(db)
    assert sorted(notified_events(db)) == [("each", "running_long"), ("each", "running_long"), ("once", "running_long")]
    assert json.loads(rows(db)[0]["body"])["detail"] == "still running after 1s"


def test_a_missed_due_time_is_notified(db: Database) -> None:
    body = {"command": ["true"], "schedules": [{"cron": "0 * * * *", "missed": "skip"}]}
    jobs = {"a": {**body, "notify": [on("missed")]}, "quiet": body}
    for job, definition in d.from_data({"jobs": jobs}).jobs.items():
        db.transact(schedules.put, job, definition, "me")
    past = (now(db) - timedelta(hours=5)).replace(microsecond=0)
    with db.begin() as conn:
        conn.execute(schedule.update().values(next_due_at=past, fire_at=past))
    db.transact(schedules.insert_due, "s1")
    assert notified_events(db) == [("a", "missed")]
    found = rows(db)[0]
    body = json.loads(found["body"])
    assert found["run_id"] is None
    assert (body["job"], body["schedule"], body["event"]) == ("a", "1", "missed")
    assert body["since"] == past.isoformat()
    assert "times of the schedule '1' from" in body["detail"]


# Sequences


def test_entries_apply_to_the_sequence_its_jobs_or_both(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a"], "on_failure": "end"}]
    define(
        db,
        a={},
        itself={"steps": steps, "notify": [on("started", "failed")]},
        jobs={"steps": steps, "notify": [on("started", "failed", of="jobs")]},
        both={"steps": steps, "notify": [on("started", "failed", of="both")]},
    )
    hand = Player(db)
    found = {}
    for job in ("itself", "jobs", "both"):
        before = len(notified_events(db))
        start(db, job)
        hand.look()
        hand.fail("a")
        found[job] = notified_events(db)[before:]
    assert found["itself"] == [("itself", "started"), ("itself", "failed")]
    assert found["jobs"] == [("a", "started"), ("a", "failed")]
    assert found["both"] == [("both", "started"), ("a", "started"), ("a", "failed"), ("both", "failed")]


def test_jobs_of_a_nested_sequence_inherit_subscriptions(db: Database) -> None:
    define(
        db,
        a={"notify": [on("succeeded", to={"email": ["owner@example.org"]})]},
        inner={"steps": [{"name": "one", "jobs": ["a"]}]},
        outer={"steps": [{"name": "one", "jobs": ["inner"]}], "notify": [on("succeeded", of="jobs")]},
    )
    start(db, "outer")
    hand = Player(db)
    hand.look()
    hand.finish("a")
    assert sorted(notified_events(db)) == [("a", "succeeded"), ("a", "succeeded"), ("inner", "succeeded")]


def test_a_mixed_and_a_stopped_sequence_are_notified(db: Database) -> None:
    steps = [{"name": "one", "jobs": ["a", "b"], "on_mixed": "end"}]
    define(db, a={}, b={}, s={"steps": steps, "notify": [on("finished", "recovered")]})
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
    assert notified_events(db) == [("s", "mixed"), ("s", "recovered"), ("s", "stopped")]


# Categories and single starts


def test_defaults_of_a_category_apply_to_its_jobs(db: Database) -> None:
    apply_defaults(db, money={"notify": [on("failed")]})
    define(
        db,
        a={"category": "money"},
        b={"category": "other"},
        c={"category": "money", "notify": [on("started")]},
    )
    hand = Hand(db)

    def run_all() -> None:
        for job in ("a", "b", "c"):
            start(db, job)
        for claimed in hand.claim():
            hand.end(claimed, RunState.FAILED)

    run_all()
    assert sorted(notified_events(db)) == [("a", "failed"), ("c", "failed"), ("c", "started")]
    apply_defaults(db, money={"notify": [on("succeeded")]}, other={"notify": [on("failed")]})
    run_all()
    assert sorted(notified_events(db)[3:]) == [("b", "failed"), ("c", "started")]
    apply_defaults(db)
    run_all()
    assert notified_events(db)[5:] == [("c", "started")]
    with db.read() as conn:
        assert category_defaults.load(conn) == {}


def test_a_start_may_have_its_own_recipients(db: Database) -> None:
    define(db, a={}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    run_id = start(db, "a", overrides={"notify": [on("failed")]})
    hand = Player(db)
    hand.look()
    hand.fail("a")
    db.transact(runs.retry, run_id, "me")
    hand.look()
    hand.fail("a")
    start(db, "s", overrides={"notify": [on("succeeded", of="both")]})
    hand.look()
    hand.finish("a")
    assert notified_events(db) == [("a", "failed"), ("a", "failed"), ("a", "succeeded"), ("s", "succeeded")]


def test_the_recipients_of_a_start_are_checked(db: Database) -> None:
    define(db, a={})
    with pytest.raises(DefinitionError, match=r"notify\[0\]\.on\[0\] must be .*, not 'faild'; did you mean 'failed'"):
        start(db, "a", overrides={"notify": [on("faild")]})
    with pytest.raises(DefinitionError, match=r"job 'a' cannot tell .* of 'overdue', an event of the job"):
        start(db, "a", overrides={"notify": [on("failed", "overdue")]})
    hook = "https://example.org/"
    for to in (
        {"webhook": hook, "headers": {"X": {"secret": "env:PASSWORD"}}},
        {"webhook": hook, "secret": "env:PASSWORD"},
        {"apprise": {"secret": "env:PASSWORD"}},
    ):
        with pytest.raises(Refused, match=r"A start cannot have the secret env:PASSWORD sent"):
            start(db, "a", overrides={"notify": [on("failed", to=to)]})


def test_each_address_gets_one_message(db: Database) -> None:
    apply_defaults(db, money={"notify": [on("failed", "finished")]})
    both = on("finished", to={"email": ["ops@example.org", "dev@example.org"]})
    hook = on("failed", to={"webhook": "https://example.org/"})
    define(db, a={"category": "money", "notify": [on("failed"), both, hook]})
    start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    assert notified_events(db) == [("a", "failed")] * 3
    found = rows(db)
    recipients = sorted(json.dumps(json.loads(row["recipient"])) for row in found)
    assert recipients == [
        '{"email": ["dev@example.org"]}',
        '{"email": ["ops@example.org"]}',
        '{"webhook": "https://example.org/"}',
    ]
    assert len({row["dedupe"] for row in found}) == 3


def test_the_subscriptions_at_the_start_of_a_run_apply(db: Database) -> None:
    define(db, a={"notify": [on("failed")]})
    start(db, "a")
    define(db, a={})
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    assert notified_events(db) == [("a", "failed")]


def test_an_event_of_a_removed_run_is_addressed_by_its_job(db: Database) -> None:
    define(db, a={"notify": [on("failed")]})
    run_id = start(db, "a")
    hand = Hand(db)
    hand.end(hand.take(), RunState.FAILED)
    with db.begin() as conn:
        conn.execute(sa.text("DELETE FROM jobfac.run" if db.dialect.name == "mssql" else "DELETE FROM run"))
    assert notified_events(db) == [("a", "failed")]
    assert json.loads(rows(db)[0]["body"])["id"] == run_id
