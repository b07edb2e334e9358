"""Files that another user left in a folder do not decide which programs a worker runs."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from jobfac.settings import SettingsError, load
from jobfac.settings.ownership import database_fault, open_to_others
from tests.hostile.others import NOBODY, as_nobody, needs_root
from tests.support.factory import Factory


@needs_root
def test_settings_that_another_user_left_are_refused(crossroads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crossroads.chmod(0o1777)
    as_nobody(lambda: (crossroads / "jobfac.toml").write_text('database_url = "sqlite:////tmp/theirs.db"'))
    monkeypatch.chdir(crossroads)
    with pytest.raises(SettingsError, match=r"jobfac\.toml in this folder belongs to user 'nobody'"):
        load({})
    named = load({"JOBFAC_CONFIG": str(crossroads / "jobfac.toml")})
    assert named.database_url == "sqlite:////tmp/theirs.db"


@needs_root
def test_settings_that_change_after_the_check_are_refused(crossroads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user can exchange the file in a loop, so what counts is the file that was opened."""
    file, opened = crossroads / "jobfac.toml", (io.open, os.open)

    def exchanged(path: object) -> None:
        if str(path) == "jobfac.toml" and file.stat().st_uid == 0:
            os.chown(file, NOBODY.pw_uid, NOBODY.pw_gid)

    def open_late(path: Any, *rest: Any, **more: Any) -> Any:
        exchanged(path)
        return opened[0](path, *rest, **more)

    def os_open_late(path: Any, *rest: Any, **more: Any) -> Any:
        exchanged(path)
        return opened[1](path, *rest, **more)

    file.write_text("lease = 20")
    monkeypatch.chdir(crossroads)
    monkeypatch.setattr(io, "open", open_late)
    monkeypatch.setattr(os, "open", os_open_late)
    with pytest.raises(SettingsError, match="belongs to user 'nobody'"):
        load({})


@needs_root
def test_settings_of_the_folders_owner_are_used(crossroads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (crossroads / "jobfac.toml").write_text("lease = 20")
    for path in (crossroads, crossroads / "jobfac.toml"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    monkeypatch.chdir(crossroads)
    assert load({}).lease == 20


@needs_root
def test_a_database_of_another_user_is_refused(crossroads: Path) -> None:
    path = crossroads / "jobfac.db"
    path.touch()
    assert database_fault(path) is None
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    assert "belongs to user 'nobody'" in str(database_fault(path))
    os.chown(crossroads, NOBODY.pw_uid, NOBODY.pw_gid)
    assert database_fault(path) is None  # the folder is its owner's


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o703])
def test_a_database_beside_which_anybody_may_place_a_journal_is_refused(tmp_path: Path, bits: int) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(bits)
    assert f"anybody may change '{place}'" in str(database_fault(place / "jobfac.db"))
    below = place / "below"
    below.mkdir(mode=0o700)
    fault = database_fault(below / "jobfac.db")
    assert (fault is None) == bool(bits & 0o1000)  # in a sticky folder nobody else can rename what lies there
    (tmp_path / "link.db").symlink_to(place / "jobfac.db")
    assert database_fault(tmp_path / "link.db") is not None


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_database_that_anybody_may_write_to_is_refused(tmp_path: Path, suffix: str) -> None:
    """A user who writes a definition into it runs a program as the user of the worker."""
    for name in ("jobfac.db", "jobfac.db-wal", "jobfac.db-shm"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o664)
    assert database_fault(tmp_path / "jobfac.db") is None
    (tmp_path / f"jobfac.db{suffix}").chmod(0o606)
    assert f"anybody may write to {tmp_path}/jobfac.db{suffix} (mode 0606)" in str(
        database_fault(tmp_path / "jobfac.db")
    )


def test_a_worker_names_a_database_that_others_may_use(sqlite_factory: Factory) -> None:
    path = sqlite_factory.folder / "jobfac.db"
    assert list(open_to_others(path)) == []
    path.chmod(0o646)
    for command in ("worker", "up"):
        assert f"anybody may write to {path} (mode 0646)" in sqlite_factory.run(command, code=4).stderr
    path.chmod(0o644)
    sqlite_factory.worker()
    said = (sqlite_factory.folder / "worker-0.log").read_text()
    assert f"the database's file is open to other users (mode 0644); `chmod 600 {path}`" in said


def test_a_worker_and_the_doctor_report_an_unsafe_database(sqlite_factory: Factory) -> None:
    sqlite_factory.folder.chmod(0o1777)
    for command in ("worker", "up"):
        said = sqlite_factory.run(command, code=4).stderr
        assert "so place a journal beside it" in said
        assert "Traceback" not in said
    found = sqlite_factory.json("doctor", code=None)
    assert [one for one in found if "journal" in one["found"]]


def test_a_file_that_goes_meanwhile_is_open_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite removes its log when the last program closes the database."""
    path = tmp_path / "jobfac.db"
    log = path.with_name("jobfac.db-wal")
    for file in (path, log):
        file.touch(0o600)
    look = Path.stat

    def look_late(self: Path, **more: Any) -> os.stat_result:
        found = look(self, **more)
        if self == log:
            log.unlink()
        return found

    monkeypatch.setattr(Path, "stat", look_late)
    log.chmod(0o644)
    assert [name for name, _ in open_to_others(path)] == [log]
