"""What a user can do to a start of its own program does not make the worker wait."""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobfac.definitions import Job
from jobfac.programs import Guardian, Program, StartError, failures, kill_all, start
from jobfac.programs.files import accounts, becoming
from jobfac.states import RunState
from jobfac.telemetry.logs import SILENCE
from jobfac.worker.executions.execution import Execution
from jobfac.worker.health import examine, machine_fault
from tests.hostile.others import NOBODY, needs_root, run
from tests.support.process_stage import finish, until
from tests.unit.worker.test_launch import claimed


@pytest.fixture
def program(crossroads: Path) -> Path:
    """A program of the user nobody."""
    path = crossroads / "program"
    path.write_text("#!/bin/sh\necho started\n")
    path.chmod(0o755)
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    return path


@pytest.fixture
def lease(program: Path) -> Iterator[int]:
    """A process of nobody that reserves the program and does not answer: who executes it waits for 45 seconds."""
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.setresuid(*[NOBODY.pw_uid] * 3)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(os.open(program, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)
        os.write(writing, b"!")
        signal.pause()
    assert os.read(reading, 1) == b"!"
    yield holder
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    os.close(reading)
    os.close(writing)


@needs_root
def test_a_program_that_its_user_reserves_delays_only_itself(program: Path, lease: int) -> None:
    before = time.monotonic()
    process = start(Program((str(program),), "lease/1/1", {"PATH": os.defpath}, user="nobody"), 1, 2)
    assert time.monotonic() - before < 10
    until(lambda: f"Uid:\t{NOBODY.pw_uid}" in Path(f"/proc/{process.pid}/status").read_text())
    assert process.poll() is None
    kill_all([process])
    finish(process)
    assert process.not_started is None


def ignored_here() -> int:
    """Return the signals that this process ignores, as a mask."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16)


@needs_root
def test_a_program_of_another_user_begins_as_any_other(crossroads: Path) -> None:
    """It ignores no more signals, has three descriptors and its own variables alone, which may be large."""
    show = "ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status; env | grep -vE '^(PWD|SHLVL|_)=' | cut -c1-9"
    environment = {"PATH": os.defpath, "LARGE": "x" * 100_000, "LARGER": "x" * 100_000, "BYTES": "\udcff"}
    with (crossroads / "output").open("w+b") as output:
        run(Program(("/bin/sh", "-c", show), "begin/1/1", environment, "/", "nobody"), output.fileno())
        output.seek(0)
        shown = output.read().split(b"\n")
    assert int(shown[0]) == 4  # with the one of the listing
    restored = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(shown[1].split()[1], 16) == ignored_here() & ~restored
    names = {line.partition(b"=")[0] for line in shown[2:-1]}
    assert names == {b"BYTES", b"JOBFAC_MA", b"LARGE", b"LARGER", b"PATH"}


@needs_root
def test_a_long_reason_does_not_keep_the_process_from_ending() -> None:
    with pytest.raises(StartError, match="are too long to start it"):
        run(Program(("/" + "\u0001" * 120_000,), "long/1/1", {}, user="nobody"))


ECHO = Program(("/bin/echo",), "echo/1/1", {"PATH": os.defpath}, user="nobody")


@needs_root
def test_a_worker_that_may_not_switch_says_so() -> None:
    """The exit code of its process is not the program's."""
    drop, setuid = 24, 7  # PR_CAPBSET_DROP, CAP_SETUID
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).prctl(drop, setuid, 0, 0, 0)
            run(ECHO)
        except StartError as error:
            os._exit(0 if "may not switch to user 'nobody'" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@needs_root
def test_an_installation_that_is_being_exchanged_is_not_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(becoming, "__file__", "/there/is/none.py")
    with pytest.raises(StartError, match="ended with exit code 2 before the program began") as failed:
        run(ECHO)
    assert str(failed.value) == machine_fault(failed.value, Path("/spool"))


@needs_root
@pytest.mark.parametrize("is_known", [True, False], ids=["known user", "new user"])
def test_an_installation_that_is_gone_gives_the_run_back_and_names_the_cause(
    is_known: bool, crossroads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose installation was removed failed all runs of other users, and called their accounts the cause."""
    monkeypatch.setattr(accounts.accounts, "_known", {})
    if is_known:
        accounts.accounts.ask("nobody")
    (crossroads / "spool").mkdir(mode=0o711)
    assert examine(crossroads / "spool") is None
    monkeypatch.setattr(failures, "SCRIPTS", ("programs/guardian.py", "none.py"))
    why = "the installation of jobfac under this worker is gone: there is no"
    job = Job.model_validate({"command": ["/bin/true"], "user": "nobody", "directory": "/"})
    one = Execution(claimed(), job, "token", crossroads / "spool", SILENCE)
    assert str(one.begin()).startswith(why), "the worker becomes unhealthy"
    outcome = one.outcome(0.5)
    assert (outcome.state, outcome.pid, outcome.retry_after) == (RunState.QUEUED, None, None)
    assert why in str(outcome.reason)
    one.close()
    assert str(examine(crossroads / "spool")).startswith(why), "and remains so"
    with pytest.raises(StartError, match=why):
        Guardian().start()


@needs_root
def test_a_start_that_the_limit_of_its_user_refuses_is_put_off(crossroads: Path) -> None:
    """It failed, and a worker failed run after run. The worker itself stays well: the user may reach the limit."""
    (crossroads / "spool").mkdir(mode=0o711)
    job = Job.model_validate({"command": ["/bin/true"], "user": "nobody", "directory": "/"})

    def act() -> None:
        other = subprocess.Popen(["sleep", "600"], user="nobody", cwd="/")  # Linux does not count the one that changes
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        delays = []
        for number, attempt in enumerate((1, 2, 30), 1):
            one = Execution(claimed(number, attempt=attempt), job, "token", crossroads / "spool", SILENCE)
            assert one.begin() is None
            assert one.process is not None
            finish(one.process)
            outcome = one.outcome(0.0)
            assert (outcome.state, outcome.pid, outcome.exit_code) == (RunState.QUEUED, None, None)
            assert "all processes of user 'nobody'" in str(outcome.reason)
            delays.append(outcome.retry_after)
            one.close()
        other.kill()
        assert delays == [10.0, 20.0, 300.0]

    in_a_process(act)


@needs_root
def test_the_reason_of_a_start_that_failed_as_another_user_shows_no_secret(
    crossroads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_TOKEN", "geheim-1")
    (crossroads / "spool").mkdir(mode=0o711)
    body = {"command": ["/no/such/geheim-1"], "user": "nobody", "environment": {"T": {"secret": "env:HOSTILE_TOKEN"}}}
    one = Execution(claimed(), Job.model_validate(body), "token", crossroads / "spool", SILENCE)
    assert one.begin() is None
    assert one.process is not None
    finish(one.process)
    reason = str(one.outcome(0.5).reason)
    assert ("/no/such/********" in reason, "geheim" in reason) == (True, False)
    one.close()


@needs_root
def test_a_process_that_does_not_begin_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(becoming, "SECONDS", 0.2)
    large = dict.fromkeys(map(str, range(10)), "x" * 100_000)
    with pytest.raises(StartError, match="did not begin within"):
        run(Program(("/bin/echo",), "slow/1/1", large, user="nobody"))


def in_a_process(act: Callable[[], object]) -> None:
    """Run `act` in a process of its own, which it may change. Fails if it fails."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def shown(*argv: str) -> str:
    """Return what a program of nobody prints, started in the current folder."""
    with tempfile.TemporaryFile() as output:
        run(Program(argv, "shown/1/1", {"PATH": os.defpath}, user="nobody"), output.fileno())
        output.seek(0)
        return output.read().decode()


@needs_root
@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="this kernel has no keys")
def test_a_program_of_another_user_does_not_possess_the_keys_of_the_worker() -> None:
    libc, call = ctypes.CDLL(None), becoming.KEYCTL[os.uname().machine]
    add_key = {250: 248, 219: 217, 271: 269, 280: 278}[call]

    def act() -> None:
        libc.syscall(call, becoming.JOIN_SESSION_KEYRING, None)
        key = libc.syscall(add_key, b"user", b"of-the-worker", b"secret", 6, -3)
        assert key < 0 or "of-the-worker" in Path("/proc/keys").read_text()
        assert "of-the-worker" not in shown("cat", "/proc/keys")

    in_a_process(act)


@needs_root
def test_a_program_of_another_user_has_no_capabilities() -> None:
    """A worker that is not root may have them as ambient ones, to switch to other users."""
    libc, keep, ambient, rise = ctypes.CDLL(None), 8, 47, 2
    chown, override, kill, setgid, setuid = 0, 1, 5, 6, 7
    those = (chown, override, kill, setgid, setuid)
    mask = sum(1 << one for one in those)

    def act() -> None:
        libc.prctl(keep, 1, 0, 0, 0)
        os.setresgid(1, 1, 1)
        os.setresuid(1, 1, 1)
        assert libc.capset(becoming.CAPABILITIES, struct.pack("6I", mask, mask, mask, 0, 0, 0)) == 0
        for one in those:
            assert libc.prctl(ambient, rise, one, 0, 0) == 0
        found = shown("grep", "-E", "Uid|Cap(Inh|Prm|Eff|Amb)", "/proc/self/status").split("\n")
        assert found[0].split()[1:] == [str(NOBODY.pw_uid)] * 4
        assert [int(line.split()[1], 16) for line in found[1:-1]] == [0, 0, 0, 0]

    in_a_process(act)


@needs_root
def test_a_program_of_another_user_is_in_no_folder_that_it_cannot_get_to(
    crossroads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = crossroads / "closed/open"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    folder.parent.chmod(0o755)
    assert shown("pwd") == f"{folder}\n"
    folder.parent.chmod(0o700)
    assert shown("pwd") == "/\n"


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=needs_root)])
def test_a_program_that_somebody_writes_is_started_later(program: Path, user: str | None) -> None:
    job = Job.model_validate({"command": [str(program)], "user": user, "directory": "/"})
    for is_written in (True, False):
        one = Execution(claimed(), job, "token", program.parent, SILENCE)
        with program.open("a") if is_written else contextlib.nullcontext():
            assert one.begin() is None, "the machine is well"
            if one.process is not None:
                finish(one.process)
        found = one.outcome(0.0)
        shown = (found.state, found.retry_after, found.reason)
        why = f"not started: {str(program)!r} cannot be started while somebody writes the file, as a deployment does"
        assert shown == ((RunState.QUEUED, 10.0, why) if is_written else (RunState.SUCCEEDED, None, None))
        one.close()
