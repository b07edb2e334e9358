"""A role does not wait for the file of its log."""

import logging
import os
import threading
from pathlib import Path

import pytest

from jobfac.machine import mounts
from jobfac.telemetry import log_stream
from jobfac.telemetry.log_stream import LogStream
from tests.support.factory import wait_for


def test_lines_for_a_drive_that_hangs_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / {tmp_path} rw master:1 - nfs4 x rw\n")
    monkeypatch.setattr(mounts, "TABLE", table)
    monkeypatch.setattr(log_stream, "LONGEST_WAIT", 0.05)
    answers, real = threading.Event(), os.write
    answers.set()

    def write(descriptor: int, data: bytes) -> int:
        answers.wait()
        return real(descriptor, data)

    with (tmp_path / "log").open("w") as file:
        handler = LogStream(file)
        monkeypatch.setattr(os, "write", write)

        def say(text: str) -> None:
            handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))

        def lines() -> list[str]:
            return (tmp_path / "log").read_text().splitlines()

        say("first")
        assert lines() == ["first"]
        answers.clear()
        for number in range(5):
            say(f"hung {number}")
        answers.set()
        wait_for(lambda: lines() == ["first", "hung 0"], "the drive answers again")
        say("last")
        wait_for(lambda: len(lines()) == 4, "the notice")
        assert lines()[2:] == ["4 log lines were dropped because nobody read them", "last"]


def test_the_log_goes_on_after_a_thread_could_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_may_hang", lambda descriptor: True)
    with (tmp_path / "log").open("w") as file:
        handler = LogStream(file)
        monkeypatch.setattr(handler, "handleError", lambda record: None)

        def refuse(*arguments: object) -> None:
            raise RuntimeError("a thread cannot begin")

        with monkeypatch.context() as patch:
            patch.setattr(log_stream, "begin", refuse)
            handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "lost", None, None))
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "last", None, None))
        wait_for(lambda: (tmp_path / "log").read_text() == "last\n", "the next line")
