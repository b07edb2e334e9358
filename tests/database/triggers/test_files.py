"""Files that start jobs, on every engine: each is one run, however many workers see it."""

import json
import os
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobfac import definitions as d
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import arrived_file, run, schedule
from jobfac.settings import Settings
from jobfac.store import jobs as job_store
from jobfac.store import retention, schedules
from jobfac.store.schedules import ArrivedFile, WatchedSchedule
from jobfac.worker.files.files import Files
from jobfac.worker.files.lanes import Result
from jobfac.worker.files.scanning import scan
from jobfac.worker.files.targets import Wanted, read_targets
from tests.support.database import Hand, origin, together
from tests.support.engines import EACH_DIALECT

COMMAND = {"command": ["load", "${trigger.path}"]}


def apply(db: Database, **jobs: Mapping[str, Any]) -> None:
    """Store jobs with their schedules."""

    def work(conn: sa.Connection) -> None:
        stored = {one.id: d.canonical(one.definition) for one in job_store.load_all(conn)}
        wanted = d.from_data({"jobs": {job: {**COMMAND, **body} for job, body in jobs.items()}}, known=stored).jobs
        plan = d.plan(stored, {job: d.canonical(body) for job, body in wanted.items()}, prune=False)
        schedules.apply(conn, plan, wanted, "me")

    db.transact(work)


def watched(db: Database, *pools: str) -> list[WatchedSchedule]:
    return db.query(schedules.watched, pools or ("default",))


def arrive(db: Database, *files: ArrivedFile, pool: str = "default") -> schedules.Arrived:
    (watch,) = watched(db, pool)
    return db.transact(schedules.start_arrived, watch, files)


def files(number: int, **more: Any) -> list[ArrivedFile]:
    return [ArrivedFile(**{"path": f"/in/{place}.csv", "size": 1, "modified": 1, **more}) for place in range(number)]


def rows(db: Database) -> list[sa.RowMapping]:
    """All runs, oldest first."""
    with db.read() as conn:
        return list(conn.execute(sa.select(run).order_by(run.c.id)).mappings())


def test_each_file_is_one_run_that_knows_it(db: Database) -> None:
    parameters = {"file": {"default": "${trigger.path}"}, "day": {"type": "date", "default": "${due.date}"}}
    arguments = ["${trigger.name}", "${trigger.size}"]
    rule = {"file": "/in/*.csv", "timezone": "Asia/Tokyo", "arguments": arguments}
    apply(db, load={"parameters": parameters, "schedules": [rule]})
    first = arrive(db, *files(2))
    assert (len(first.runs), len(first.handled), first.refusals) == (2, 2, [])
    again = arrive(db, *files(3))
    assert (len(again.runs), len(again.handled)) == (1, 3)
    assert len(arrive(db, *files(1, size=2)).runs) == 1
    assert len(arrive(db, *files(1, modified=2)).runs) == 1
    found = rows(db)
    cause = json.loads(found[0]["origin"])
    assert (cause["path"], cause["name"], cause["size"]) == ("/in/0.csv", "0.csv", 1)
    assert origin(db, found[0]["id"]) == "schedule 1, by the file /in/0.csv (1 byte)"
    assert json.loads(found[0]["arguments"]) == ["0.csv", "1"]
    assert json.loads(found[0]["parameters"]) == {"file": "/in/0.csv", "day": cause["due"][:10]}
    assert cause["due"].endswith("+09:00")
    assert (found[0]["created_by"], len({row["due_at"] for row in found})) == ("schedule 1", 5)


def test_workers_that_see_the_same_files_start_each_once(db: Database) -> None:
    apply(db, load={"schedules": [{"file": "/in/*.csv"}], "already_running": "queue"})
    together(3, lambda place: arrive(db, *files(20)))
    arrive(db, *files(20))
    assert len(rows(db)) == 20


def test_who_watches_follows_the_definition(db: Database) -> None:
    rule = {"file": "/in/*.csv"}
    apply(db, load={"pool": "etl", "schedules": [rule]}, other={"pool": "etl", "schedules": [{**rule, "pool": "x"}]})
    assert [[one.job for one in watched(db, pool)] for pool in ("default", "etl", "x")] == [[], ["load"], ["other"]]
    number = Hand(db).survey().watches
    apply(db, load={"pool": "big", "schedules": [rule]}, other={"schedules": [{"cron": "@daily"}]})
    assert [[one.job for one in watched(db, pool)] for pool in ("etl", "big", "x")] == [[], ["load"], []]
    assert 0 < Hand(db, "w2").survey().watches < number
    apply(db, load={"schedules": [{**rule, "enabled": False}]})
    assert (watched(db, "default", "big"), Hand(db, "w3").survey().watches) == ([], 0)


def test_what_arrives_in_a_pause_starts_afterwards(db: Database) -> None:
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    (watch,) = watched(db)
    db.transact(schedules.pause, "load", None, "me")
    assert watched(db) == []
    paused = db.transact(schedules.start_arrived, watch, files(1))
    assert (paused.runs, paused.handled) == ([], {})
    db.transact(schedules.resume, "load", None, "me")
    assert len(arrive(db, *files(1)).runs) == 1
    with db.begin() as conn:
        job_store.enable(conn, "load", False, "me")
    assert watched(db) == []
    disabled = db.transact(schedules.start_arrived, watch, files(2))
    assert (disabled.handled, disabled.refusals) == ({}, []), "a refusal would put them off for 10 minutes"
    apply(db, load={"schedules": [{"file": "/in/*.txt"}]})
    assert db.transact(schedules.start_arrived, watch, files(2)).handled == {}  # the definition is another


def test_a_refused_start_is_tried_again(db: Database) -> None:
    parameters = {"size": {"type": "integer", "maximum": 5, "default": "${trigger.size}"}}
    apply(db, load={"parameters": parameters, "schedules": [{"file": "/in/*.csv"}]})
    done = arrive(db, *files(1), *files(1, path="/in/big", size=9))
    assert (len(done.runs), len(done.handled)) == (1, 1)
    assert "/in/big: " in done.refusals[0].why
    assert "at most 5" in done.refusals[0].why
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    assert len(arrive(db, *files(1), *files(1, path="/in/big", size=9)).runs) == 1


HOUR = 3_600_000


def see(db: Database, hours_ago: float, path: str | None = None) -> None:
    """Change when the files were seen last; ``path``: only this one."""
    these = arrived_file.update().where(sa.true() if path is None else arrived_file.c.file_key == _key(path))
    with db.begin() as conn:
        conn.execute(these.values(seen_at=utcnow(-hours_ago * HOUR)))


def _key(path: str) -> str:
    return ArrivedFile(path, 1, 1).key


def test_a_file_is_remembered_while_a_worker_sees_it_whatever_became_of_its_run(db: Database) -> None:
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    arrive(db, *files(2))
    with db.begin() as conn:
        conn.execute(run.delete())
    see(db, 72)
    assert arrive(db, *files(1)).runs == []
    retention.purge_all(db, retention.Keep(age=3600.0))
    assert arrive(db, *files(2)).runs == []  # the worker may be about to report the other one
    see(db, 72, "/in/1.csv")
    see(db, 3, "/in/0.csv")
    retention.purge_all(db, retention.Keep(age=3600.0))
    assert len(arrive(db, *files(2)).runs) == 1
    with db.read() as conn:
        assert [row.paused for row in conn.execute(sa.select(schedule))] == [False]


def test_a_file_that_its_worker_has_yet_to_report_again_is_not_forgotten(db: Database) -> None:
    """A worker reports it every twelve hours; runs may be kept for less."""
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    arrive(db, *files(2))
    see(db, 3, "/in/0.csv")
    see(db, 13, "/in/1.csv")
    retention.purge_all(db, retention.Keep(age=6 * 3600.0))
    assert arrive(db, *files(2)).runs == []


@pytest.mark.parametrize("is_resumed", [False, True])
def test_no_file_of_a_paused_schedule_is_forgotten_while_those_of_another_are_seen(
    db: Database, is_resumed: bool
) -> None:
    apply(db, load={"schedules": [{"file": "/in/*.csv"}, {"file": "/other/*.csv", "pool": "etl"}]})
    arrive(db, *files(1))
    arrive(db, *files(1, path="/other/a.csv"), pool="etl")
    see(db, 1000)
    see(db, 3, "/other/a.csv")
    with db.begin() as conn:
        schedules.pause(conn, "load", "1", "me")
        if is_resumed:
            schedules.resume(conn, "load", "1", "me")
    retention.purge_all(db, retention.Keep(age=3600.0))
    if not is_resumed:
        db.transact(schedules.resume, "load", "1", "me")
    assert arrive(db, *files(1)).runs == []


def test_no_file_is_forgotten_while_nobody_looks(db: Database) -> None:
    """As while the schedule is paused for longer than runs are kept: all files would start again."""
    apply(db, load={"schedules": [{"file": "/in/*.csv"}]})
    arrive(db, *files(2))
    with db.begin() as conn:
        conn.execute(arrived_file.update().values(seen_at=utcnow(-864_000_000)))
    retention.purge_all(db, retention.Keep(age=3600.0))
    assert arrive(db, *files(2)).runs == []
    with db.begin() as conn:
        conn.execute(arrived_file.update().values(seen_at=utcnow(-864_000_000)))
        schedules.remove(conn, "load", "me")
    retention.purge_all(db, retention.Keep(age=3600.0))
    with db.read() as conn:
        assert conn.execute(sa.select(arrived_file)).all() == []


class AtOnce:
    """Scans in the thread of the caller, at the time that the test says."""

    def __init__(self) -> None:
        self._results: list[Result] = []

    def begin(self, patterns: Iterable[str], now: float) -> None:
        self._results += [Result(pattern, scan(pattern), now, 0.0) for pattern in patterns]

    def results(self) -> list[Result]:
        found, self._results = self._results, []
        return found

    def stuck(self, now: float) -> Collection[str]:
        return ()


def _settle(watcher: Files) -> None:
    """Let a worker scan a few times."""
    for second in range(0, 400, 100):
        watcher.turn(float(second))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_three_thousand_files_are_three_thousand_runs(db: Database, tmp_path: Path) -> None:
    for place in range(3000):
        (tmp_path / f"{place}.csv").touch()
    apply(db, load={"schedules": [{"file": f"{tmp_path}/*.csv", "stable": "1s"}]})
    settings = Settings(file_scan_interval=1.0)
    workers = [Files(db, settings, name, ["default"], AtOnce()) for name in ("w1", "w2")]
    together(2, lambda place: _settle(workers[place]))
    _settle(Files(db, settings, "restarted", ["default"], AtOnce()))
    paths = sa.func.json_extract(run.c.origin, "$.path")
    counts = sa.select(sa.func.count(), sa.func.count(sa.distinct(paths)), sa.func.count(sa.distinct(run.c.due_at)))
    with db.read() as conn:
        assert tuple(conn.execute(counts).one()) == (3000,) * 3


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_worker_that_was_asleep_reports_its_files_again(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock for the next report stood still meanwhile. The files would be forgotten, and start again."""
    (tmp_path / "a.csv").touch()
    apply(db, load={"schedules": [{"file": f"{tmp_path}/*.csv", "stable": "1s"}]})
    watcher = Files(db, Settings(file_scan_interval=1.0), "w1", ["default"], AtOnce())
    _settle(watcher)
    see(db, 120)
    watcher.turn(500.0)
    assert _is_old(db), "it is not reported with each scan"

    def after_sleep(conn: sa.Connection, pools: Collection[str]) -> Wanted:
        found = read_targets(conn, pools)
        return found._replace(now=found.now + timedelta(hours=120))

    monkeypatch.setattr("jobfac.worker.files.files.read_targets", after_sleep)
    for second in (600.0, 602.0):
        watcher.turn(second)
    assert not _is_old(db)
    assert len(rows(db)) == 1
    see(db, 120)
    watcher.turn(700.0)
    assert _is_old(db), "once is enough"


def _is_old(db: Database) -> bool:
    """Whether the only file was last seen long ago."""
    with db.read() as conn:
        return bool(conn.execute(sa.select(arrived_file.c.seen_at < utcnow(-HOUR))).scalar_one())


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_what_is_half_written_waits(db: Database, tmp_path: Path) -> None:
    apply(db, load={"schedules": [{"file": f"{tmp_path}/*.csv", "stable": "5m"}]})
    watcher = Files(db, Settings(file_scan_interval=1.0), "w1", ["default"], AtOnce())
    path = tmp_path / "a.csv"
    began = time.time()
    for minute in range(12):
        if minute < 5:
            path.write_text("x" * minute)
            os.utime(path, (began + minute, began + minute))
        watcher.turn(minute * 60.0)
        assert len(rows(db)) == (1 if minute >= 4 + 5 else 0)
    path.write_text("the next delivery")
    for minute in range(12, 20):
        watcher.turn(minute * 60.0)
    assert [json.loads(row["origin"])["size"] for row in rows(db)] == [4, 17]


@pytest.mark.parametrize("url", EACH_DIALECT, indirect=True)
def test_a_file_whose_run_a_failover_has_lost_starts_again(db: Database, tmp_path: Path) -> None:
    """The worker that has started it lives on. The start of another file was not lost."""
    apply(db, load={"schedules": [{"file": f"{tmp_path}/*.csv", "stable": "1s"}]})
    watcher = Files(db, Settings(file_scan_interval=1.0), "w1", ["default"], AtOnce())
    for name in ("kept", "lost"):
        (tmp_path / f"{name}.csv").touch()
    _settle(watcher)
    (lost,) = (row["id"] for row in rows(db) if "lost" in row["origin"])
    with db.begin() as conn:
        conn.execute(run.delete().where(run.c.id == lost))
        conn.execute(arrived_file.delete().where(arrived_file.c.run_id == lost))
    db.engine.dispose()
    for second in range(400, 800, 100):
        watcher.turn(float(second))
    assert [Path(json.loads(row["origin"])["path"]).stem for row in rows(db)] == ["kept", "lost"]
