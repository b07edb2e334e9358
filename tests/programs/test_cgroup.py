"""Limits by cgroup v2: on a tree of plain files, on the machine's cgroup tree, and where it is delegated for real."""

import errno
import os
import resource
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.programs import Limits, StartError, gate
from jobfac.programs.cgroup import LEAF, Delegation, Group, delegation, is_delegated, own_folder
from jobfac.programs.usage import Usage
from jobfac.worker.health import machine_fault, passes
from tests.support.process_stage import Stage, finish, text, until

ALL = Limits(memory=64 << 20, cpu=1.5, processes=20)
MOUNTS = "41 31 0:38 {top} {point} rw,relatime shared:9 - cgroup2 cgroup2 rw\n36 31 0:33 / /proc rw - proc proc rw\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A delegated cgroup, as plain files."""
    for name, content in (
        ("cgroup.controllers", "cpu io memory pids"),
        ("cgroup.procs", ""),
        ("cgroup.type", "domain"),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_a_group_has_the_limits_of_its_job(tree: Path) -> None:
    Delegation(tree).group("1-1", ALL)
    made = {file.name: file.read_text() for file in (tree / "jobfac-run-1-1").iterdir()}
    assert made == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "pids.max": "20",
    }
    assert (tree / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (tree / LEAF).is_dir()


def test_only_the_limits_that_were_given_are_set(tree: Path) -> None:
    Delegation(tree).group("1-1", Limits(cpu=0.001))
    assert {file.name: file.read_text() for file in (tree / "jobfac-run-1-1").iterdir()} == {"cpu.max": "1000 100000"}


def test_a_controller_that_is_missing_is_named(tree: Path) -> None:
    (tree / "cgroup.controllers").write_text("cpu")
    one = Delegation(tree)
    one.group("1-1", Limits(cpu=1.0))
    with pytest.raises(StartError, match="its cgroup lacks the controller memory, pids; set Delegate=yes in the"):
        one.group("1-2", ALL)


def test_a_group_that_cannot_be_made_refuses_the_start(tree: Path) -> None:
    one = Delegation(tree)
    one.group("1-1", ALL)
    (tree / "jobfac-run-1-2").write_text("in the way")
    with pytest.raises(StartError, match=r"1-2 cannot be set up \(File exists\); .*or remove limits from the job"):
        one.group("1-2", ALL)


def test_that_the_machine_lacks_something_is_no_fault_of_the_job(tree: Path) -> None:
    (tree / "jobfac-run-1-1").mkdir()
    (tree / "jobfac-run-1-1/pids.max").symlink_to("/dev/full")
    with pytest.raises(StartError, match="No space left") as full:
        Delegation(tree).group("1-1", ALL)
    assert passes(full.value)
    delegation.cache_clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StartError, match="its cgroup cannot be found") as few:
            delegation()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert machine_fault(few.value, tree) == "too many open files in this worker"


def test_groups_that_a_former_worker_left_are_removed(tree: Path) -> None:
    (tree / "jobfac-run-7-1").mkdir()
    (tree / "another").mkdir()
    Delegation(tree).group("8-1", ALL)
    assert sorted(path.name for path in tree.iterdir() if path.is_dir()) == ["another", "jobfac-run-8-1", LEAF]


def test_a_group_in_which_a_program_has_left_something_is_removed_after_its_end(tree: Path) -> None:
    one = Delegation(tree)
    for name in ("1-1", "1-2"):
        group = one.group(name, Limits())
        (tree / f"jobfac-run-{name}/alive").touch()  # it has as little a place in a removed folder as a process
        group.remove()
    (tree / "jobfac-run-1-1/alive").unlink()
    one.group("1-3", Limits()).remove()
    assert sorted(path.name for path in tree.glob("jobfac-run-*")) == ["jobfac-run-1-2"]
    (tree / "jobfac-run-1-2/alive").unlink()
    one.group("1-4", Limits()).remove()
    assert not list(tree.glob("jobfac-run-*"))


def test_what_a_group_used_is_read_from_its_files(tmp_path: Path) -> None:
    group, known = Group(tmp_path), Usage(0.25, 1000)
    assert (group.usage(known), group.hit_memory_limit(), group.refused_processes()) == (known, False, 0)
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
    (tmp_path / "memory.peak").write_text("67108864\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 0\noom_kill 2\noom_group_kill 1\n")
    assert (group.hit_memory_limit(), group.was_killed_for_memory()) == (False, True), "the machine was out of memory"
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "pids.events").write_text("max 3\n")
    assert (group.usage(known), group.hit_memory_limit(), group.refused_processes()) == (Usage(1.5, 64 << 20), True, 3)


@pytest.mark.parametrize(
    ("top", "membership", "folder"),
    [
        ("/", "3:pids:/x\n0::/system.slice/jobfac.service\n", "/sys/fs/cgroup/system.slice/jobfac.service"),
        ("/", f"0::/system.slice/jobfac.service/{LEAF}\n", "/sys/fs/cgroup/system.slice/jobfac.service"),
        ("/box", "0::/box/inner\n", "/sys/fs/cgroup/inner"),
        ("/", "0::/\n", "/sys/fs/cgroup"),
        ("/", "3:pids:/x\n", None),
    ],
)
def test_the_worker_s_own_cgroup_is_found(top: str, membership: str, folder: str | None) -> None:
    found = own_folder(MOUNTS.format(top=top, point="/sys/fs/cgroup"), membership)
    assert (None if found is None else str(found)) == folder
    assert own_folder("36 31 0:33 / /proc rw - proc proc rw\n", membership) is None


def test_the_root_of_the_tree_and_what_may_not_be_written_are_not_delegated(tree: Path) -> None:
    assert is_delegated(tree)
    (tree / "cgroup.type").unlink()
    assert not is_delegated(tree)


@pytest.fixture
def real_group() -> Iterator[tuple[Path, Path]]:
    """The mount point of cgroup v2, and a group in it without controllers."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    point = next((Path(line.split()[4]) for line in mounts if " - cgroup2 " in line), None)
    if point is None or not os.access(point, os.W_OK) or os.geteuid() != 0:
        pytest.skip("this machine has no cgroup v2 that this user may change")
    folder = point / f"jobfac-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made in {point}: {error}")
    yield point, folder
    Group(folder).remove()
    assert not folder.exists()


class Made:
    """Stands for a delegation that has made this group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: list[str] = []

    def group(self, name: str, limits: Limits) -> Group:
        self.names.append(name)
        return Group(self._folder)


def test_a_program_and_its_children_run_in_the_group_from_their_first_moment(
    stage: Stage, real_group: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    point, folder = real_group
    monkeypatch.setattr(gate, "delegation", lambda: Made(folder))
    inside = f"0::/{folder.relative_to(point)}\n".encode()
    script = 'grep ^0:: /proc/self/cgroup; sh -c "grep ^0:: /proc/self/cgroup"; echo "$0 $1"; cat; exit 7'
    process, out, _ = stage.start("sh", "-c", script, "a b", "c", limits=ALL)
    finish(process)
    assert process.exit is not None
    assert process.exit.code == 7
    assert text(out) == inside + inside + b"a b c\n", "and its standard input is empty"
    burn = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    process, _, _ = stage.start(sys.executable, "-S", "-c", burn, limits=ALL)
    finish(process)
    assert 0.2 <= process.usage().cpu_seconds < 2.0


def test_other_users_do_not_learn_the_marker_from_the_name_of_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path / "group")
    monkeypatch.setattr(gate, "delegation", lambda: made)
    for marker in ("token/17/1/5eed", "token/17/1/feed"):
        with gate.Gate(("true",), ALL, marker):
            pass
    assert [name.rpartition("-")[0] for name in made.names] == ["token-17-1"] * 2
    assert not [name for name in made.names if "5eed" in name or "feed" in name or "/" in name]
    assert len(set(made.names)) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("/no/such", "there is no program '/no/such'"), ("no-such", "in PATH"), ("/etc/hostname", "may not be executed")],
)
def test_a_program_with_limits_that_cannot_start_says_why(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    group = tmp_path / "group"
    group.mkdir()
    monkeypatch.setattr(gate, "delegation", lambda: Made(group))
    with pytest.raises(StartError, match=sentence):
        stage.start(name, limits=ALL)
    assert not group.exists()


def test_a_program_that_cannot_enter_its_group_does_not_run(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Group, pid: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(gate, "delegation", lambda: Made(tmp_path / "gone"))
    monkeypatch.setattr(Group, "enter", refuse)
    ran = tmp_path / "ran"
    with pytest.raises(StartError, match="'touch' cannot be put into its cgroup: Permission denied"):
        stage.start("touch", str(ran), limits=ALL)
    assert not ran.exists()


def test_limits_are_kept_by_the_kernel_where_the_cgroup_is_delegated(stage: Stage) -> None:
    try:
        delegation().group("probe", ALL).remove()
    except StartError as error:
        pytest.skip(f"run it in a unit with Delegate=yes: {error}")
    process, _, _ = stage.start(sys.executable, "-S", "-c", "x = b'x' * (256 << 20)", limits=Limits(memory=64 << 20))
    until(process.poll)
    assert process.group is not None
    assert process.group.hit_memory_limit()
    process.group.remove()
    process, out, _ = stage.start("sh", "-c", "sleep 9 & sleep 9 & sleep 9 & echo no", limits=Limits(processes=2))
    until(process.poll)
    assert process.group is not None
    assert (process.group.refused_processes() > 0, text(out)) == (True, b"")
