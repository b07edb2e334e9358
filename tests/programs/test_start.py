"""A program that cannot be started is explained in a sentence. A started program has a clean environment."""

import errno
import os
import pwd
import resource
import signal
from pathlib import Path

import pytest

from jobfac.programs import Program, StartError, start, unignore_signals
from jobfac.programs.failures import explain
from tests.support.process_stage import Stage, finish, text


def refusal(stage: Stage, *argv: str, directory: str | None = None, user: str | None = None) -> str:
    with pytest.raises(StartError) as caught:
        stage.start(*argv, directory=directory, user=user)
    return str(caught.value)


def script(stage: Stage, content: str, mode: int = 0o755) -> str:
    path = stage.folder / "script"
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_a_missing_program_is_explained(stage: Stage) -> None:
    assert refusal(stage, "no-such-program").startswith("there is no program 'no-such-program' in PATH (")
    assert (
        refusal(stage, "/no/such") == "there is no program '/no/such' on this worker; install it or correct the command"
    )
    assert "there is no program './x'" in refusal(stage, "./x", directory=str(stage.folder))
    assert "the command is empty" in refusal(stage)


@pytest.mark.parametrize("name", ["cd", "source", "FOO=1", "FOO=/srv/data", "make && touch done"])
def test_a_command_for_a_shell_is_explained(stage: Stage, name: str) -> None:
    assert "only a shell knows it: set shell: true" in refusal(stage, name)


@pytest.mark.parametrize("name", ["my program", "a=b=c/d.sh -x", "./cd"])
def test_other_missing_programs_are_not_for_a_shell(stage: Stage, name: str) -> None:
    assert ("only a shell" in refusal(stage, name)) == name.startswith("a=")


def test_a_script_without_an_interpreter_is_explained(stage: Stage) -> None:
    assert "has no '#!' line" in refusal(stage, script(stage, "echo hello\n"))
    assert "names '/no/such/python' to run it" in refusal(stage, script(stage, "#!/no/such/python -u\n"))
    assert "has the line ends of Windows" in refusal(stage, script(stage, "#!/bin/sh\r\necho hello\r\n"))


def test_a_program_that_may_not_be_executed_is_explained(stage: Stage) -> None:
    assert "make it executable" in refusal(stage, script(stage, "#!/bin/sh\n", 0o644))
    assert "is a directory" in refusal(stage, str(stage.folder))
    os.mkfifo(stage.folder / "pipe")
    assert "is not a regular file" in refusal(stage, str(stage.folder / "pipe"))
    (stage.folder / "interpreter").touch()
    named = refusal(stage, script(stage, f"#!{stage.folder}/interpreter\n"))
    assert f"names '{stage.folder}/interpreter' to run it, which this worker may not execute" in named
    assert "is no path of a program: File name too long" in refusal(stage, "/" + "a" * 300)


def test_a_mount_without_exec_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.touch(0o755)
    mount = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, os.ST_NOEXEC, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: mount)
    sentence = explain([str(program)], {}, None, None, PermissionError(errno.EACCES, "Permission denied"))
    assert "is on a file system that is mounted noexec" in sentence


def test_a_missing_directory_is_explained(stage: Stage) -> None:
    missing = str(stage.folder / "missing")
    assert f"the directory {missing!r} does not exist" in refusal(stage, "true", directory=missing)
    assert "is not a directory" in refusal(stage, "true", directory=script(stage, ""))


def test_an_unknown_user_is_explained(stage: Stage) -> None:
    assert refusal(stage, "true", user="no-such-user").startswith("there is no user 'no-such-user' on this worker")


def test_a_program_runs_as_another_user_only_with_root(stage: Stage) -> None:
    """Root becomes that user, without root's groups. Other users get an error."""
    if os.geteuid() == 0:
        process, out, _ = stage.start("sh", "-c", "id -un; id -G", user="nobody")
        finish(process)
        assert text(out) == f"nobody\n{pwd.getpwnam('nobody').pw_gid}\n".encode()
    else:
        process, _, _ = stage.start("true", user="nobody")
        finish(process)
        assert "may not switch to user 'nobody'" in str(process.not_started)


def test_the_same_user_needs_no_permission(stage: Stage) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    process, out, _ = stage.start("id", "-un", user=me)
    finish(process)
    assert text(out) == f"{me}\n".encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_program_of_root_does_not_keep_the_group_of_its_worker(stage: Stage) -> None:
    """As under a unit with `User=root` and another `Group=`."""
    own = os.getegid()
    os.setegid(pwd.getpwnam("nobody").pw_gid)
    try:
        process, out, _ = stage.start("id", "-g", user="root")
        finish(process)
    finally:
        os.setegid(own)
    assert text(out) == b"0\n"


def test_unusable_arguments_are_explained(stage: Stage) -> None:
    assert "embedded null byte" in refusal(stage, "echo", "a\0b")
    assert "too long" in refusal(stage, "echo", "x" * 4_000_000)


def test_too_many_open_files_are_explained(stage: Stage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    null = os.open(os.devnull, os.O_RDWR)
    resource.setrlimit(resource.RLIMIT_NOFILE, (null + 1, hard))
    try:
        with pytest.raises(StartError, match="too many open files; raise its limit"):
            start(Program(("true",), f"{stage.token}/1/1", {"PATH": os.environ["PATH"]}), null, null)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(null)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EAGAIN, "the limit of processes is reached"),
        (errno.ENOMEM, "out of memory"),
        (errno.ENOSPC, "the disk is full"),
    ],
)
def test_faults_of_the_machine_are_explained(number: int, remedy: str) -> None:
    assert remedy in explain(["tar"], {}, None, None, OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_a_failing_disk_does_not_show_does_not_count_as_missing(number: int) -> None:
    sentence = explain(["/gone/tool"], {}, "/gone", None, OSError(number, os.strerror(number)))
    assert sentence.startswith(f"'/gone/tool' cannot be started: {os.strerror(number)}; check the file systems")


def test_other_errors_keep_their_text() -> None:
    error = OSError(errno.ELIBBAD, "Accessing a corrupted shared library")
    assert explain(["/bin/sh"], {}, None, None, error) == (
        "'/bin/sh' cannot be started: Accessing a corrupted shared library; correct the command"
    )


def test_a_program_starts_with_default_signals(stage: Stage) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        unignore_signals()
        os.kill(os.getpid(), signal.SIGHUP)  # this process still ignores it
        process, out, _ = stage.start("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {signal.SIGTERM, signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, before)
    finish(process)
    assert text(out) == b"SigBlk:\t" + b"0" * 16 + b"\nSigIgn:\t" + b"0" * 16 + b"\n"


def test_a_missing_spool_folder_is_explained(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "gone")
    with pytest.raises(
        StartError, match=r"the spool file .* cannot be opened: the folder .* does not exist; create it"
    ):
        stage.start("true")
