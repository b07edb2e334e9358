"""Captured output: any bytes, in order, each chunk once, with marked gaps."""

from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import run_output
from jobfac.store import output
from jobfac.store.output import Stored
from tests.support.database import now

BYTES = bytes(range(256)) * 40


def append(db: Database, *chunks: tuple[str, int, bytes], attempt: int = 1) -> None:
    db.transact(output.append, [Stored(1, attempt, stream, offset, data) for stream, offset, data in chunks])


def read(
    db: Database, *streams: str, attempt: int = 1, limit: int = output.PAGE, **positions: int
) -> list[tuple[str, int, bytes, int]]:
    at = dict.fromkeys(streams or output.STREAMS, 0) | positions
    with db.read() as conn:
        return [piece[:4] for piece in output.read(conn, 1, attempt, at, limit)]


def test_any_bytes_are_read_back_unchanged(db: Database) -> None:
    append(db, ("stdout", 0, BYTES), ("stderr", 0, b"\x00"), ("stdout", len(BYTES), b"\xff\xfe no newline"))
    assert read(db, "stdout") == [("stdout", 0, BYTES, 0), ("stdout", len(BYTES), b"\xff\xfe no newline", 0)]
    assert read(db, "stderr") == [("stderr", 0, b"\x00", 0)]


def test_a_large_chunk_is_read_back_unchanged(db: Database) -> None:
    data = (BYTES * (output.PAGE // len(BYTES) + 1))[: output.PAGE]
    append(db, ("stdout", 0, data))
    assert read(db, "stdout") == [("stdout", 0, data, 0)]


def test_appending_a_chunk_twice_stores_it_once(db: Database) -> None:
    append(db, ("stdout", 0, b"one"))
    append(db, ("stdout", 0, b"one"), ("stdout", 3, b"two"))
    assert read(db, "stdout") == [("stdout", 0, b"one", 0), ("stdout", 3, b"two", 0)]
    append(db)


def test_streams_are_merged_in_the_order_of_storage(db: Database) -> None:
    wanted = []
    for number in range(3):
        for stream in ("stdout", "stderr"):
            before = now(db)
            while now(db) == before:  # within one millisecond the order of the streams decides
                pass
            append(db, (stream, number, b"%d" % number))
            wanted.append((stream, number, b"%d" % number, 0))
    assert read(db) == wanted


def test_no_output_is_lost_when_the_clock_is_set_back(db: Database) -> None:
    append(db, *(("stdout", number * 3, b"%03d" % number) for number in range(40)))
    with db.begin() as conn:
        late = run_output.c.offset >= 60
        conn.execute(run_output.update().where(late).values(at=utcnow(-3_600_000)))
    positions = {"stdout": 0, "stderr": 0}
    text = b""
    with db.read() as conn:
        while pieces := output.read(conn, 1, 1, positions):
            text += b"".join(piece.data for piece in pieces)
    assert text == b"".join(b"%03d" % number for number in range(40))


def test_attempts_have_separate_output(db: Database) -> None:
    append(db, ("stdout", 0, b"first"))
    append(db, ("stdout", 0, b"second"), attempt=2)
    assert read(db, attempt=2) == [("stdout", 0, b"second", 0)]
    assert read(db, attempt=3) == []


def test_a_gap_says_how_much_is_missing(db: Database) -> None:
    append(db, ("stdout", 0, b"head"), ("stdout", 1000, b"tail"))
    assert read(db, "stdout") == [("stdout", 0, b"head", 0), ("stdout", 1000, b"tail", 996)]
    assert read(db, stdout=2) == [("stdout", 2, b"ad", 0), ("stdout", 1000, b"tail", 996)]
    assert read(db, stdout=500) == [("stdout", 1000, b"tail", 500)]
    assert read(db, stdout=1004) == []


def test_a_cut_keeps_head_and_tail(db: Database) -> None:
    append(db, *(("stdout", offset, b"x" * 10) for offset in range(0, 100, 10)), ("stderr", 50, b"kept"))
    db.transact(output.cut, 1, 1, "stdout", 20, 75)
    assert [(offset, skipped) for _, offset, _, skipped in read(db, "stdout")] == [
        (0, 0),
        (10, 0),
        (70, 50),
        (80, 0),
        (90, 0),
    ]
    assert len(read(db, "stderr")) == 1


def test_the_end_of_a_stream_is_the_offset_of_its_next_byte(db: Database) -> None:
    def end(stream: str) -> int:
        with db.read() as conn:
            return output.end_of(conn, 1, 1, stream)

    assert end("stdout") == 0
    append(db, ("stdout", 0, b"\x00\xff\x00"), ("stdout", 3, "ä".encode()))
    assert (end("stdout"), end("stderr")) == (5, 0)


def test_reading_continues_at_the_returned_positions(db: Database) -> None:
    size = 20_000
    append(db, *(("stdout", number * size, bytes([number]) * size) for number in range(10)))
    positions = {"stdout": 0, "stderr": 0}
    pages = []
    with db.read() as conn:
        while page := output.read(conn, 1, 1, positions, limit=3 * size):
            pages.append(page)
    assert len(pages) > 2
    assert b"".join(piece.data for page in pages for piece in page) == b"".join(bytes([n]) * size for n in range(10))
    assert positions == {"stdout": 10 * size, "stderr": 0}
    append(db, ("stdout", 10 * size, b"more"))
    with db.read() as conn:
        assert [piece.data for piece in output.read(conn, 1, 1, positions)] == [b"more"]


def test_a_small_limit_still_returns_one_piece(db: Database) -> None:
    append(db, ("stdout", 0, b"a" * 1000), ("stdout", 1000, b"b"))
    assert len(read(db, "stdout", limit=1)) == 1
