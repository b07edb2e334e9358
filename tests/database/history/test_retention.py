"""Retention: a job's retention determines which finished runs are purged, with all their rows."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import lists, utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import attempt, job_version, notification, run, run_event, run_output, worker
from jobfac.database.tables import audit as entries
from jobfac.states import RunState
from jobfac.store import audit, jobs, output, retention, runs
from jobfac.store.outbox import delivery
from jobfac.store.retention import Keep
from jobfac.store.runs import StartRequest
from jobfac.store.sequences import stepping
from tests.support.database import Hand, define, now, start
from tests.support.sequences import Player
from tests.support.tsql import call

DAY = 86400.0


def finish(db: Database, job: str, days_ago: Sequence[float]) -> list[int]:
    """Create runs of the job, in order, that ended ``days_ago``."""
    ids = [start(db, job) for _ in days_ago]
    hand = Hand(db, slots=len(ids))
    for claimed in hand.claim():
        hand.end(claimed)
        db.transact(output.append, [output.Stored(claimed.id, claimed.attempt, "stdout", 0, b"text")])
    moment = now(db)
    with db.begin() as conn:
        for run_id, days in zip(ids, days_ago, strict=True):
            conn.execute(run.update().where(run.c.id == run_id).values(ended_at=moment - timedelta(days=days)))
    return ids


def test_what_was_written_while_the_clock_was_ahead_keeps_nothing_else(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BATCH", 2)
    monkeypatch.setattr(delivery, "BATCH", 2)
    days = [400, 400, 400, -400, -400, -400]
    said = {"job": "a", "event": "failed", "recipient": "{}", "body": "{}", "state": "delivered", "tries": 1}
    with db.begin() as conn:
        for number, day in enumerate(days):
            at = now(db) + timedelta(days=day)
            audit.note(conn, "me", "start", f"run {number}")
            conn.execute(entries.update().where(entries.c.subject == f"run {number}").values(at=at))
            times = {"created_at": at, "due_at": at, "dedupe": f"{number}"}
            conn.execute(notification.insert().values(**said, **times))
    retention.purge_all(db, Keep(30 * DAY, audit=DAY))
    with db.read() as conn:
        for table in (entries, notification):
            assert conn.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 3, table.name


def left(db: Database) -> list[int]:
    with db.read() as conn:
        return list(conn.execute(sa.select(run.c.id).order_by(run.c.id)).scalars())


def orphans(db: Database) -> set[int]:
    with db.read() as conn:
        tables = (attempt, run_event, run_output)
        return {run_id for table in tables for run_id in conn.execute(sa.select(table.c.run_id)).scalars()}


def test_runs_older_than_their_jobs_retention_are_purged(db: Database) -> None:
    define(db, short={"retention": "5d"}, default={}, long={"retention": "100d"})
    short, default, long = (finish(db, job, [200, 50, 20, 3]) for job in ("short", "default", "long"))
    waiting = start(db, "short")
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 3 + 2 + 1
    assert left(db) == sorted([*short[3:], *default[2:], *long[1:], waiting])
    assert orphans(db) == set(left(db))
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 0


def test_surplus_runs_of_a_job_are_purged(db: Database) -> None:
    define(db, few={"retention": {"count": 2}}, both={"retention": {"count": 3, "age": "10d"}})
    few, both = finish(db, "few", [500, 400, 2, 1]), finish(db, "both", [12, 11, 9, 1])
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 4
    assert left(db) == [*few[2:], *both[2:]]


def test_what_a_job_needs_to_go_on_stays(db: Database) -> None:
    """Without it `${previous.success}` refuses each start, nobody hears of a recovery, and no schedule is paused."""
    define(db, plain={}, failing={}, pausing={"pause_after": 3}, gone={}, everywhere={})
    plain, failing, pausing, _ = (
        finish(db, job, [200, 190, 180, 170]) for job in ("plain", "failing", "pausing", "gone")
    )
    there, here = finish(db, "everywhere", [200, 190])
    for name in ("w1", "w2"):
        Hand(db, name=name)
    with db.begin() as conn:
        failed = lists.by_id(run.c.id, [plain[0], *failing[1:], *pausing])
        conn.execute(run.update().where(failed).values(state=RunState.FAILED))
        for run_id, name in ((there, "w1"), (here, "w2")):
            conn.execute(run.update().where(run.c.id == run_id).values(for_worker=name))
        jobs.remove(conn, "gone", "tester")
    retention.purge_all(db, Keep(30 * DAY))
    assert left(db) == [plain[3], failing[0], failing[3], *pausing[1:], there, here]
    db.transact(lambda conn: conn.execute(run.update().values(state=RunState.SUCCEEDED)))
    retention.purge_all(db, Keep(30 * DAY))
    assert left(db) == [plain[3], failing[3], *pausing[1:], there, here]


def test_a_sequence_that_has_skipped_all_of_its_steps_is_not_what_stays(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T-SQL purge keeps the same."""
    always = {"times": {"between": ["00:00-24:00"]}, "otherwise": "end"}
    define(db, load={}, seq={"steps": [{"name": "s", "jobs": ["load"], "start_if": always}]})
    player, ids = Player(db), []
    for is_open in (True, True, False, False):
        monkeypatch.setattr(stepping, "is_open", lambda step, instant, is_open=is_open: is_open)
        ids.append(start(db, "seq"))
        player.look()
        if is_open:
            player.finish("load")
    db.transact(lambda conn: conn.execute(run.update().values(ended_at=now(db) - timedelta(days=200), counted=True)))
    if db.dialect.name == "mssql":
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            call(conn, "purge", older_than_days=30)
    else:
        retention.purge_all(db, Keep(30 * DAY))
    kept = [ids[1], ids[3]]
    assert [one for one in left(db) if one in ids] == kept
    retention.purge_all(db, Keep(30 * DAY))
    assert [one for one in left(db) if one in ids] == kept


def test_workers_that_are_gone_keep_no_runs(db: Database) -> None:
    """Where machines come and go, each has another name."""
    define(db, everywhere={"retention": {"count": 1}})
    names = ["gone1", "gone2", "left", "there", "gone3", "gone4"]
    ids = finish(db, "everywhere", [6, 5, 4, 3, 2, 1])
    for name in ("gone1", "left", "there"):
        Hand(db, name=name)
    days = {"gone1": 8, "left": 6}
    with db.begin() as conn:
        for run_id, name in zip(ids, names, strict=True):
            conn.execute(run.update().where(run.c.id == run_id).values(for_worker=name))
        for name, ago in days.items():
            values = {"state": "stopped", "ended_at": utcnow(-ago * DAY * 1000)}
            conn.execute(worker.update().where(worker.c.name == name).values(**values))
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 3
    assert left(db) == [ids[2], ids[3], ids[5]]


def test_a_key_is_remembered_for_a_day_after_the_end(db: Database) -> None:
    define(db, a={"retention": {"count": 1}})
    with_key, later = start(db, "a", key="order-1"), start(db, "a")
    hand = Hand(db)
    for claimed in hand.claim():
        hand.end(claimed)
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 0
    assert db.transact(runs.start_once, StartRequest("a", "me", key="order-1")).run_id == with_key
    db.transact(lambda conn: conn.execute(run.update().values(ended_at=utcnow(-25 * 3600 * 1000))))
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 1
    assert left(db) == [later]


def test_a_deleted_job_keeps_the_retention_of_its_last_definition(db: Database) -> None:
    define(db, a={"retention": "5d"})
    define(db, a={"retention": "3650d"}, b={"retention": "5d"}, c={})
    kept, b, c = finish(db, "a", [400, 20]), finish(db, "b", [20, 2]), finish(db, "c", [40, 20])
    with db.begin() as conn:
        for name in "abc":
            jobs.remove(conn, name, "tester")
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 2
    assert left(db) == [*kept, b[1], c[1]]


def test_runs_of_a_job_whose_definition_cannot_be_read_stay(db: Database) -> None:
    define(db, a={"retention": "3650d"})
    ids = finish(db, "a", [400, 20])
    with db.begin() as conn:
        newer = '{"command": ["true"], "retention": {"age": 315360000.0}, "key_of_a_newer_version": 1}'
        conn.execute(job_version.update().values(definition=newer))
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 0
    assert left(db) == ids


def test_runs_of_an_unfinished_sequence_are_kept(db: Database) -> None:
    define(db, a={"retention": {"count": 1}}, s={"steps": [{"name": "one", "jobs": ["a"]}]})
    parent = start(db, "s")
    ids = finish(db, "a", [3, 2, 1])
    with db.begin() as conn:
        conn.execute(run.update().where(run.c.id == ids[0]).values(sequence_run_id=parent))
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 1
    assert left(db) == [parent, ids[0], ids[2]]
    with db.begin() as conn:
        runs.request_stop(conn, parent, now=True, by="tester")
    assert retention.purge_all(db, Keep(30 * DAY)).removed == 1
    assert left(db) == [parent, ids[2]]


def test_many_rows_are_removed_in_small_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    monkeypatch.setattr(retention, "PAGE", 2)
    jobs = ["a", "b", "c", "d", "e"]
    define(db, **{job: {} for job in jobs})
    for job in jobs:
        finish(db, job, [40, 40, 40, 40, 1])
    counts = list(retention.steps(db, Keep(30 * DAY)))
    assert sum(counts) == 20
    assert max(counts) <= 3
    assert len(left(db)) == 5
    assert orphans(db) == set(left(db))


def test_workers_that_ended_long_ago_are_removed(db: Database) -> None:
    define(db, a={})
    gone, holding, alive = Hand(db), Hand(db), Hand(db)
    start(db, "a")
    holding.take()
    moment = now(db)
    with db.begin() as conn:
        old = {"state": "dead", "ended_at": moment - timedelta(days=40)}
        conn.execute(worker.update().where(lists.by_id(worker.c.id, (gone.id, holding.id))).values(old))
    retention.purge_all(db, Keep(30 * DAY))
    with db.read() as conn:
        assert list(conn.execute(sa.select(worker.c.id).order_by(worker.c.id)).scalars()) == [holding.id, alive.id]


def test_old_audit_entries_are_removed(db: Database) -> None:
    moment = now(db)
    for days in (40, 31, 29, 0):
        db.transact(audit.note, "me", "apply", f"{days} days ago")
        with db.begin() as conn:
            that = entries.c.subject == f"{days} days ago"
            conn.execute(entries.update().where(that).values(at=moment - timedelta(days=days)))
    retention.purge_all(db, Keep(DAY, audit=30 * DAY))
    with db.read() as conn:
        kept = conn.execute(sa.select(entries.c.subject).where(entries.c.by == "me").order_by(entries.c.id)).scalars()
        assert list(kept) == ["29 days ago", "0 days ago"]


def test_an_unfinished_run_is_never_removed(db: Database) -> None:
    define(db, a={"retention": {"count": 1}})
    start(db, "a")
    running = Hand(db).take()
    ids = finish(db, "a", [400, 300])
    retention.purge_all(db, Keep(DAY))
    assert left(db) == [running.id, ids[1]]
    with db.read() as conn:
        assert runs.get(conn, running.id).state == RunState.RUNNING


def test_a_purge_that_waited_for_a_lock_goes_on_soon(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], list[float]()

    def steps(db: Database, keep: Keep) -> Iterator[int]:
        for waited in (0.01, 30.0):
            now[0] += waited
            yield 1

    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append))
    monkeypatch.setattr(retention, "steps", steps)
    assert retention.purge_all(db, Keep(DAY)).removed == 2
    assert slept == pytest.approx([0.04, 1.0])


def test_a_purge_removes_the_events_of_a_sequence_before_its_visits(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its events a retry knows that all of its visits are there."""
    removed: list[str] = []

    def note(conn: sa.Connection, table: sa.Table, run_ids: list[int]) -> int:
        removed.append(table.name)
        return remove_some(conn, table, run_ids)

    remove_some = retention._remove_some
    monkeypatch.setattr(retention, "_remove_some", note)
    define(db, a={})
    finish(db, "a", [40, 40])
    assert retention.purge_all(db, Keep(30 * DAY)).removed > 0
    assert removed.index("run_event") < removed.index("visit")
    text = (Path(__file__).parents[3] / "sql/mssql/40_maintenance.sql").read_text()
    assert text.index("DELETE TOP (@batch) FROM jobfac.run_event") < text.index("DELETE TOP (@batch) FROM jobfac.visit")
