"""A write to the SQLite file that fails: a sentence names the cause and the remedy, and a retry does it."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.doctor.engine import sqlite_file
from jobfac.doctor.finding import State
from jobfac.errors import Unreachable
from jobfac.machine.disk import clause, why_not_written
from jobfac.operations import starting
from jobfac.operations.caller import Caller
from jobfac.store.audit import note
from jobfac.store.history import search
from jobfac.store.runs import StartRequest
from tests.hostile.others import needs_root
from tests.support.database import define


def test_a_limit_of_the_size_of_files_is_named(sqlite_url: str) -> None:
    path = str(sa.make_url(sqlite_url).database)
    db = Database(sqlite_url)
    db.transact(note, "me", "test", "nothing")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Unreachable, match=rf"{path}.* has reached the limit of 4,096 bytes .*ulimit -f"):
            db.transact(note, "me", "test", "nothing", retry_for=0)
        problems = [one for one in sqlite_file(Path(path)) if "limit of 4,096 bytes" in one.found]
        assert [(one.state, one.remedy[:8]) for one in problems] == [(State.PROBLEM, "Raise it")], "by the doctor, too"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    db.transact(note, "me", "test", "nothing", retry_for=0)
    db.close()


def test_a_start_that_was_not_stored_is_not_taken_for_the_next_one_by_the_same_name(sqlite_url: str) -> None:
    """The ids of what was rolled back are given again."""
    with contextlib.closing(Database(sqlite_url)) as db, contextlib.closing(Database(sqlite_url)) as other:
        define(db, first={}, second={})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        def start_another() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            db.on_retry.clear()
            starting.start(other, Caller("me"), StartRequest("second", "me"))

        db.on_retry.append(start_another)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            starting.start(db, Caller("me"), StartRequest("first", "me"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        with db.read() as conn:
            assert sorted(run.job for run in search.find_all(conn)) == ["first", "second"]


@needs_root
def test_a_folder_that_may_not_be_entered_any_more_is_named(sqlite_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "above" / "data"
    folder.mkdir(parents=True)
    path = shutil.copy(str(sa.make_url(sqlite_url).database), folder / "jobfac.db")
    db = Database(f"sqlite:///{path}")
    (tmp_path / "above").chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(Unreachable, match=f"there is no folder {folder} for this user"):
            db.transact(note, "me", "test", "nothing", retry_for=0)
    finally:
        os.seteuid(0)
        db.close()


def test_a_disk_that_reports_no_error_any_more_is_named_with_what_sqlite_said(tmp_path: Path) -> None:
    found = why_not_written(tmp_path, [tmp_path / "missing"], "SQLITE_IOERR_FSYNC")
    assert found is not None
    assert found.startswith(f"the disk of {tmp_path} reports an error (SQLITE_IOERR_FSYNC); the kernel's log")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (errno.EDQUOT, "this user's quota on the disk of /data is used up; free some space there, or raise it"),
        (errno.ENOSPC, "the disk of /data is full; make room there"),
        (
            errno.EROFS,
            "the disk of /data reports an error (Read-only file system); the kernel's log (dmesg) has the details",
        ),
    ],
)
def test_what_prevents_a_write_is_named(number: int, found: str) -> None:
    assert clause(Path("/data"), number).startswith(found)


@needs_root
def test_a_disk_that_linux_has_made_read_only_after_a_fault_is_named(sqlite_url: str, tmp_path: Path) -> None:
    """The flags of such a file system do not say that it is read-only."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        shutil.copy(str(sa.make_url(sqlite_url).database), disk / "jobfac.db")
        db = Database(f"sqlite:///{disk}/jobfac.db")
        db.transact(note, "me", "test", "nothing")
        subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
        for one in (db, Database(str(db.url))):  # the new connection fails with another error
            with pytest.raises(Unreachable, match=f"{disk}.*(mounted read-only|Read-only file system)"):
                one.transact(note, "me", "test", "nothing", retry_for=0)
            one.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
