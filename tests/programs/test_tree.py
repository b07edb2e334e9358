"""All processes of a program's tree are found, and no others."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobfac.programs import Process, kill_all, kill_marked, posix, procfs, watcher, why_alive
from jobfac.programs import children as children_module
from jobfac.programs.children import children, outputs_of, regular_file
from jobfac.programs.reading import read_each
from jobfac.programs.tree import Entry, Table, entry, kill_found, send
from tests.programs.capabilities import PERFMON, SYS_ADMIN, SYS_PTRACE, without_capabilities
from tests.support.process_stage import Stage, finish, lives, until, written


def test_a_program_that_ignores_term_is_killed(stage: Stage) -> None:
    process, out, _ = stage.zoo("ignores_term.py")
    until(lambda: written(out) == b"ready\n")
    process.terminate()
    process.terminate()
    assert process.poll() is None
    assert process.alive()
    process.kill()
    until(lambda: not process.alive())
    assert process.exit is not None
    assert (process.exit.code, process.exit.signal) == (None, signal.SIGKILL)


def test_a_program_that_became_another_user_is_known_to_refuse_signals(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _, _ = stage.start("sleep", "600")
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", _refuse)
        process.terminate()
        assert process.refuses
    process.kill()


def _refuse(group: int, number: int) -> None:
    raise PermissionError


def test_a_child_that_became_another_user_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    process, out, _ = stage.zoo("changes_group.py")
    (child,) = stage.numbers(out)
    with monkeypatch.context() as patch:
        patch.setattr(posix, "refuses_signals", lambda pid: pid == child)
        patch.setattr(watcher, "refuses_signals", lambda pid: pid == child)
        patch.setattr(Process, "leftovers", lambda self: [child])
        assert why_alive(process) == (
            f"this worker may not end process {child}, which became another user, as sudo does: end it as that user; "
            "the run ends when the process does"
        )
        process.kill()
        assert process.refuses


@pytest.mark.usefixtures("either_way")
def test_leftover_processes_are_found_and_killed(stage: Stage) -> None:
    process, out, _ = stage.zoo("forks_and_exits.sh")
    bystander, _, _ = stage.start("sleep", "600")
    finish(process)
    (child,) = stage.numbers(out)
    assert process.leftovers() == [child]
    assert process.alive()
    process.terminate()
    until(lambda: not process.alive())
    assert not lives(child)
    assert bystander.poll() is None


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_daemon_in_its_own_session_is_found(stage: Stage, how: str) -> None:
    process, out, _ = stage.zoo("daemon.py")
    finish(process)
    (daemon,) = stage.numbers(out)
    assert process.leftovers() == [daemon]
    getattr(process, how)()
    until(lambda: not process.alive())
    assert not lives(daemon)


@pytest.fixture
def no_ptrace() -> Iterator[None]:
    """Take from this thread the right to read environments that are not its user's to read."""
    with without_capabilities(SYS_PTRACE, SYS_ADMIN, PERFMON):
        yield


@pytest.mark.usefixtures("either_way", "no_ptrace")
def test_a_daemon_whose_environment_cannot_be_read_is_found(stage: Stage) -> None:
    process, out, _ = stage.zoo("unreadable_daemon.py")
    other, _, _ = stage.zoo("unreadable_daemon.py", detach=True)
    finish(process)
    (daemon,) = stage.numbers(out)
    with pytest.raises(PermissionError):
        Path(f"/proc/{daemon}/environ").read_bytes()
    assert process.leftovers() == [daemon]
    process.kill()
    until(lambda: not process.alive())
    assert not lives(daemon)
    finish(other)
    assert kill_marked(other.marker) == 1


@pytest.mark.usefixtures("either_way")
def test_a_daemon_that_writes_a_title_over_its_environment_is_found(stage: Stage) -> None:
    process, out, _ = stage.zoo("titled_daemon.py")
    other, _, _ = stage.zoo("titled_daemon.py", detach=True)
    finish(process)
    (daemon,) = stage.numbers(out)
    assert b"JOBFAC_MARKER" not in Path(f"/proc/{daemon}/environ").read_bytes()
    assert process.leftovers() == [daemon]
    process.kill()
    until(lambda: not process.alive())
    assert not lives(daemon)
    finish(other)
    assert kill_marked(other.marker) == 1


def test_a_dead_workers_program_with_a_cleared_environment_is_found(stage: Stage) -> None:
    process, out, _ = stage.start("env", "-i", "sh", "-c", "unset PWD; echo $$; exec sleep 600")
    (cleared,) = stage.numbers(out)
    until(lambda: not Path(f"/proc/{cleared}/environ").read_bytes())
    assert kill_marked(process.marker) == 1
    until(lambda: not process.alive())


def test_a_grandchild_with_the_output_open_delays_nothing(stage: Stage) -> None:
    process, out, _ = stage.zoo("grandchild_holds_stdout.sh", str(stage.folder / "1-1.stdout"))
    finish(process)
    (grandchild,) = stage.numbers(out)
    assert process.leftovers() == [grandchild]
    process.kill()
    until(lambda: not process.alive())


@pytest.mark.usefixtures("either_way")
def test_a_process_in_another_group_is_killed(stage: Stage) -> None:
    process, out, _ = stage.zoo("changes_group.py")
    (child,) = stage.numbers(out)
    process.terminate()
    until(lambda: not process.alive())
    assert not lives(child)
    assert process.exit is not None
    assert process.exit.signal == signal.SIGTERM


def test_an_adopted_zombie_is_reaped(stage: Stage) -> None:
    process, out, _ = stage.zoo("leaves_zombie.py")
    finish(process)
    (zombie,) = stage.numbers(out)
    assert entry(zombie) is None
    assert process.leftovers() == []


def test_a_deep_tree_with_many_sessions_is_killed_completely(stage: Stage) -> None:
    process, out, _ = stage.zoo("deep_tree.py", "5")
    members = stage.numbers(out, 63)
    process.kill()
    until(lambda: not any(map(lives, members)))
    assert not process.alive()


@pytest.mark.usefixtures("either_way")
def test_a_descendant_with_a_cleared_environment_is_found(stage: Stage) -> None:
    process, escaped, _ = let_escape(stage, "holding")
    process.terminate()
    until(lambda: not process.alive())
    assert not lives(escaped)


def test_an_orphan_with_a_cleared_environment_is_found_by_its_output_file(stage: Stage) -> None:
    stage.start("sleep", "600")
    process, escaped, go = let_escape(stage, "holding")
    go.touch()
    finish(process)
    assert process.leftovers() == [escaped]
    process.kill()
    until(lambda: not process.alive())
    assert entry(escaped) is None


def test_an_unattributed_orphan_is_reported_and_not_killed(stage: Stage) -> None:
    process, escaped, go = let_escape(stage, "bare")
    go.touch()
    finish(process)
    assert process.leftovers() == []
    assert unattributed_orphans() == [escaped]
    os.kill(escaped, signal.SIGKILL)
    until(lambda: unattributed_orphans() == [])
    assert entry(escaped) is None


def unattributed_orphans() -> list[int]:
    """The living processes that a program left behind and that cannot be attributed to an execution.

    Such a process has cleared its environment, opened its own session and closed its output file, and its parent ended
    before a sweep. It is reaped when it ends, but never signalled.
    """
    with children.lock:
        children.sweep()
        return children.orphans(None)


@pytest.mark.parametrize("ends", [True, False], ids=["dead", "living"])
def test_many_orphans_at_once_are_found_with_few_readers(
    stage: Stage, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may leave thousands in a second. Each reader is a thread, and a dead process has nothing to read."""
    orphan = "true" if ends else "sleep 600"
    leave = f"for i in $(seq 150); do (setsid {orphan} &); done; echo 1; sleep 600"
    others = children._listed()
    process, out, _ = stage.start("sh", "-c", leave)
    stage.numbers(out)

    def orphans() -> set[int]:
        return children._listed() - others - {process.pid}

    until(lambda: len(orphans()) == 150)
    until(lambda: not ends or all(map(children_module.is_dead, orphans())))
    reads: list[int] = []

    def counted(read: Callable[[int], Any], user: Callable[[int], int | None], pids: Iterable[int]) -> dict[int, Any]:
        reads.append(1)
        return read_each(read, user, pids)

    monkeypatch.setattr(children_module, "read_each", counted)
    monkeypatch.setattr(children_module, "markers", lambda pids: counted(procfs._marker, procfs.user_of, pids))
    dead = children.sweep()
    assert (len(dead) >= 150) == ends
    assert len(reads) == 2
    process.kill()
    until(lambda: not process.alive())


def let_escape(stage: Stage, how: str) -> tuple[Process, int, Path]:
    """Return the program, its escaped process without session and environment, and the file that ends the program."""
    go = stage.folder / "go"
    process, out, _ = stage.zoo("escapes.sh", how, str(go))
    (escaped,) = stage.numbers(out)
    until(lambda: os.getsid(escaped) == escaped)
    return process, escaped, go


@pytest.mark.usefixtures("either_way")
def test_leftovers_of_a_detached_program_are_kept(stage: Stage) -> None:
    process, out, _ = stage.zoo("daemon.py", detach=True)
    finish(process)
    (daemon,) = stage.numbers(out)
    assert not process.alive()
    process.kill()
    assert lives(daemon)
    assert kill_marked(process.marker) == 1
    until(lambda: not lives(daemon))


def test_many_programs_are_stopped_together(stage: Stage) -> None:
    processes = [stage.start("sleep", "600")[0] for _ in range(20)]
    spared, _, _ = stage.start("sleep", "600")
    for process in processes:
        process.terminate()
    until(lambda: not any(process.alive() for process in processes))
    kill_all([spared])
    until(lambda: not spared.alive())
    kill_all([])


def test_a_marker_prefix_matches_whole_parts(stage: Stage) -> None:
    first, _, _ = stage.start("sleep", "600")
    others = [stage.start("sleep", "600")[0] for _ in range(10)]
    assert kill_marked(f"{stage.token}/1") == 1
    until(first.poll)
    assert [process.poll() for process in others] == [None] * 10
    assert kill_marked(stage.token + "/") == 10


@pytest.mark.parametrize(("flags", "is_output"), [(os.O_RDONLY, False), (os.O_WRONLY, True), (os.O_RDWR, True)])
def test_a_file_that_a_process_only_reads_is_not_its_output(tmp_path: Path, flags: int, is_output: bool) -> None:
    """Otherwise, who may read a job's output file could count processes of another user among those of the job."""
    (tmp_path / "out.log").touch()
    file = os.open(tmp_path / "out.log", flags)
    with subprocess.Popen(["sleep", "600"], stdout=file, stderr=subprocess.DEVNULL) as process:
        assert outputs_of(process.pid) == ({regular_file(file)} if is_output else set())
        process.kill()
    os.close(file)


def test_a_search_for_processes_that_somebody_starts_without_end_ends(stage: Stage) -> None:
    """Somebody outside of the tree who uses its marker could keep the worker's loop in the search."""
    started: list[Process] = []

    def find() -> list[Entry]:
        started.append(stage.start("sleep", "600")[0])
        found = entry(started[-1].pid)
        return [] if found is None else [found]

    assert kill_found(find, seconds=0.2) == len(started) > 1


def test_a_signal_never_reaches_a_later_owner_of_the_number(stage: Stage) -> None:
    process, _, _ = stage.start("sleep", "600")
    found = entry(process.pid)
    assert found is not None
    assert not send(process.pid, found.start - 1, signal.SIGKILL)
    assert process.poll() is None
    assert send(process.pid, found.start, signal.SIGKILL)
    finish(process)
    assert not send(process.pid, found.start, signal.SIGKILL)


def row(pid: int, parent: int, session: int, dead: bool = False) -> Entry:
    return Entry(pid, parent, session, session, 100, dead)


def family(rows: list[Entry], seeds: list[int], sessions: list[int] | None = None) -> set[int]:
    return set(Table({one.pid: one for one in rows}).family(seeds, sessions or []))


BIG = 1_000_000  # above all PIDs of the real machine


def test_family_follows_descent_and_the_sessions_of_descendants() -> None:
    rows = [
        row(BIG, 1, 1),  # the worker, in an older session
        row(BIG + 1, BIG, BIG + 1),  # the program
        row(BIG + 2, BIG + 1, BIG + 2),  # its child with its own session
        row(BIG + 3, 1, BIG + 2),  # an orphan in that session
        row(BIG + 4, BIG + 3, BIG + 2, dead=True),
        row(BIG + 5, BIG, BIG + 5),  # another program
        row(BIG + 6, 1, BIG + 1),  # an orphan in the program's session
    ]
    assert family(rows, [BIG + 1]) == {BIG + 1, BIG + 2, BIG + 3, BIG + 6}
    assert family(rows, [BIG + 6]) == {BIG + 6}  # its session's leader lives and is not in the family
    assert family(rows, [BIG + 9]) == set()


def test_family_includes_a_session_only_if_its_leader_is_gone_or_included() -> None:
    rows = [row(BIG + 2, 1, BIG + 1), row(BIG + 3, 1, BIG + 3), row(BIG + 4, BIG + 3, BIG + 3), row(BIG + 5, 1, 0)]
    assert family(rows, [], [BIG + 1]) == {BIG + 2}
    assert family(rows, [BIG + 2]) == {BIG + 2}
    assert family(rows, [], [BIG + 3]) == set()
    assert family(rows, [], [0]) == set()
