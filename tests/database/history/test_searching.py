"""What the pages read, on every engine: searches, the latest runs, numbers, and what tells that something changed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from jobfac.api.sessions import Session, Sessions
from jobfac.database.dialects import current_time
from jobfac.database.engine import Database
from jobfac.database.tables import run
from jobfac.operations import jobs
from jobfac.operations.caller import Caller
from jobfac.states import RunState
from jobfac.store import audit, outbox, statistics
from jobfac.store.history import audit_log, counts, directory, job_history, latest, search, spans, waiting
from jobfac.store.history.search import Filter
from tests.support.database import Hand, define, start


@pytest.fixture
def runs(db: Database) -> Mapping[str, int]:
    """A failed, a succeeded, a running, a queued and a delayed run."""
    define(db, a={"category": "x"}, b={"category": "y", "description": "100%_sure"}, c={})
    found = {"failed": start(db, "a"), "succeeded": start(db, "a"), "running": start(db, "b", key="Key 7")}
    hand = Hand(db)
    for name in ("failed", "succeeded", "running"):
        claimed = hand.take()
        if name == "failed":
            hand.end(claimed, RunState.FAILED, reason="no space left")
        elif name == "succeeded":
            hand.end(claimed, exit_message="50%_done")
    return {**found, "queued": start(db, "c", key="page 42bad"), "scheduled": start(db, "c", delay=3600)}


def test_runs_are_searched(db: Database, runs: Mapping[str, int]) -> None:
    now = db.query(current_time)
    hour = timedelta(hours=1)
    cases: list[tuple[Filter, set[str]]] = [
        (Filter(), set(runs)),
        (Filter(job="a"), {"failed", "succeeded"}),
        (Filter(states=[RunState.FAILED, RunState.LOST]), {"failed"}),
        (Filter(states=[RunState.QUEUED, RunState.SCHEDULED], job="c"), {"queued", "scheduled"}),
        (Filter(states=[RunState.SUCCEEDED]), {"succeeded"}),
        (Filter(category="y"), {"running"}),
        (Filter(worker="w1"), {"failed", "succeeded", "running"}),
        (Filter(text="NO SPACE"), {"failed"}),
        (Filter(text="50%_"), {"succeeded"}),
        (Filter(text="key 7"), {"running"}),
        (Filter(text="42BAD"), set()),  # of a key that a page has made
        (Filter(since=now - hour, until=now + hour), set(runs)),
        (Filter(since=now + hour), set()),
        (Filter(until=now - hour), set()),
        (Filter(categories=["x", "y"]), {"failed", "succeeded", "running"}),
        (Filter(below=runs["running"]), {"failed", "succeeded"}),
        (Filter(sequence_run_id=99), set()),
    ]
    for wanted, names in cases:
        found = db.query(search.search, wanted, 10)
        assert [one.id for one in found.runs] == sorted((runs[name] for name in names), reverse=True), wanted
        assert (found.below, found.partial) == (None, False)
    page = db.query(search.search, Filter(), 2)
    assert (len(page.runs), page.below) == (2, page.runs[-1].id)


def test_a_search_without_an_index_is_bounded(
    db: Database, runs: Mapping[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SCAN", 2)
    found = db.query(search.search, Filter(text="no space"), 10)
    assert (found.runs, found.partial) == ([], True)
    found = db.query(search.search, Filter(text="no space", below=found.below), 10)
    found = db.query(search.search, Filter(text="no space", below=found.below), 10)
    assert [one.id for one in found.runs] == [runs["failed"]]


def test_the_first_and_the_last_day_are_days_like_others(db: Database, runs: Mapping[str, int]) -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert len(db.query(search.search, Filter(since=first, until=last), 100).runs) == len(runs)


def test_numbers_and_lists(db: Database, runs: Mapping[str, int]) -> None:
    found = db.query(counts.read)
    assert (found.failed, found.running, found.queued, found.blocked, found.scheduled, found.workers) == (
        1,
        1,
        1,
        0,
        1,
        1,
    )
    assert db.query(counts.read, ["y"]).failed == 0
    assert [one.id for one in db.query(counts.failures, 10)] == [runs["failed"]]
    assert db.query(counts.failures, 10, ["y"]) == []
    strips = db.query(latest.of_jobs, ["a", "b", "nothing"], 1)
    assert {job: [one.id for one in found] for job, found in strips.items()} == {
        "a": [runs["succeeded"]],
        "b": [runs["running"]],
    }
    assert [one.id for one in db.query(waiting.queue, 5)] == [runs["queued"], runs["scheduled"]]
    assert db.query(waiting.queue, 5, ["x"]) == []


def test_what_changed_is_noticed(db: Database, runs: Mapping[str, int]) -> None:
    before = db.query(counts.fingerprint)
    assert db.query(counts.fingerprint) == before
    start(db, "c")
    after = db.query(counts.fingerprint)
    assert after != before
    db.transact(audit.note, "me", "pause", "a/nightly")
    assert db.query(counts.fingerprint) != after


def test_jobs_are_found(db: Database, runs: Mapping[str, int]) -> None:
    def ids(**wanted: str) -> list[str]:
        return [one.id for one in db.query(directory.find, directory.Filter(**wanted), 10)]

    assert ids() == ["a", "b", "c"]
    assert ids(after="a") == ["b", "c"]
    assert ids(text="100%_S") == ["b"]
    assert ids(category="x") == ["a"]
    assert ids(state="failing") == []
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == runs["succeeded"]).values(state=RunState.LOST))
    start(db, "a")
    assert ids(state="failing") == ["a"], "the run that waits has not succeeded yet"
    assert ids(state="disabled") == ids(state="paused") == []
    assert ids(state="enabled") == ["a", "b", "c"]
    assert db.query(directory.categories) == ["x", "y"]
    assert db.query(directory.names, ["y"]) == ["b"]
    assert db.query(directory.matching, "B")


def test_the_history_of_a_job(db: Database, runs: Mapping[str, int]) -> None:
    today = db.query(current_time).date()
    assert db.query(job_history.by_day, "a", [today - timedelta(days=1), today]) == {
        today - timedelta(days=1): (0, 0, 0, 0),
        today: (1, 1, 0, 0),
    }
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == runs["failed"]).values(state=RunState.MIXED))
        conn.execute(run.update().where(run.c.id == runs["succeeded"]).values(state=RunState.STOPPED))
    assert db.query(job_history.by_day, "a", [today]) == {today: (0, 0, 1, 1)}, "not counted yet"
    db.transact(statistics.count)
    assert db.query(job_history.by_day, "a", [today]) == {today: (0, 0, 1, 1)}
    (version,) = db.query(job_history.versions, "b", 5)
    assert (version.version, version.created_by, "100%_sure" in version.definition) == (1, "tester", True)
    now = datetime.now(UTC)
    ran = db.query(spans.ran, now - timedelta(hours=1), now + timedelta(hours=1), spans.Filter("W1", ["x", "y"]), 10)
    assert {one.id for one in ran} == {runs["failed"], runs["succeeded"], runs["running"]}


def test_what_is_due_in_a_span_after_the_next_time(db: Database) -> None:
    """A schedule whose next time comes before the span was taken for one that is not due in it."""
    rules = [{"name": "often", "cron": "0 * * * *"}, {"name": "rarely", "cron": "30 0 1 1 *"}]
    for job, category in (("a", "x"), ("b", "y")):
        jobs.put(db, Caller("ann"), job, {"command": ["true"], "category": category, "schedules": rules})
    begin = (db.query(current_time) + timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)
    wanted = spans.Filter("A", ["x"])
    assert db.query(spans.due, begin, begin + timedelta(hours=1), wanted) == [("a", "often", begin)]
    assert db.query(spans.due, begin + timedelta(minutes=1), begin + timedelta(hours=1), wanted) == []


def test_a_run_is_found_in_every_span_in_which_it_was_under_way(
    db: Database, runs: Mapping[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    noon, hour = datetime(2026, 3, 1, 12, tzinfo=UTC), timedelta(hours=1)
    with db.begin() as conn:
        times = {"started_at": noon, "ended_at": noon + 3 * hour}
        conn.execute(run.update().where(run.c.id == runs["succeeded"]).values(times))

    def found(begin: datetime) -> list[int]:
        return [one.id for one in db.query(spans.ran, begin, begin + hour, spans.Filter("a", ["x"]), 10)]

    assert [len(found(noon + number * hour)) for number in range(-1, 5)] == [0, 1, 1, 1, 1, 0]
    assert db.query(spans.searched_until, noon + hour) is None
    monkeypatch.setattr(spans, "LATER", 1)
    assert found(noon + hour) == [runs["succeeded"]]
    assert db.query(spans.searched_until, noon + hour) is not None


def test_the_audit_and_the_outbox_are_searched(db: Database, runs: Mapping[str, int]) -> None:
    for subject in ("a/nightly", "b/nightly"):
        db.transact(audit.note, "Anna", "pause", subject)
    found = db.query(audit_log.find, 1, text="anna")
    assert ([one.subject for one in found.entries], found.below) == (["b/nightly"], found.entries[0].id)
    assert [one.subject for one in db.query(audit_log.find, 5, action="pause", below=found.below).entries] == [
        "a/nightly"
    ]
    assert [one.by for one in db.query(audit_log.about, ["a/nightly"], 5).entries] == ["Anna"]
    shown = db.query(outbox.find, str, None, 5, run_id=runs["failed"], below=9, categories=["x"])
    assert shown == []


def test_a_session_is_signed_by_the_database(db: Database) -> None:
    session = Session("a" * 32, 7, False, datetime.now(UTC).timestamp() + 60)
    one, other = Sessions(db), Sessions(db)
    cookie = one.write(session)
    assert other.read(cookie) == session
    assert other.verify("notice", cookie) is None
    assert other.read(cookie[:-1]) is None
    assert one.read(one.write(session._replace(expires=1.0))) is None
    with db.read() as conn:
        assert (
            conn.execute(
                sa.text(f"SELECT COUNT(*) FROM {'' if db.dialect.name == 'sqlite' else 'jobfac.'}session_key")
            ).scalar()
            == 1
        )
