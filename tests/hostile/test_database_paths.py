"""One SQLite file may be reached by different paths. All processes use one log and one spool, or refuse."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac.database.dialects import sqlite_file
from jobfac.database.dialects.sqlite import FileWaiter
from jobfac.database.engine import Database
from jobfac.database.sqlite_backup import back_up
from jobfac.errors import DatabaseReplaced, Unreachable
from jobfac.settings import Settings
from jobfac.store.audit import note
from jobfac.store.history import search
from tests.hostile.others import NOBODY, as_nobody, needs_root
from tests.support.database import Hand


def test_a_log_that_a_reader_made_large_becomes_smaller(sqlite_url: str) -> None:
    with Database(sqlite_url).read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_size_limit").scalar_one() == 64 << 20  # without it, it never does


@pytest.fixture
def link(sqlite_url: str, tmp_path: Path) -> Path:
    """A link to a fresh database, in a folder of its own, whose name needs an escape in the table of mounts."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "link.db").symlink_to(sqlite_url.removeprefix("sqlite:///"))
    return folder / "link.db"


@pytest.fixture
def by_link(link: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{link}")
    yield made
    made.close()


def test_a_waiter_watches_the_log_of_a_file_behind_a_link(by_link: Database) -> None:
    """Otherwise it polls a file that never exists, and a run waits for seconds."""
    Hand(by_link, "w1")
    waiter = by_link.dialect.waiter(by_link.engine, "")
    assert isinstance(waiter, FileWaiter)
    try:
        assert waiter._watch()
    finally:
        waiter.close()


def test_a_deleted_log_of_a_file_behind_a_link_is_noticed(by_link: Database, link: Path) -> None:
    Hand(by_link, "w1")
    by_link.dialect.check_file()
    Path(f"{os.path.realpath(link)}-wal").unlink()
    with pytest.raises(DatabaseReplaced):
        by_link.dialect.check_file()


def test_the_spool_of_a_database_is_one_whatever_its_path(link: Path) -> None:
    """A worker kills and reads what a dead worker left in its own spool only."""
    settings = Settings(database_url=f"sqlite:///{link}")
    assert settings.spool_folder() == Path(f"{os.path.realpath(link)}-spool")


def test_a_file_that_is_mounted_without_its_folder_is_refused(
    sqlite_url: str, link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's volume of one file: each container has a write-ahead log of its own, and their commits are lost."""
    alone = link.with_name("alone.db")
    Path(sqlite_url.removeprefix("sqlite:///")).rename(alone)
    table = tmp_path / "mountinfo"
    place = str(alone).replace(" ", "\\040")
    table.write_text(f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n36 21 8:1 /srv/jobfac.db {place} rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(sqlite_file, "MOUNTS", table)
    made = Database(f"sqlite:///{alone}")
    with pytest.raises(Unreachable, match="mount the folder instead"):
        made.check_schema()
    with pytest.raises(Unreachable, match="without its folder"):
        made.back_up(tmp_path / "copy.db")
    made.close()
    table.write_text(table.read_text().replace(place, place.removesuffix("/alone.db")))
    made = Database(f"sqlite:///{alone}")
    made.check_schema()
    made.close()


@pytest.mark.parametrize("suffix", ["wal", "shm"])
def test_nobody_opens_a_file_whose_users_have_another_log_or_index(
    suffix: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would exclude none of these users, and damage the file."""
    monkeypatch.setattr(sqlite_file, "OPENING", 0.05)
    here, other = Database(sqlite_url), Database(sqlite_url)
    here.query(search.find_all)
    beside, away = tmp_path / f"jobfac.db-{suffix}", tmp_path / "away"
    beside.rename(away)
    with pytest.raises(Unreachable, match=f"{suffix} was removed while other processes use the database; stop every"):
        other.query(search.find_all)
    with pytest.raises(Unreachable, match=f"{suffix} was removed while other processes use the database"):
        other.back_up(tmp_path / "copy.db")  # it would make new ones, which nobody would take for missing
    away.rename(beside)
    other.query(search.find_all)
    here.close()
    other.close()
    assert not beside.exists(), "the last user has removed it"
    other = Database(sqlite_url)
    other.query(search.find_all)
    other.close()


@needs_root
def test_a_log_of_another_user_is_named(sqlite_url: str, crossroads: Path) -> None:
    home = crossroads / "home"
    home.mkdir(mode=0o700)
    shutil.copy(str(sa.make_url(sqlite_url).database), home / "jobfac.db")
    for path in (home, home / "jobfac.db"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    for name in ("jobfac.db-wal", "jobfac.db-shm"):  # as a process of root left them that was killed
        (home / name).touch(0o600)

    def refused() -> None:
        db = Database(f"sqlite:///{home}/jobfac.db")
        with pytest.raises(Unreachable, match=r"this user may not read .*-wal; grant the right"):
            db.transact(note, "me", "test", "nothing", retry_for=0)
        db.close()

    as_nobody(refused)


@needs_root
def test_a_backup_goes_into_a_folder_that_its_user_may_only_write_to(crossroads: Path) -> None:
    source, folder = crossroads / "source.db", crossroads / "drop"
    with contextlib.closing(sqlite3.connect(source)) as conn:
        conn.execute("CREATE TABLE audit (x)")
    source.chmod(0o666)
    folder.mkdir()
    folder.chmod(0o733)
    as_nobody(lambda: back_up(str(source), folder / "copy.db"))
    assert [one.name for one in folder.iterdir()] == ["copy.db"]
