"""The SQLite file is private, and processes detect that it was deleted, replaced or made unusable."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.database.tables import audit
from jobfac.errors import DatabaseDamaged, DatabaseReplaced, Refused, Unreachable, WrongSchema
from jobfac.scheduler import Scheduler
from jobfac.settings import Settings
from jobfac.store.audit import note
from jobfac.store.history import search
from tests.hostile.others import NOBODY, as_nobody, needs_root
from tests.support.api_stage import Served
from tests.support.factory import Factory, wait_for
from tests.support.fleet import Fleet
from tests.support.process_stage import lives

FILES = ("jobfac.db", "jobfac.db-wal", "jobfac.db-shm")

AT_ONCE = 5.0
"""Seconds within which an error must be reported. Retries take 15."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_file_and_log_are_private_under_any_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        db = Database(f"sqlite:///{tmp_path}/jobfac.db")
        db.upgrade()
        with db.begin() as conn:
            note(conn, "me", "test", "nothing")
        assert {path.name: mode(path) for path in tmp_path.glob("jobfac.db*")} == dict.fromkeys(FILES, 0o600)
        db.close()
    finally:
        os.umask(before)


def test_the_doctor_reports_a_file_that_others_can_read(sqlite_factory: Factory) -> None:
    (path := sqlite_factory.folder / "jobfac.db").chmod(0o644)
    said = [one for one in sqlite_factory.json("doctor", code=None) if "open to other users" in one["found"]]
    assert said
    assert f"chmod 600 {path}" in said[0]["remedy"]


def test_a_command_creates_no_database(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/jobfac.db")
    assert db.version() is None
    with pytest.raises(WrongSchema, match="jobfac db upgrade"):
        db.query(search.find_all)
    assert list(tmp_path.iterdir()) == []
    db.close()


def test_a_file_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/{'x' * 300}.db")
    with pytest.raises(Unreachable, match="cannot be created: File name too long; choose a folder that this user may"):
        db.upgrade()
    db.close()


def replaced_by_another(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").rename(path)


def without(suffix: str, path: Path) -> None:
    path.with_name(f"{path.name}-{suffix}").unlink()


@pytest.mark.parametrize("harm", [replaced_by_another, partial(without, "wal"), partial(without, "shm")])
def test_a_worker_stops_when_its_database_is_replaced(harm: object, sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600))
    (run_id,) = fleet.start("long")
    worker = fleet.worker()
    fleet.wait(run_id, "running")
    programs = wait_for(lambda: fleet.programs(worker), "its program")
    harm(fleet.folder / "jobfac.db")  # type: ignore[operator]
    assert worker.wait(20) == 5
    said = fleet.log(worker).strip().splitlines()[-1]
    assert said.startswith("The ")
    assert "while it was in use" in said
    assert not any(map(lives, programs))


@pytest.mark.parametrize("role", ["scheduler", "api", "up"])
def test_every_role_stops_when_its_database_is_replaced(role: str, sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    process = fleet.factory.role(role, *(["--port", "0"] if role != "scheduler" else []))
    started = ["scheduler", "api", "worker"] if role == "up" else [role]
    wait_for(lambda: all(f"{one} started" in fleet.log(process) for one in started), "started")
    replaced_by_another(fleet.folder / "jobfac.db")
    assert process.wait(20) == 5
    assert "while it was in use" in fleet.log(process).strip().splitlines()[-1]


def test_nothing_is_read_from_a_file_that_was_replaced(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    db.query(search.find_all)
    replaced_by_another(tmp_path / "jobfac.db")
    with pytest.raises(DatabaseReplaced):
        db.query(search.find_all)
    db.close()


def test_a_file_that_was_moved_away_may_return(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    with db.begin() as conn:
        note(conn, "me", "before", "nothing")
    (tmp_path / "away").mkdir()
    for path in tmp_path.glob("jobfac.db*"):
        path.rename(tmp_path / "away" / path.name)
    with db.begin() as conn:
        note(conn, "me", "meanwhile", "nothing")
    for path in (tmp_path / "away").iterdir():
        path.rename(tmp_path / path.name)
    with db.begin() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one() == 2
    db.close()


def test_a_log_that_the_last_connection_deleted_is_no_fault(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    for _ in range(3):
        with db.begin() as conn:
            note(conn, "me", "test", "nothing")
        db.engine.dispose()
    db.close()


def test_no_more_is_written_after_the_file_was_replaced(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    with db.begin() as conn:
        note(conn, "me", "test", "nothing")
    replaced_by_another(tmp_path / "jobfac.db")
    with pytest.raises(DatabaseReplaced), db.begin():
        pass
    db.close()


def reports_at_once(url: str, why: str) -> None:
    db = Database(url)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=why):
        db.transact(note, "me", "test", "nothing")
    assert time.monotonic() - begun < AT_ONCE
    db.close()


@needs_root
def test_a_file_without_the_right_to_write_is_named_at_once(sqlite_url: str, crossroads: Path) -> None:
    home = crossroads / "home"
    home.mkdir(mode=0o700)
    shutil.copy(str(sa.make_url(sqlite_url).database), home / "jobfac.db")
    (home / "jobfac.db").chmod(0o444)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(home / "jobfac.db", NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(lambda: reports_at_once(f"sqlite:///{home}/jobfac.db", "may not write"))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount the folder read-only as its own file system."""
    try:
        subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@needs_root
def test_a_read_only_file_system_is_named_at_once(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    shutil.copy(str(sa.make_url(sqlite_url).database), tmp_path / "disk/jobfac.db")
    with read_only(tmp_path / "disk"):
        reports_at_once(f"sqlite:///{tmp_path}/disk/jobfac.db", "mounted read-only")


@needs_root
def test_a_full_disk_is_named(sqlite_url: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", disk], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        shutil.copy(str(sa.make_url(sqlite_url).database), disk / "jobfac.db")
        db = Database(f"sqlite:///{disk}/jobfac.db")
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(Unreachable, match=f"cannot be reached: the disk of {disk} is full; make room there"):
            db.transact(note, "me", "test", "nothing", retry_for=0)
        db.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def rows(path: Path) -> int:
    with sqlite3.connect(path) as conn:
        count = int(conn.execute("SELECT count(*) FROM audit").fetchone()[0])
    conn.close()
    return count


def damage_runs(path: Path) -> None:
    """Overwrite the pages at which the table of runs and its indexes begin, as a copy over a file in use may do."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = conn.execute("PRAGMA page_size").fetchone()[0]
        pages = conn.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'run' AND rootpage > 0").fetchall()
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)


def test_a_damaged_file_is_named_with_the_remedy(sqlite_factory: Factory) -> None:
    damage_runs(sqlite_factory.folder / "jobfac.db")
    db = Database(sqlite_factory.url)
    with pytest.raises(DatabaseDamaged, match=r"file is damaged \(.*malformed\).*; stop every.*put a backup in their"):
        db.query(search.find_all)
    db.close()
    damaged = [one for one in sqlite_factory.json("doctor", code=None) if "malformed" in one["found"]]
    assert damaged
    assert {one["state"] for one in damaged} == {"problem"}


def test_a_worker_on_a_damaged_file_drains_and_stops(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief={"command": ["sh", "-c", "until [ -e go ]; do sleep 0.05; done; echo done > ended"]})
    worker = fleet.worker(JOBFAC_DRAIN_LIMIT="60", JOBFAC_HEARTBEAT="0.5")
    (run_id,) = fleet.start("brief")
    fleet.wait(run_id, "running")
    damage_runs(fleet.folder / "jobfac.db")
    fleet.db.transact(note, "me", "test", "nothing")  # so that the worker reads the pages again
    wait_for(lambda: "draining, then stopping" in fleet.log(worker), "it finds the damage")
    (fleet.folder / "go").touch()
    assert worker.wait(20) == 5
    assert "its file is damaged" in fleet.log(worker).strip().splitlines()[-1]
    assert (fleet.folder / "ended").exists()


def test_a_scheduler_on_a_damaged_file_stops(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    damage_runs(Path(str(db.url.database)))
    with pytest.raises(DatabaseDamaged, match="file is damaged"):
        Scheduler(db, Settings(), "s").run()
    db.close()


def test_one_error_is_no_certain_damage(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    db.damage.note(DatabaseDamaged("malformed"))
    assert (db.damage.is_suspected, db.damage.certain(), db.damage.is_suspected) == (True, None, False)
    damage_runs(Path(str(db.url.database)))
    db.damage.note(DatabaseDamaged("malformed"))
    assert db.damage.certain() is None  # the whole file is not read again so soon
    db.close()


def test_the_health_of_an_api_on_a_damaged_file(served: Served) -> None:
    assert served.client(None).get("/healthz").status_code == 200
    damage_runs(Path(str(served.db.url.database)))
    assert served.viewer.get("/v1/runs").status_code == 503
    answer = served.client(None).get("/healthz")
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "The database file is damaged; the server's log says more.",
    )


def test_a_backup_includes_the_log_and_is_private(sqlite_factory: Factory) -> None:
    db, target = Database(sqlite_factory.url), sqlite_factory.folder / "copy.db"
    with db.begin() as conn:
        note(conn, "me", "test", "nothing")
    sqlite_factory.run("db", "backup", str(target))
    assert rows(target) == 1
    assert mode(target) == 0o600
    assert not list(sqlite_factory.folder.glob("copy.db?*"))
    assert "already" in sqlite_factory.run("db", "backup", str(target), code=4).stderr
    assert "cannot be written" in sqlite_factory.run("db", "backup", "gone/copy.db", code=4).stderr
    db.close()
    restored = Database(f"sqlite:///{target}")
    restored.check_schema()
    restored.close()


def test_a_backup_follows_no_link_of_another_user(
    sqlite_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may write the folder puts a link in place of the new file, just before SQLite opens it."""
    folder, victim = tmp_path / "shared", tmp_path / "victim.db"
    folder.mkdir()
    with sqlite3.connect(victim) as conn:
        conn.execute("CREATE TABLE audit (x)")
    conn.close()
    before, real = victim.read_bytes(), sqlite3.connect

    def play(name: object, **options: object) -> sqlite3.Connection:
        for part in folder.iterdir():
            part.unlink()
            part.symlink_to(victim)
        return real(str(name), **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", play)
    db = Database(sqlite_factory.url)
    with pytest.raises(Refused, match="cannot be written: somebody else has replaced it; choose a folder"):
        db.back_up(folder / "copy.db")
    db.close()
    assert victim.read_bytes() == before
    assert not list(folder.iterdir())


def test_a_backup_can_be_made_while_a_worker_works(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(brief=fleet.journal.job(0))
    fleet.worker()
    ids = fleet.start("brief", 20)
    fleet.factory.run("db", "backup", "copy.db")
    fleet.finish(*ids)


@pytest.mark.mssql
def test_a_backup_of_sql_server_is_refused() -> None:
    db = Database("mssql+mssqlpython://me:secret@server/jobs")
    with pytest.raises(Refused, match=r"BACKUP DATABASE \[jobs\]"):
        db.back_up(Path("copy.bak"))
