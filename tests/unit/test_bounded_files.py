"""Files that a user names are read to a limit, and no pipe is waited for."""

import os
import threading
from pathlib import Path

import pytest

from jobfac import definitions
from jobfac.machine import bounded
from jobfac.machine.bounded import read_bytes, read_text


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(OSError, match="it has more than 2 MiB, which is the most"):
        read_bytes("/dev/zero", 2 << 20)
    with pytest.raises(definitions.DefinitionError, match=r"^/dev/zero: cannot be read: it has more than 64 MiB"):
        definitions.load("/dev/zero")


def test_a_pipe_needs_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "WRITER", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(definitions.DefinitionError, match="pipe: cannot be read: it is a pipe to which nobody writes"):
        definitions.load(pipe)
    monkeypatch.setattr(bounded, "WRITER", 60.0)
    writer = threading.Thread(target=pipe.write_text, args=("x: 1\r\n" * 30_000,))
    writer.start()
    assert read_text(pipe) == "x: 1\n" * 30_000
    writer.join()


def test_a_folder_and_a_missing_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "missing")
    (tmp_path / "empty").touch()
    assert read_bytes(tmp_path / "empty") == b""
