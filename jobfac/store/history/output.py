"""Search the output of many runs. The search ignores case and matches whole lines, across the borders of pieces."""

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run_output
from jobfac.store.history.search import Filter, search
from jobfac.views.results.output import LINES, OutputMatch
from jobfac.views.runs import RunView

RUNS = 200
"""The maximum number of runs whose output one call reads."""

BYTES = 64 * 1024 * 1024
"""The number of bytes of output after which a call reads no further run."""

LONGEST = 2000
"""The maximum length of a line in a result, in characters."""

PIECES = 64
"""The maximum number of pieces of output that one statement reads. A job may keep gigabytes of output."""

OTHER_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Besides the line feed, what ends a line for ``str.splitlines``."""

BLOCK = 2**20
"""Bytes that are searched at once, and characters of a line that has not ended. Of a longer line, the result shows the
part in which the text was found."""


class Piece(NamedTuple):
    """A stored piece of a stream of an attempt."""

    attempt: int
    stream: str
    data: bytes


class FoundOutput(NamedTuple):
    """Matching lines, those of the newest runs first. ``below``: where to continue, None: there are no more runs."""

    matches: list[OutputMatch]
    below: int | None


def search_output(conn: sa.Connection, wanted: Filter, text: str, limit: int) -> FoundOutput:
    """Return lines with ``text`` in the output of the runs that match a filter.

    Reads the output of at most ``RUNS`` runs, so it may return none and still continue. Only the first ``LINES`` lines
    of a run are found. They stay together, so there may be more than ``limit``, after which no further run is read.
    However long the output of a run is, only some pieces of it are in memory.
    """
    found = search(conn, wanted, RUNS)
    matches: list[OutputMatch] = []
    sizes: list[int] = []
    for run in found.runs:
        matches += islice(_matches(run, _pieces(conn, run.id, sizes), text), LINES)
        if len(matches) >= limit or sum(sizes) > BYTES:
            is_last = found.below is None and run is found.runs[-1]
            return FoundOutput(matches, None if is_last else run.id)
    return FoundOutput(matches, found.below)


_AT = (run_output.c.attempt, run_output.c.stream, run_output.c.offset)


def _pieces(conn: sa.Connection, run_id: int, sizes: list[int]) -> Iterator[Piece]:
    """Yield the output of a run, stream by stream, as far as it is asked for. Adds to ``sizes`` how much was read."""
    query = sa.select(*_AT, run_output.c.data).where(run_output.c.run_id == run_id).order_by(*_AT).limit(PIECES)
    rows = conn.execute(query).all()
    while rows:
        sizes.append(sum(len(row.data) for row in rows))
        yield from (Piece(row.attempt, row.stream, row.data) for row in rows)
        if len(rows) < PIECES:
            return
        last = rows[-1]
        in_attempt = run_output.c.attempt == last.attempt
        in_stream = sa.and_(run_output.c.stream == last.stream, run_output.c.offset > last.offset)
        later = sa.and_(in_attempt, sa.or_(run_output.c.stream > last.stream, in_stream))
        rows = conn.execute(query.where(sa.or_(run_output.c.attempt > last.attempt, later))).all()


def _matches(run: RunView, pieces: Iterable[Piece], text: str) -> Iterator[OutputMatch]:
    for (attempt, stream), its in groupby(pieces, lambda piece: (piece.attempt, piece.stream)):
        for number, line in _lines_with(text.casefold(), (piece.data for piece in its)):
            yield OutputMatch(run.id, run.job, run.state, attempt, stream, number, line[:LONGEST])


def _lines_with(needle: str, parts: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the lines of a stream that contain a text in folded case, each once, with their numbers."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    number, last, rest = 1, 0, ""  # ``last``: the line that was yielded last
    for part in chain(_joined(parts), [None]):
        block = rest + (decoder.decode(b"", final=True) if part is None else decoder.decode(part))
        if needle not in block.casefold():  # ten times as fast as line by line, where lines are short
            ended, rest = _ended(block)
            number += ended
        else:
            lines = block.splitlines(keepends=True)
            # The last line may continue in the next block, also after a carriage return.
            rest = lines.pop() if part is not None else ""
            for at, line in enumerate(lines, number):
                if at != last and needle in line.casefold():
                    last = at
                    yield at, line.splitlines()[0]
            number += len(lines)
        if len(rest) > BLOCK:
            if number != last and needle in rest.casefold():
                last = number
                yield number, rest
            rest = rest[-len(needle) :]  # in which the text may begin


def _ended(block: str) -> tuple[int, str]:
    """Return how many lines of a text have ended, and the rest, which may go on."""
    if not any(end in block for end in OTHER_ENDS):
        return block.count("\n"), block[block.rfind("\n") + 1 :]
    *ended, rest = block.splitlines(keepends=True)
    return len(ended), rest


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join parts, which may be short, into blocks of at least ``BLOCK`` bytes, except for the last one."""
    block = bytearray()
    for part in parts:
        block += part
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)
