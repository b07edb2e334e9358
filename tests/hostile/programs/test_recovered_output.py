"""What a dead worker has left of an output that its program had emptied is stored."""

import fcntl
import os
import signal
from pathlib import Path

import pytest

from jobfac.database.engine import Database
from jobfac.programs.files.spool import BATCH, EMPTIED, SEAL
from jobfac.store import output
from jobfac.worker.executions.fingerprints import SecretChanged, check, fingerprints_path
from jobfac.worker.spool_folder import SpoolFolder
from tests.support.database import Hand, define, start
from tests.support.process_stage import left_file

FIRST = b"".join(b"line %d of the beginning\n" % number for number in range(400))
LONG = b"one of the lines that came after\n" * (BATCH // 32)


@pytest.mark.parametrize(
    ("stored", "left", "expected"),
    [
        (FIRST, SEAL + FIRST + b"more\n", FIRST + b"more\n"),
        (FIRST, FIRST + b"more\n", FIRST + b"more\n"),  # by a worker of an older version
        (FIRST + EMPTIED + b"after 1\n", b"after 1\nafter 2\n", FIRST + EMPTIED + b"after 1\nafter 2\n"),
        (FIRST + EMPTIED + b"aft", b"after 1\nafter 2\n", FIRST + EMPTIED + b"after 1\nafter 2\n"),
        (EMPTIED + FIRST, FIRST + b"more\n", EMPTIED + FIRST + b"more\n"),
        (FIRST, b"after 1\n", FIRST + EMPTIED + b"after 1\n"),
        (FIRST + b"li", b"after 1\n", FIRST + b"li\n" + EMPTIED + b"after 1\n"),
        (FIRST, LONG, FIRST + EMPTIED + LONG),
        (b"", b"after 1\n", b"after 1\n"),
    ],
)
def test_output_that_follows_an_emptying_is_recovered(
    sqlite_url: str, tmp_path: Path, stored: bytes, left: bytes, expected: bytes
) -> None:
    db = Database(sqlite_url)
    define(db, job={"output": {"limit": "20MiB"}})
    run_id = start(db, "job")
    hand = Hand(db, "dead")
    hand.take()
    if stored:
        db.transact(output.append, [output.Stored(run_id, 1, "stdout", 0, stored)])
    dead = SpoolFolder(tmp_path / "spool", hand.name, hand.name)
    dead.ensure()
    left_file(dead.path, run_id).write_bytes(left)
    assert dead._lock is not None
    os.close(dead._lock)  # the process has ended
    living = SpoolFolder(tmp_path / "spool", "living", "living")
    living.ensure()
    living.clear_dead(db)
    with db.read() as conn:
        pieces = output.read(conn, run_id, 1, {"stdout": 0}, limit=2 * BATCH)
    assert b"".join(piece.data for piece in pieces) == expected
    assert not any(piece.skipped for piece in pieces)
    db.close()


def test_a_fault_of_a_moment_costs_no_output(sqlite_url: str, tmp_path: Path) -> None:
    """Here a file server reserves the file for a moment. A worker without files or memory meets the same."""
    db = Database(sqlite_url)
    define(db, a={})
    run = start(db, "a")
    hand = Hand(db, "dead")
    hand.take()
    dead = SpoolFolder(tmp_path / "spool", hand.name, hand.name)
    dead.ensure()
    left = left_file(dead.path, run)
    left.write_bytes(b"the payroll")
    assert dead._lock is not None
    os.close(dead._lock)  # the process has ended
    folder = SpoolFolder(tmp_path / "spool", "living", "living")
    told = signal.signal(signal.SIGIO, signal.SIG_IGN)  # that somebody else wants the file
    with left.open("rb+") as reserved:
        fcntl.fcntl(reserved, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        folder.clear_dead(db)
    signal.signal(signal.SIGIO, told)
    assert left.exists()
    folder.clear_dead(db)
    with db.read() as conn:
        assert [piece.data for piece in output.read(conn, run, 1, {"stdout": 0})] == [b"the payroll"]
    assert not left.exists()
    db.close()


@pytest.mark.parametrize("content", ["[]", '{"salt": 7}', '{"salt": "00", "secrets": 7}', "[" * 100_000])
def test_fingerprints_of_another_kind_end_no_worker(sqlite_url: str, tmp_path: Path, content: str) -> None:
    db = Database(sqlite_url)
    define(db, a={"command": ["load"], "environment": {"HOME": {"secret": "env:HOME"}}})
    run = start(db, "a")
    hand = Hand(db, "dead")
    hand.take()
    dead = SpoolFolder(tmp_path / "spool", hand.name, hand.name)
    dead.ensure()
    left = left_file(dead.path, run)
    left.write_text("it may show a secret")
    fingerprints_path(left).write_text(content)
    with pytest.raises(SecretChanged):
        check(fingerprints_path(left), {"env:HOME": "/root"})
    assert dead._lock is not None
    os.close(dead._lock)  # the process has ended
    SpoolFolder(tmp_path / "spool", "living", "living").clear_dead(db)
    with db.read() as conn:
        assert list(output.read(conn, run, 1, {"stdout": 0})) == []
    db.close()
