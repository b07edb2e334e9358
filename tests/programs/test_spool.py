"""Head and tail are kept exactly, whatever the order of writes and reads, and secrets are masked."""

import errno
import fcntl
import os
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfac.programs import Chunk, Spool, abandoned, recover, spool_path
from jobfac.programs.files import abandoned as abandoned_module
from jobfac.programs.files import room
from jobfac.programs.files import spool as spool_module
from jobfac.programs.files.abandoned import Abandoned
from jobfac.programs.files.spool import parse_name
from jobfac.programs.masking import Mask
from tests.support.process_stage import free


class Store:
    """Stores chunks as the database does."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.chunks: list[Chunk] = []

    def ship(self, final: bool = False) -> None:
        fresh = self.spool.read(final)
        assert all(0 < len(chunk.data) <= spool_module.CHUNK for chunk in fresh)
        self.chunks += fresh
        keep_from = self.spool.keep_from
        if keep_from is not None:
            self.chunks = [c for c in self.chunks if c.offset < self.spool.head or c.offset + len(c.data) > keep_from]
        free(self.spool)
        if final and fresh:
            self.ship(final)

    def check(self, written: bytes) -> None:
        """Check that the stored chunks agree with what was written, and that head and tail are complete."""
        covered = set[int]()
        for chunk in self.chunks:
            assert chunk.data == written[chunk.offset : chunk.offset + len(chunk.data)]
            covered.update(range(chunk.offset, chunk.offset + len(chunk.data)))
        assert sum(len(chunk.data) for chunk in self.chunks) == len(covered)
        assert all(one.offset < two.offset for one, two in pairwise(self.chunks))
        assert self.spool.size == len(written)
        wanted = [*range(len(written))[: self.spool.head], *range(max(0, len(written) - self.spool.tail), len(written))]
        assert covered.issuperset(wanted)
        middle = covered.difference(wanted)
        assert len(middle) <= max((len(chunk.data) for chunk in self.chunks), default=0)


def small(monkeypatch: pytest.MonkeyPatch, can_punch: bool) -> None:
    """Set small sizes, so that short examples reach every limit."""
    monkeypatch.setattr(spool_module, "CHUNK", 7)
    monkeypatch.setattr(spool_module, "BATCH", 28)
    monkeypatch.setattr(spool_module, "HOLE", 8)
    monkeypatch.setattr(room, "HOLE", 8)
    monkeypatch.setattr(spool_module, "BLOCK", 4)
    monkeypatch.setattr(room, "SLACK", 0)
    # The real call frees only whole blocks of 4096 bytes. Zeros in smaller ones show that they are freed, too.
    monkeypatch.setattr(room, "punch_hole", erase if can_punch else lambda *_: False)


def erase(fd: int, start: int, length: int) -> bool:
    """Do the same as PUNCH_HOLE, for blocks of any size."""
    writer = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    try:
        os.pwrite(writer, bytes(length), start)
    finally:
        os.close(writer)
    return True


steps = st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(["read", "free"])), max_size=30)


@pytest.mark.parametrize("can_punch", [True, False], ids=["holes", "truncation"])
def test_head_and_tail_are_exact(can_punch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, can_punch)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(steps, st.integers(1, 90))
    def play(script: list[bytes | str], limit: int) -> None:
        with TemporaryDirectory() as folder:
            spool = Spool(Path(folder, "1-1.stdout"), limit)
            store = Store(spool)
            written = b""
            for step in script:
                if isinstance(step, bytes):
                    os.write(spool.fd, step)
                    written += step
                elif step == "read":
                    store.ship()
                else:
                    free(spool)
            store.ship(final=True)
            spool.close(delete=True)
            store.check(written)

    play()


texts = st.lists(st.one_of(st.text("abc", max_size=40).map(str.encode), st.sampled_from(["read", "free"])), max_size=30)
secrets = st.lists(st.text("ab", min_size=1, max_size=6).map(str.encode), min_size=1, max_size=3)


@pytest.mark.parametrize("can_punch", [True, False], ids=["holes", "truncation"])
def test_every_secret_is_masked(can_punch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, can_punch)

    @settings(max_examples=250, deadline=None, derandomize=True)
    @given(texts, secrets, st.integers(1, 90))
    def play(script: list[bytes | str], hidden: list[bytes], limit: int) -> None:
        with TemporaryDirectory() as folder:
            spool = Spool(Path(folder, "1-1.stdout"), limit, Mask(hidden))
            store = Store(spool)
            written = b""
            for step in script:
                if isinstance(step, bytes):
                    os.write(spool.fd, step)
                    written += step
                elif step == "read":
                    store.ship()
                else:
                    free(spool)
            store.ship(final=True)
            spool.close(delete=True)
            store.check(masked(written, hidden))

    play()


def masked(data: bytes, hidden: list[bytes]) -> bytes:
    """Implement the definition: a byte is masked if any occurrence of any secret covers it."""
    covered = {
        at + i
        for secret in hidden
        for at in range(len(data))
        if data.startswith(secret, at)
        for i in range(len(secret))
    }
    return bytes(ord("*") if at in covered else byte for at, byte in enumerate(data))


def test_a_mask_ignores_empty_secrets() -> None:
    mask = Mask([b"", b"key", b"key"])
    assert mask.apply(b"a key, a keykey") == b"a ***, a ******"
    assert (mask.unfinished(b"ke"), mask.unfinished(b"key"), mask.unfinished(b"k e")) == (2, 0, 0)
    assert Mask([]).apply(b"all") == b"all"
    assert Mask([]).unfinished(b"all") == 0


def test_a_read_is_bounded_and_continues(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1-1.stdout", 64 << 20)
    os.write(spool.fd, bytes(10 << 20))
    sizes = [sum(len(chunk.data) for chunk in spool.read(final=True)) for _ in range(4)]
    spool.close(delete=True)
    assert sizes == [4 << 20, 4 << 20, 2 << 20, 0]


def test_the_disk_space_of_the_cut_is_freed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1-1.stdout", 1 << 20)
    for _ in range(20):
        os.write(spool.fd, b"x" * (1 << 20))
        spool.read()
        free(spool)
        assert os.fstat(spool.fd).st_blocks * 512 <= 3 << 19
        assert not spool.flooding
    os.write(spool.fd, b"x" * (5 << 20))
    spool.read()
    assert spool.flooding
    assert spool.size == 25 << 20
    spool.close(delete=True)


def bounded(folder: Path, can_punch: bool, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of a stream that ends at byte 1,000."""
    small(monkeypatch, can_punch)
    monkeypatch.setattr(spool_module, "MOST", 1000)
    return Store(Spool(folder / "1-1.stdout", 50))


@pytest.mark.parametrize("can_punch", [True, False], ids=["holes", "truncation"])
def test_a_stream_ends_before_its_offsets_become_too_large(
    tmp_path: Path, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bounded(tmp_path, can_punch, monkeypatch)
    spool = store.spool
    for _ in range(3):
        os.ftruncate(spool.fd, 800)
        store.ship()
        os.ftruncate(spool.fd, 0)
        store.ship()
        os.write(spool.fd, b"anew")
        store.ship()
    store.ship(final=True)
    assert (spool.size, spool.unread) == (1000, 0)
    assert max(chunk.offset + len(chunk.data) for chunk in store.chunks) <= 1000
    spool.close(delete=True)


@pytest.mark.parametrize("can_punch", [True, False], ids=["holes", "truncation"])
def test_a_file_that_becomes_shorter_after_the_end_of_its_stream_adds_nothing(
    tmp_path: Path, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bounded(tmp_path, can_punch, monkeypatch)
    spool = store.spool
    for length in (5000, 900, 800):
        os.ftruncate(spool.fd, length)
        store.ship()
        assert (spool.size, spool.unread) == (1000, 0)
    store.ship(final=True)
    assert max(chunk.offset + len(chunk.data) for chunk in store.chunks) <= 1000
    spool.close(delete=True)


def test_output_that_the_disk_cannot_read_is_named_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, real = Spool(tmp_path / "out", 10_000), os.pread
    os.write(spool.fd, b"a" * 100 + b"b" * 200)

    def fail(fd: int, length: int, offset: int) -> bytes:
        if 100 <= offset < 300:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, min(length, 100), offset)

    monkeypatch.setattr(os, "pread", fail)
    (chunk,) = spool.read(final=True)
    sentence = b"[jobfac: 200 bytes of the output cannot be read: Input/output error]\n"
    assert chunk.data == b"a" * 100 + sentence + bytes(200 - len(sentence))
    os.write(spool.fd, b"c")
    assert spool.read(final=True) == [Chunk(300, b"c")]


@pytest.mark.parametrize("can_punch", [True, False], ids=["holes", "truncation"])
def test_a_disk_that_answers_no_more_costs_the_rest_of_the_output(
    tmp_path: Path, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    small(monkeypatch, can_punch)
    spool = Spool(tmp_path / "1-1.stdout", 8)
    os.write(spool.fd, b"0123")
    store = Store(spool)
    store.ship()
    os.write(spool.fd, b"4567" * 10)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", fail)
        store.ship()
    with monkeypatch.context() as broken:
        for name in ("fstat", "pread", "ftruncate"):
            broken.setattr(os, name, fail)
        assert (spool.read(), spool.unread) == ([], 0)
        sentence = b"[jobfac: the rest of the output cannot be read: Stale file handle]\n"
        assert spool.read(final=True) == [Chunk(44, sentence)]
    assert spool.read(final=True) == []
    spool.close(delete=True)


def test_a_file_of_a_program_that_was_left_running_is_let_go_if_its_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    files = Abandoned()
    with (tmp_path / "1-1.stdout").open("wb") as theirs:
        files.keep(os.open(theirs.name, os.O_RDWR))
        files.trim()
        assert len(files) == 1
        with monkeypatch.context() as broken:
            broken.setattr(os, "fstat", fail)
            files.trim(now=1e9)
        assert len(files) == 0
        monkeypatch.setattr(abandoned_module, "MOST", 0)
        with monkeypatch.context() as broken:
            broken.setattr(os, "close", fail)
            files.keep(kept := os.open(theirs.name, os.O_RDWR))
            files.trim(now=2e9)
        assert len(files) == 0
        os.close(kept)


def test_a_program_has_a_descriptor_of_its_own(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1-1.stdout", 100)
    flags = fcntl.fcntl(spool.fd, fcntl.F_GETFL)
    theirs = spool.open_for_program()
    os.write(theirs, b"one")
    os.write(spool.fd, b"two")
    fcntl.fcntl(theirs, fcntl.F_SETFL, 0)
    assert fcntl.fcntl(spool.fd, fcntl.F_GETFL) == flags
    os.close(theirs)
    assert [tuple(chunk) for chunk in spool.read(final=True)] == [(0, b"onetwo")]
    spool.close(delete=True)


def test_a_dead_workers_spools_are_found_and_read_again(tmp_path: Path) -> None:
    # An earlier version had the files of all executions in one folder.
    folders = {10: tmp_path, 9: tmp_path / "9-2-0a"}
    names = [spool_path(folder, run, 2, stream) for run, folder in folders.items() for stream in ("stdout", "stderr")]
    for path in names:
        Path(path).parent.mkdir(exist_ok=True)
        spool = Spool(path, 100)
        os.write(spool.fd, b"0123456789" * 20)
        spool.read()
        spool.close(delete=False)
    (tmp_path / "notes.txt").touch()
    found = recover(tmp_path)
    assert [tuple(name) for name, _ in found] == [
        (9, 2, "stderr"),
        (9, 2, "stdout"),
        (10, 2, "stderr"),
        (10, 2, "stdout"),
    ]
    again = Spool(found[0][1], 100)
    assert [tuple(chunk) for chunk in again.read(final=True)] == [(0, b"0123456789" * 5), (150, b"0123456789" * 5)]
    again.close(delete=True)
    again.close(delete=True)
    assert not found[0][1].exists()
    assert recover(tmp_path / "missing") == []
    assert parse_name(Path("1-1.stdout.gz")) is None


def test_what_a_program_that_was_left_running_writes_takes_no_space(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "1-1.stdout", 1000)
    writer = spool.open_for_program()
    spool.close(delete=True, is_left=True)
    os.write(writer, b"x" * (2 << 20))
    abandoned.trim(now=1e9)
    assert os.fstat(writer).st_size == 0
    os.write(writer, b"x")
    assert os.fstat(writer).st_size == 1, "it appends at the new end"
    kept = len(abandoned)
    abandoned.trim(now=1e9 + 1)
    assert len(abandoned) == kept
    os.close(writer)
    abandoned.trim(now=2e9)
    assert len(abandoned) == 0
    abandoned.trim(now=0.0)
