"""The spool belongs to the worker: other users cannot place files there, and no content stops a worker."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.programs import Spool, StartError, UnsafeFolder, private_fault, write_private
from jobfac.settings import Settings, state_folder
from jobfac.store import output
from jobfac.worker.spool_folder import SpoolFolder
from tests.hostile.others import NOBODY, as_nobody, needs_root
from tests.support.database import Hand, define, start
from tests.support.factory import Factory
from tests.support.fleet import Fleet
from tests.support.process_stage import left_file

SERVER = "mssql+pyodbc://me:secret@server/one"


def test_a_file_in_the_place_of_the_spool_is_named_with_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "spool"
    file.touch()
    for spool in (file, file / "deeper"):
        with pytest.raises(StartError, match=f"{file}' is not a folder; move it away, or choose another folder"):
            SpoolFolder(spool, "token", "w1").begin()
    with pytest.raises(StartError, match="'/proc/spool' cannot be opened: "):
        SpoolFolder(Path("/proc/spool"), "token", "w1").begin()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_default_spool_cannot_be_created_by_others_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    home = Path("/var/lib/jobfac") if os.geteuid() == 0 else Path.home() / ".local/state/jobfac"
    assert Settings(database_url=SERVER).spool_folder().is_relative_to(home / "spool")
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert Settings(database_url=SERVER).spool_folder().is_relative_to("/srv/state/jobfac/spool")
    assert state_folder({"XDG_STATE_HOME": "relative"}) == home


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277])
def test_spool_and_payload_are_private_under_any_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        folder = SpoolFolder(tmp_path / "spool", "token", "w1")
        folder.ensure()
        write_private(folder.path / "1-1.payload", b"secret", None)
        Spool(folder.path / "1-1.stdout", 100).close(delete=False)
    assert (mode(tmp_path / "spool"), mode(folder.path)) == (0o700, 0o700)
    assert mode(folder.path / "1-1.payload") == 0o600
    assert mode(folder.path / "1-1.stdout") == 0o600 & ~mask, "others may enter the folder, if a payload is for one"
    folder.close()


def test_a_payload_is_written_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "1-1.payload").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        write_private(tmp_path / "1-1.payload", b"theirs", None)
    assert (tmp_path / "secret").read_text() == "mine"


@needs_root
def test_a_payload_for_another_user_is_readable_only_for_that_user(crossroads: Path) -> None:
    folder = SpoolFolder(crossroads / "spool", "token", "w1")
    folder.ensure()
    write_private(folder.path / "1-1.payload", b"secret", "nobody")
    found = (folder.path / "1-1.payload").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY.pw_uid, 0o600)
    as_nobody((folder.path / "1-1.payload").read_bytes)
    with pytest.raises(AssertionError):
        as_nobody(lambda: list(folder.path.iterdir()))
    folder.ensure()  # the right to enter is no fault
    folder.close()


@needs_root
def test_a_user_reaches_its_payload_in_the_default_spool_of_sql_server(
    crossroads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker creates the folders above for itself alone; that of others above them stays as it is."""
    state = crossroads / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    folder = SpoolFolder(Settings(database_url=SERVER).spool_folder(), "token", "w1")
    folder.ensure()
    assert mode(state / "jobfac/spool") == 0o700
    write_private(folder.path / "1-1.payload", b"secret", "nobody")
    assert (mode(state / "jobfac"), mode(state / "jobfac/spool"), mode(state)) == (0o711, 0o711, 0o700)
    state.chmod(0o755)
    as_nobody((folder.path / "1-1.payload").read_bytes)
    folder.close()


@needs_root
def test_a_spool_created_by_another_user_is_refused(crossroads: Path) -> None:
    crossroads.chmod(0o1777)
    as_nobody((crossroads / "spool").mkdir)
    with pytest.raises(UnsafeFolder, match="belongs to user 'nobody'"):
        SpoolFolder(crossroads / "spool", "token", "w1").ensure()
    assert not list((crossroads / "spool").iterdir())


@needs_root
def test_a_spool_behind_another_users_link_is_refused(crossroads: Path) -> None:
    crossroads.chmod(0o1777)
    (crossroads / "mine").mkdir(mode=0o700)
    as_nobody(lambda: (crossroads / "spool").symlink_to("mine"))
    with pytest.raises(UnsafeFolder, match="another user's symbolic link"):
        SpoolFolder(crossroads / "spool", "token", "w1").ensure()


@pytest.mark.parametrize("bits", [0o777, 0o755, 0o770, 0o702])
def test_a_spool_that_others_may_read_or_change_is_refused(tmp_path: Path, bits: int) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(bits)
    with pytest.raises(UnsafeFolder, match="chmod 700"):
        SpoolFolder(tmp_path / "spool", "token", "w1").ensure()


def test_a_spool_in_a_folder_that_anybody_may_change_is_refused(crossroads: Path) -> None:
    volume = crossroads / "state/volume"  # as an emptyDir of Kubernetes, with its fsGroup
    volume.mkdir(parents=True)
    volume.chmod(0o2777)
    assert "anybody may change" in str(private_fault(volume / "jobfac/spool"))
    with pytest.raises(UnsafeFolder, match="anybody may change"):
        SpoolFolder(volume / "jobfac/spool", "token", "w1").ensure()
    (crossroads / "state").chmod(0o700)  # nobody else reaches the volume
    SpoolFolder(volume / "jobfac/spool", "token", "w1").ensure()
    assert private_fault(volume / "jobfac/spool") is None
    crossroads.chmod(0o777)  # anybody may put another folder in the place of the private one
    assert f"anybody may change {str(crossroads)!r}" in str(private_fault(volume / "jobfac/spool"))


def test_a_worker_and_the_doctor_report_an_unsafe_spool(sqlite_factory: Factory) -> None:
    (sqlite_factory.folder / "spool").mkdir(mode=0o755)
    said = sqlite_factory.run("worker", code=4).stderr
    assert "chmod 700" in said
    assert "Traceback" not in said
    found = sqlite_factory.json("doctor", code=None)
    assert [one for one in found if one["check"] == "spool" and one["state"] == "problem"]


@needs_root
@pytest.mark.parametrize("plant", ["link", "pipe", "theirs", "twice"])
def test_planted_output_is_not_stored(tmp_path: Path, plant: str) -> None:
    path, other = left_file(tmp_path, 1), tmp_path / "other"
    other.write_text("forged")
    if plant == "link":
        path.symlink_to("../other")
    elif plant == "pipe":
        os.mkfifo(path)
    elif plant == "theirs":
        path.write_text("forged")
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    else:
        os.link(other, path)
    with pytest.raises(StartError):
        Spool(path, 100)


def test_a_link_in_the_place_of_the_workers_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "other").mkdir()
    (tmp_path / "spool/token").symlink_to("../other")
    with pytest.raises(StartError, match="cannot be"):
        SpoolFolder(tmp_path / "spool", "token", "w1").begin()
    assert list((tmp_path / "other").iterdir()) == []


@needs_root
@pytest.mark.parametrize("owner", [0, NOBODY.pw_uid])
def test_output_in_a_folder_of_another_user_is_not_stored(tmp_path: Path, sqlite_url: str, owner: int) -> None:
    db = Database(sqlite_url)
    define(db, job={})
    start(db, "job")
    dead = Hand(db, "dead")
    dead.take()
    (folder := tmp_path / "spool/dead").mkdir(parents=True)
    (tmp_path / "spool").chmod(0o700)
    (folder / "lock").touch()
    left_file(folder, 1).write_text("forged")
    os.chown(folder, owner, owner)
    SpoolFolder(tmp_path / "spool", "mine", "w1").clear_dead(db)
    assert (db.query(output.end_of, 1, 1, "stdout") > 0) == (owner == 0)
    db.close()


def test_a_spool_that_others_may_change_meanwhile_ends_no_worker(tmp_path: Path, sqlite_url: str) -> None:
    db = Database(sqlite_url)
    folder = SpoolFolder(tmp_path / "spool", "token", "w1")
    folder.ensure()
    (tmp_path / "spool").chmod(0o777)
    folder.clear_dead(db)
    folder.close()
    db.close()


def test_unreadable_folders_are_skipped_and_the_others_are_recovered(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(long=fleet.journal.job(600, later=0))
    (run_id,) = fleet.start("long")
    first = fleet.worker()
    fleet.wait(run_id, "running")
    (dead,) = (fleet.folder / "spool").iterdir()
    for name in ("0", "g"):  # before and after it in the listing
        (fleet.folder / "spool" / name).mkdir()
        (fleet.folder / "spool" / name / "lock").symlink_to("/etc/passwd")
    if os.geteuid() == 0:
        os.chown(fleet.folder / "spool/g", NOBODY.pw_uid, NOBODY.pw_gid)
    first.kill()
    second = fleet.worker()
    fleet.wait(run_id)
    assert not dead.exists()
    for name in ("0", "g"):
        assert fleet.log(second).count(f"spool/{name}: ") == 1


@needs_root
def test_a_folder_without_rights_stops_no_worker(crossroads: Path, sqlite_url: str) -> None:
    """As a user other than root, because permissions do not apply to root."""
    home = crossroads / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    db = Database(sqlite_url)

    def recover() -> None:
        folder = SpoolFolder(home / "spool", "mine", "w1")
        folder.ensure()
        (home / "spool/closed").mkdir(mode=0o000)
        folder.clear_dead(db)

    as_nobody(recover)
    db.close()
