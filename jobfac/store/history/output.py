"""Search the output of many runs. The search ignores case and matches whole lines, across the borders of pieces."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from jobfac.database.tables import run_output
from jobfac.store.history.search import Filter, search
from jobfac.views.results.output import OutputMatch
from jobfac.views.runs import RunView

RUNS = 200
"""The maximum number of runs whose output one call reads."""

BYTES = 64 * 1024 * 1024
"""The number of bytes of output after which a call reads no further run."""

LINES = 100
"""The maximum number of lines of one run in a result."""

LONGEST = 2000
"""The maximum length of a line in a result, in characters."""


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

    Reads the output of at most ``RUNS`` runs, so it may return none and still continue. The first ``LINES`` lines of a
    run stay together, so there may be more than ``limit``, after which no further run is read.
    """
    found = search(conn, wanted, RUNS)
    matches: list[OutputMatch] = []
    size = 0
    for run in found.runs:
        pieces = _pieces(conn, run.id)
        size += sum(len(piece.data) for piece in pieces)
        matches += islice(_matches(run, pieces, text), LINES)
        if len(matches) >= limit or size > BYTES:
            is_last = found.below is None and run is found.runs[-1]
            return FoundOutput(matches, None if is_last else run.id)
    return FoundOutput(matches, found.below)


def _pieces(conn: sa.Connection, run_id: int) -> list[Piece]:
    """Return the output of a run, stream by stream."""
    columns = (run_output.c.attempt, run_output.c.stream, run_output.c.data)
    query = sa.select(*columns).where(run_output.c.run_id == run_id)
    order = (run_output.c.attempt, run_output.c.stream, run_output.c.offset)
    return [Piece(row.attempt, row.stream, row.data) for row in conn.execute(query.order_by(*order))]


def _matches(run: RunView, pieces: Iterable[Piece], text: str) -> Iterator[OutputMatch]:
    whole: dict[tuple[int, str], list[bytes]] = {}
    for piece in pieces:
        whole.setdefault((piece.attempt, piece.stream), []).append(piece.data)
    needle = text.casefold()
    for (attempt, stream), parts in whole.items():
        output = b"".join(parts).decode(errors="replace")
        if needle not in output.casefold():  # ten times as fast as line by line, where lines are short
            continue
        for number, line in enumerate(output.splitlines(), 1):
            if needle in line.casefold():
                yield OutputMatch(run.id, run.job, run.state, attempt, stream, number, line[:LONGEST])
