"""Notifications from the end of a real run to a real mailbox and receiver, while schedulers are killed."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac.channels import webhook
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import notification, run
from jobfac.scheduler.notifier import LEASE
from jobfac.settings import Settings
from jobfac.states import RunState
from jobfac.store import runs
from jobfac.store.outbox.delivery import JITTER
from tests.roles.scheduler.test_scheduler import put, runs_of, scheduling
from tests.support.database import Hand, define, start
from tests.support.engines import EACH_DIALECT
from tests.support.factory import Factory, wait_for
from tests.support.receivers import Mailbox, Post, Receiver, mailbox, part, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


def states(db: Database) -> dict[str, int]:
    """Return how many notifications are in each state."""
    with db.read() as conn:
        rows = conn.execute(sa.select(notification.c.state, sa.func.count()).group_by(notification.c.state))
        return {row.state: row[1] for row in rows}


def make_due(db: Database, taken_too: bool = True) -> None:
    """Make postponed notifications due, and let the claims of notifiers expire."""
    where = [notification.c.state == "waiting"]
    if not taken_too:
        where.append(~notification.c.due_at.between(utcnow((LEASE - 10) * 1000), utcnow(LEASE * 1000 + JITTER)))
    with db.begin() as conn:
        conn.execute(notification.update().where(*where).values(due_at=utcnow(-1)))


def stop_runs(db: Database, job: str, count: int) -> list[int]:
    """Create ``count`` runs that end at once; returns their ids."""
    ids = [start(db, job) for _ in range(count)]
    for run_id in ids:
        db.transact(runs.request_stop, run_id, now=False, by="tester")
    return ids


def ids_of(posts: list[Post]) -> list[str]:
    return [post.headers["jobfac-id"] for post in posts]


def test_a_failing_program_causes_a_mail_and_a_webhook(factory: Factory, receiver: Receiver, box: Mailbox) -> None:
    text = """
defaults:
  money:
    notify:
      - {on: [failed], to: {email: ops@example.org}}
jobs:
  export:
    command: [sh, -c, "echo some output; echo 'no <rows>' >&2; exit 3"]
    category: money
    notify:
      - {on: [started, finished], to: {webhook: "HOOK", secret: "env:HOOK_KEY"}}
""".replace("HOOK", receiver.url, 1)
    (factory.folder / "jobs.yaml").write_text(text)
    assert "+ defaults of money\n+ export\n" in factory.run("apply", "jobs.yaml").stdout
    assert "defaults:\n  money:\n" in factory.run("export").stdout
    factory.worker()
    smtp = {"JOBFAC_SMTP_HOST": "127.0.0.1", "JOBFAC_SMTP_PORT": str(box.port), "JOBFAC_SMTP_TLS": "none"}
    scheduler = factory.role("scheduler", HOOK_KEY="k3y", **smtp)
    run_id = factory.start("export")
    wait_for(lambda: len(receiver.posts) == 2 and box.mails, "two posts and a mail")
    bodies = {body["event"]: body for body in (json.loads(post.body) for post in receiver.posts)}
    began, ended = bodies["started"], bodies["failed"]
    assert (began["event"], began["state"], began["id"]) == ("started", "running", run_id)
    shown = {key: value for key, value in factory.show(run_id).items() if key not in ("attempts", "events")}
    assert ended == shown | {"event": "failed", "detail": "exit code 3"}
    assert all(post.headers["jobfac-signature"] for post in receiver.posts)
    (mail,) = box.mails
    assert mail["Subject"] == "[jobfac] export failed: exit code 3"
    assert "some output\n" in part(mail, "plain")
    assert "no &lt;rows&gt;" in part(mail, "html")
    db = Database(factory.url)
    wait_for(lambda: states(db) == {"delivered": 3}, "all three delivered")
    db.close()
    scheduler.terminate()
    assert scheduler.wait(10) == 0
    assert "k3y" not in (factory.folder / "scheduler-1.log").read_text()


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_killed_schedulers_lose_no_notification(factory: Factory, receiver: Receiver) -> None:
    """Schedulers are killed at random moments, while the receiver fails and answers late.

    Every notification arrives, and repeated ones have the same id.
    """
    db = Database(factory.url)
    count = 40 if db.dialect.name == "sqlite" else 16
    define(db, a={"notify": [{"on": ["stopped"], "to": {"webhook": receiver.url}}]})
    chance = random.Random(7)
    receiver.answer = lambda post: 503 if chance.random() < 0.2 else 200
    done = stop_runs(db, "a", count)
    for _ in range(4):
        scheduler = factory.role("scheduler")
        posts = len(receiver.posts) + chance.randrange(1, count // 3)

        def some_posts(posts: int = posts) -> bool:
            make_due(db, taken_too=False)
            return len(receiver.posts) >= posts or states(db) == {"delivered": count}

        wait_for(some_posts, "some posts")
        scheduler.kill()
        scheduler.wait()
        make_due(db)
    factory.role("scheduler")

    def all_delivered() -> bool:
        make_due(db, taken_too=False)
        return states(db) == {"delivered": count}

    wait_for(all_delivered, "all delivered")
    bodies: dict[str, bytes] = {}
    for post in receiver.posts:
        assert bodies.setdefault(post.headers["jobfac-id"], post.body) == post.body
    assert sorted(json.loads(body)["id"] for body in bodies.values()) == done
    db.close()


def test_a_stalled_receiver_delays_no_other_notification(db: Database, settings: Settings, receiver: Receiver) -> None:
    with receiving() as quick:
        define(
            db,
            slow={"notify": [{"on": ["stopped"], "to": {"webhook": receiver.url}}]},
            fast={"notify": [{"on": ["stopped"], "to": {"webhook": quick.url}}]},
        )
        put(db, "each-second", schedules=[{"every": 1}])
        receiver.answer = lambda post: None
        with scheduling(db, settings):
            stop_runs(db, "slow", 40)  # all of its threads would be busy for a minute
            assert receiver.stalled.wait(30)
            inserted = runs_of(db, run.c.job == "each-second")
            stop_runs(db, "fast", 3)
            wait_for(lambda: len(quick.posts) == 3, "three quick posts")
            wait_for(lambda: runs_of(db, run.c.job == "each-second") >= inserted + 2, "two more runs")
            receiver.release()
            wait_for(lambda: states(db) == {"delivered": 43}, "all delivered")


def test_after_a_late_answer_the_same_notification_is_sent_again(
    db: Database, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.3)
    define(db, a={"notify": [{"on": ["stopped"], "to": {"webhook": receiver.url}}]})
    receiver.answer = lambda post: None if len(receiver.posts) == 1 else 200
    with scheduling(db, settings, count=2):
        stop_runs(db, "a", 1)
        wait_for(lambda: errors(db) == ["127.0.0.1 did not answer in time"], "the first try given up")
        receiver.release()
        make_due(db)
        wait_for(lambda: states(db) == {"delivered": 1}, "delivered")
    assert len(receiver.posts) == 2
    assert len(set(ids_of(receiver.posts))) == 1


def errors(db: Database) -> list[str | None]:
    with db.read() as conn:
        return list(conn.execute(sa.select(notification.c.error).order_by(notification.c.id)).scalars())


def test_several_schedulers_deliver_each_notification_once(
    db: Database, settings: Settings, receiver: Receiver
) -> None:
    define(db, a={"notify": [{"on": ["stopped"], "to": {"webhook": receiver.url}}]})
    with scheduling(db, settings, count=3):
        stop_runs(db, "a", 12)
        wait_for(lambda: states(db) == {"delivered": 12}, "all delivered")
    assert len(receiver.posts) == len(set(ids_of(receiver.posts))) == 12


def test_dead_notifications_are_listed_and_requeued(sqlite_factory: Factory, receiver: Receiver) -> None:
    factory, db = sqlite_factory, Database(sqlite_factory.url)
    define(db, a={"notify": [{"on": ["failed"], "to": {"webhook": f"{receiver.url}/t0ken"}}]})
    receiver.answer = lambda post: 500
    hand = Hand(db)
    start(db, "a")
    hand.end(hand.take(), RunState.FAILED)
    factory.role("scheduler")

    wait_for(lambda: errors(db) == ["127.0.0.1 answered 500"], "the first try")
    with db.begin() as conn:
        conn.execute(notification.update().values(tries=9, due_at=utcnow(-1)))
    wait_for(lambda: states(db) == {"dead": 1}, "given up")
    assert len(receiver.posts) == 2
    (row,) = factory.json("notify", "list", "--state", "dead")
    assert (row["job"], row["event"], row["channel"], row["to"]) == ("a", "failed", "webhook", receiver.url)
    assert (row["state"], row["tries"], row["error"]) == ("dead", 10, "127.0.0.1 answered 500")
    assert "t0ken" not in json.dumps(row)
    receiver.answer = lambda post: 200
    assert factory.run("notify", "requeue", str(row["id"])).stdout == "1 notifications were requeued\n"
    wait_for(lambda: states(db) == {"delivered": 1}, "delivered")
    assert "Not dead, so not requeued" in factory.run("notify", "requeue", str(row["id"]), code=3).stderr
    assert "delivered" in factory.run("notify", "list").stdout
    db.close()


def test_a_test_notification_shows_whether_it_arrives(
    sqlite_factory: Factory, receiver: Receiver, box: Mailbox, tmp_path: Path
) -> None:
    factory = sqlite_factory
    assert factory.run("notify", "test", "--webhook", f"{receiver.url}/x").stdout == f"sent to {receiver.url}\n"
    assert json.loads(receiver.posts[0].body)["job"] == "sample"
    receiver.answer = lambda post: 404
    assert factory.run("notify", "test", "--webhook", receiver.url, code=1).stderr == (
        "The notification could not be delivered: 127.0.0.1 answered 404.\n"
    )
    toml: dict[str, Any] = {"smtp_host": '"127.0.0.1"', "smtp_port": box.port, "smtp_tls": '"none"'}
    (factory.folder / "jobfac.toml").write_text("".join(f"{key} = {value}\n" for key, value in toml.items()))
    factory.run("notify", "test", "--email", "a@b.org")
    assert re.match(r"\[jobfac\] sample failed: only a test", box.mails[0]["Subject"])
    with (factory.folder / "jobfac.toml").open("a") as file:
        file.write('templates = "/nowhere"\n')
    assert "There is no folder /nowhere" in factory.run("notify", "test", "--email", "a@b.org").stderr
    assert factory.run("notify", "test", code=2).stderr == "Give one of --email, --webhook and --apprise.\n"
