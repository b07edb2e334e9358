"""A program that empties its own output, as `> /dev/stderr` does, loses no line without a word."""

import os
from pathlib import Path

import pytest

from jobfac.programs import Chunk, Spool
from jobfac.programs.files.spool import EMPTIED, SEAL
from tests.support.process_stage import Stage, finish, text


def test_truncating_the_output_is_allowed_and_said(stage: Stage) -> None:
    process, out, _ = stage.start(
        "sh", "-c", "echo 0123456789; until [ -e go ]; do sleep 0.01; done; : > 1-1.stdout; echo anew",
        directory=str(stage.folder),
    )  # fmt: skip
    stage.numbers(out)
    assert [tuple(chunk) for chunk in out.read()] == [(0, b"0123456789\n")]
    (stage.folder / "go").touch()
    finish(process)
    assert [tuple(chunk) for chunk in out.read(final=True)] == [(11, EMPTIED + b"anew\n")]


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("echo begin >&2; echo ERROR > /dev/stderr; exit 3", EMPTIED + b"ERROR\n"),
        ("echo rows | tee /dev/stderr; echo more >&2", EMPTIED + b"rows\nmore\n"),
        ("echo rows | tee -a /dev/stderr; echo more >> /dev/stderr", b"rows\nmore\n"),
        ("echo begin >&2; : > /dev/stderr", EMPTIED),
    ],
)
def test_a_program_that_opens_its_output_by_name_loses_no_line_without_a_word(
    stage: Stage, script: str, printed: bytes
) -> None:
    process, _, err = stage.start("bash", "-c", script)
    finish(process)
    assert text(err) == printed


def test_every_emptying_is_noticed_although_the_file_is_as_long_as_before(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1-1.stdout", 1 << 20)
    os.write(spool.fd, b"no line end")
    chunks = spool.read()
    for number in range(3):
        os.ftruncate(spool.fd, 0)
        os.write(spool.fd, b"line %d\n" % number)
        chunks += spool.read()
    expected = b"no line end\n" + EMPTIED + b"line 0\nline 1\nline 2\n"
    assert b"".join(chunk.data for chunk in chunks) == expected
    assert [chunk.offset for chunk in chunks] == [0, 11, len(expected) - 14, len(expected) - 7]
    assert spool.size == len(expected)
    spool.close(delete=True)


def test_what_a_dead_worker_has_left_is_read_with_and_without_a_seal(tmp_path: Path) -> None:
    """A worker of an older version writes none."""
    for content in (b"said", SEAL + b"said", b"", SEAL):
        path = tmp_path / "1-1.stdout"
        path.write_bytes(content)
        spool = Spool(path, 1 << 20)
        assert spool.read(final=True) == ([Chunk(0, b"said")] if content.endswith(b"said") else [])
        spool.close(delete=True)
