"""A command whose output nobody reads any more, as after `jobfac start load --follow | head`."""

import errno
import os
import subprocess
import sys
from typing import Any

import pytest

from jobfac.cli.commands import start
from jobfac.states import RunState
from tests.support.factory import Factory


@pytest.mark.parametrize("words", [("start", "load"), ("retry", "1")])
def test_a_start_onto_a_full_disk_is_no_failure(sqlite_factory: Factory, words: tuple[str, str]) -> None:
    """Who repeats it would start the program twice."""
    sqlite_factory.apply({"load": {"command": ["true"]}})
    sqlite_factory.run("stop", str(sqlite_factory.start("load")))
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "jobfac", *words],
            env=sqlite_factory.environment, cwd=sqlite_factory.folder, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "There is no room for the output: the disk is full.\n")


@pytest.mark.parametrize(("words", "errors"), [((), subprocess.PIPE), (("--json",), subprocess.STDOUT)])
def test_the_exit_code_is_that_of_what_was_done(sqlite_factory: Factory, words: tuple[str, ...], errors: int) -> None:
    """It was 0, so a script with pipefail went on."""
    sqlite_factory.apply({"load": {"command": ["true"], "already_running": "deny"}})
    sqlite_factory.start("load")
    gone, out = os.pipe()
    os.close(gone)
    done = subprocess.run(
        [sys.executable, "-m", "jobfac", "start", "load", *words],
        env=sqlite_factory.environment, cwd=sqlite_factory.folder, stdout=out, stderr=errors, text=True,
    )  # fmt: skip
    os.close(out)
    assert (done.returncode, "denied" in (done.stderr or "denied")) == (4, True)


@pytest.mark.parametrize(
    ("error", "said"),
    [(BrokenPipeError(errno.EPIPE, ""), "Nobody reads the output"), (OSError(errno.ENOSPC, ""), "the disk is full.")],
)
def test_a_start_that_follows_waits_for_the_end(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Run:
        id, state = 7, RunState.FAILED

    def broken(*_: object, **__: object) -> None:
        raise error

    factory: Any = None
    monkeypatch.setattr(start, "follow_run", broken)
    monkeypatch.setattr(start, "discard_output", lambda _: None)
    monkeypatch.setattr(start, "_wait", lambda _, runs: runs)
    run: Any = Run()
    assert start._follow(factory, run, False) is run
    text = capsys.readouterr().err
    assert (said in text, "Run 7 continues, and this command waits for its end" in text) == (True, True)
