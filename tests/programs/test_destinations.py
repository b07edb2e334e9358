"""Output to files that a definition names."""

import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobfac.machine import trusted
from jobfac.programs import StartError, destination_path
from jobfac.programs.files import destinations
from jobfac.programs.files.destinations import Kind, open_path

NOW = datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC)


def write(folder: Path, kind: Kind, pattern: str, text: bytes, rotate_at: int = 20, keep: int = 2) -> Path:
    path = destination_path(kind, pattern, str(folder), 42, NOW)
    fd = open_path(kind, path, rotate_at, keep)
    os.write(fd, text)
    os.close(fd)
    return path


def test_overwrite_truncates_the_file_and_creates_folders(tmp_path: Path) -> None:
    write(tmp_path, "overwrite", "logs/new/out.log", b"first run")
    path = write(tmp_path, "overwrite", "logs/new/out.log", b"second")
    assert path == tmp_path / "logs/new/out.log"
    assert path.read_bytes() == b"second"


def test_two_streams_in_one_file_do_not_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "both.log"
    one, two = (open_path("overwrite", path, 0, 0) for _ in range(2))
    for fd, text in ((one, b"a"), (two, b"b"), (one, b"c")):
        os.write(fd, text)
    os.close(one)
    os.close(two)
    assert path.read_bytes() == b"abc"


def test_append_rotates_when_the_file_is_too_large(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path, "append", "out.log", b"%d" % number * 15)
        write(tmp_path, "append", "out.log", b"+" * 10)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == {
        "out.log": b"3" * 15 + b"+" * 10,
        "out.log.1": b"2" * 15 + b"+" * 10,
        "out.log.2": b"1" * 15 + b"+" * 10,
    }


def test_a_rotated_file_keeps_its_access_list(tmp_path: Path) -> None:
    path = write(tmp_path, "append", "out.log", b"a" * 30)
    entries = [(1, 6, -1), (2, 4, 12345), (4, 0, -1), (16, 4, -1), (32, 0, -1)]  # a user may read, and no group
    given = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", given)
    write(tmp_path, "append", "out.log", b"b")
    assert (path.read_bytes(), os.getxattr(path, "system.posix_acl_access")) == (b"b", given)


def test_a_rotated_file_gets_no_access_list_of_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path, "append", "out.log", b"a" * 30)
    path.chmod(0o640)
    entries = [(1, 7, -1), (2, 7, 12345), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    given = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(tmp_path, "system.posix_acl_default", given)
    write(tmp_path, "append", "out.log", b"b")
    assert (path.stat().st_mode & 0o777, os.listxattr(path)) == (0o640, [])


def test_a_start_beside_the_rotation_of_another_one_makes_a_file_like_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "append", "out.log", b"a")
    path.chmod(0o640)

    def rotated(*given: Any) -> int:
        if not (tmp_path / "out.log.1").exists():
            path.rename(tmp_path / "out.log.1")
        return really_open(*given)

    really_open = trusted.open_regular
    monkeypatch.setattr(destinations, "open_regular", rotated)
    os.close(open_path("append", path, 1000, 5))
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_rotation_that_keeps_nothing_begins_anew(tmp_path: Path) -> None:
    for text in (b"a" * 30, b"b"):
        write(tmp_path, "append", "out.log", text, keep=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.log": b"b"}


def test_timestamped_creates_a_file_for_each_run(tmp_path: Path) -> None:
    path = write(tmp_path, "timestamped", str(tmp_path / "out-*.log"), b"text")
    assert path == tmp_path / "out-20270304T050607Z-42.log"
    with pytest.raises(StartError, match=r"'out.log' has no '\*'"):
        write(tmp_path, "timestamped", "out.log", b"")


def test_a_path_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StartError, match=r"the output file '.*/file/out.log' cannot be opened: .*/file' is not a folder"
    ):
        write(tmp_path, "append", "file/out.log", b"")


def test_a_named_pipe_without_a_reader_does_not_block_the_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StartError, match="choose another path"):
        write(tmp_path, "append", "pipe", b"")
