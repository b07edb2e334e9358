"""A role does not wait for the reader of its log."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfac.settings import Settings
from jobfac.telemetry.logs import configure, logger


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe through which the log goes."""
    root, jobfac = logging.getLogger(), logging.getLogger("jobfac")
    before = root.handlers[:], root.level, jobfac.level
    out, into = os.pipe()
    os.set_blocking(out, False)
    with os.fdopen(into, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure(Settings(log_format="json"))
        yield out
        for handler in root.handlers[:]:
            root.removeHandler(handler)
    os.close(out)
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])
    jobfac.setLevel(before[2])


def everything(reader: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(reader, 2**20)
        except BlockingIOError:
            return found


@pytest.mark.parametrize("length", [50, 10_000])
def test_a_reader_that_stops_reading_stops_nobody(reader: int, length: int) -> None:
    log = logger("jobfac.test")
    for number in range(2_000):  # a pipe takes 64 KiB
        log.warning("x" * length, action="tried", number=number)
    found = everything(reader)
    log.warning("again", action="tried")
    *first, dropped, last = (found + everything(reader)).decode().splitlines()
    whole = [json.loads(line) for line in first if line.endswith("}")]
    assert [line["number"] for line in whole] == list(range(len(whole)))
    assert len(first) - len(whole) in (0, 1)  # one line may be cut
    assert (json.loads(dropped)["action"], json.loads(dropped)["lines"]) == ("log_lines_dropped", 2_000 - len(whole))
    assert json.loads(last)["event"] == "again"


def test_a_file_gets_every_line(tmp_path: Path, reader: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure(Settings(log_format="json"))
        for number in range(100):
            logger("jobfac.test").warning("é" * 9_000, action="tried", number=number)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(100))
