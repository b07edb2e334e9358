"""The table of mounted file systems, read without a look at any of them."""

from pathlib import Path

import pytest

from jobfac.machine import mounts
from jobfac.machine.mounts import Mount, Remote, mount_of

TABLE = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 /x /mnt/a\040drive\134 rw master:1 shared:2 - nfs4 host:/x rw,vers=4.2
31 30 0:41 / /mnt/a\040drive\134/local rw - tmpfs tmpfs rw
32 22 0:42 / /home/me rw - fuse.sshfs me@host: rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is read instead of the kernel's table of mounts."""
    (table := tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(mounts, "TABLE", table)
    return table


def test_points_and_types_are_read(table: Path) -> None:
    assert mounts.mounts() == [
        Mount("/", "ext4"),
        Mount("/mnt/a drive\\", "nfs4"),
        Mount("/mnt/a drive\\/local", "tmpfs"),
        Mount("/home/me", "fuse.sshfs"),
    ]


def test_a_path_belongs_to_the_deepest_mount_above_it() -> None:
    points = ["/", "/home", "/home/me"]
    found = {path: mount_of(path, points) for path in ("/", "/etc", "/home", "/homes", "/home/me/x", "/home/mel")}
    assert found == {
        "/": "/",
        "/etc": "/",
        "/home": "/home",
        "/homes": "/",
        "/home/me/x": "/home/me",
        "/home/mel": "/home",
    }
    assert mount_of("/etc", []) == ""


def test_a_path_through_a_file_system_with_a_server_may_wait_for_it(table: Path) -> None:
    remote = Remote()
    paths = ("/", "/homes", "/home/me", "/home/me/x", "/mnt/a drive\\/local")
    assert [path for path in paths if remote.has_any({path}, 0)] == [
        "/home/me",
        "/home/me/x",
        "/mnt/a drive\\/local",
    ]
    assert remote.has_any({"/", "/home/me"}, 0)


def test_without_a_table_every_path_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TABLE", Path("/no/such"))
    assert mounts.mounts() == []
    assert mounts.neighbours("/a", ["/a", "/b"]) == 0
    assert Remote().has_any({"/"}, 0)


def test_a_new_mount_is_known_a_second_later(table: Path) -> None:
    remote = Remote()
    assert not remote.has_any({"/data"}, 0)
    table.write_text(f"{TABLE}40 22 0:50 / /data rw - cifs //host/x rw\n")
    assert [remote.has_any({"/data"}, now) for now in (1.0, 1.1)] == [False, True]


@pytest.mark.skipif(not mounts.TABLE.exists(), reason="needs Linux")
def test_this_machine_has_a_root() -> None:
    assert "/" in {mount.point for mount in mounts.mounts()}
