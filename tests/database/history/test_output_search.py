"""A text is found in the output of many runs, wherever the pieces of the output end."""

import tracemalloc
from contextlib import closing

import pytest

from jobfac.database.engine import Database
from jobfac.store import output
from jobfac.store.history import output as found_output
from jobfac.store.history.output import search_output
from jobfac.store.history.search import Filter
from jobfac.store.output import Stored
from jobfac.views.results.output import OutputMatch
from tests.support.database import define, start


def write(db: Database, run_id: int, *pieces: bytes, stream: str = "stdout", attempt: int = 1) -> None:
    chunks, offset = [], 0
    for piece in pieces:
        chunks.append(Stored(run_id, attempt, stream, offset, piece))
        offset += len(piece)
    db.transact(output.append, chunks)


def find(db: Database, text: str, wanted: Filter | None = None, limit: int = 100) -> list[OutputMatch]:
    return db.query(search_output, wanted or Filter(), text, limit).matches


def test_lines_are_found_in_any_case_across_pieces_and_attempts(db: Database) -> None:
    define(db, a={"category": "red"}, b={})
    first, second, third = start(db, "a"), start(db, "b"), start(db, "a")
    write(db, first, "one\nStraße ge".encode(), b"sperrt\nthree\n")
    write(db, first, b"nothing\n", attempt=2)
    write(db, second, b"out of MEM", b"ORY\n", stream="stderr", attempt=2)
    write(db, third, b"memory 100%\n\xff\n")
    assert [(line.run, line.stream, line.attempt, line.number, line.line) for line in find(db, "memory")] == [
        (third, "stdout", 1, 1, "memory 100%"),
        (second, "stderr", 2, 1, "out of MEMORY"),
    ]
    assert [line.line for line in find(db, "STRASSE GESPERRT")] == ["Straße gesperrt"]
    assert [line.run for line in find(db, "memory", Filter(job="b"))] == [second]
    assert [line.run for line in find(db, "memory", Filter(categories=["red"]))] == [third]
    assert find(db, "%%") == []


def test_a_search_continues_run_by_run(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_output, "RUNS", 2)
    define(db, a={})
    ids = [start(db, "a") for _ in range(5)]
    for run_id in ids:
        write(db, run_id, b"needle\nneedle\n")
    wanted, seen = Filter(), []
    while True:
        found = db.query(search_output, wanted, "needle", 3)
        seen += [line.run for line in found.matches]
        if found.below is None:
            break
        wanted = wanted._replace(below=found.below)
    assert seen == [run_id for run_id in reversed(ids) for _ in range(2)]
    monkeypatch.setattr(found_output, "LINES", 1)
    assert len(find(db, "needle", limit=1)) == 1


def test_long_outputs_and_long_lines_are_searched_piece_by_piece(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    define(db, a={})
    run_id = start(db, "a")
    pieces = [
        b"one\r",
        b"\nNee",
        b"dle\x0bthree\n",
        b"x" * 9,
        "xne\u00e9".encode()[:4],
        b"\xa9dle",
        b"needle\n\n",
    ]
    write(db, run_id, *pieces)
    write(db, run_id, b"needle\r", b"\n", b"needle", stream="stderr")
    write(db, run_id, b"dle", attempt=2)
    whole = [(line.attempt, line.stream, line.number, line.line) for line in find(db, "needle")]
    assert [place[:3] for place in whole] == [
        (1, "stderr", 1), (1, "stderr", 2), (1, "stdout", 2), (1, "stdout", 4)
    ]  # fmt: skip
    for block, number in ((1, 1), (3, 2), (5, 64)):
        monkeypatch.setattr(found_output, "BLOCK", block)
        monkeypatch.setattr(found_output, "PIECES", number)
        found = [(line.attempt, line.stream, line.number, line.line) for line in find(db, "NEEDLE")]
        assert [place[:3] for place in found] == [place[:3] for place in whole], block
        assert [len(line) for *_, line in found if len(line) > 20] == []


def test_the_search_of_a_long_output_takes_little_memory(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_output, "PIECES", 8)
    with closing(Database(sqlite_url)) as db:
        db.upgrade()
        define(db, a={})
        write(db, start(db, "a"), *[b"the same line again\n" * 13_000] * 50)
        tracemalloc.start()
        assert find(db, "needle") == []
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 * 2**20  # of 13 MB
