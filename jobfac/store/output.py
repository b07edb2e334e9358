"""Captured output in the database: chunks by (run, attempt, stream, offset). A gap between chunks was cut."""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobfac.database.dialects import PASS, octets, utcnow
from jobfac.database.tables import run, run_output
from jobfac.database.types import BigId

STREAMS = ("stdout", "stderr")
PAGE = 256 * 1024
"""The maximum number of bytes in one row, and in one result of ``read``."""


class Stored(NamedTuple):
    """A chunk of a stream. ``offset``: position of its first byte, in bytes from the stream's start.

    ``created_at``: that of the run. A restored database may have given its id to another run, which must not get the
    chunk. None: not known.
    """

    run_id: int
    attempt: int
    stream: str
    offset: int
    data: bytes
    created_at: datetime | None = None


_KEY = ("run_id", "attempt", "stream", "offset")
_OF_OTHER_RUN = sa.exists(
    sa.select(run.c.id)
    .with_hint(run, PASS, "mssql")  # a run that is locked is not waited for
    .where(
        run.c.id == sa.bindparam("p_run_id", type_=BigId),
        run.c.created_at != sa.bindparam("p_created_at", type_=run.c.created_at.type),
    )
)
_INSERT = run_output.insert().from_select(
    [*_KEY, "data", "at"],
    sa.select(*(sa.bindparam(f"p_{name}", type_=run_output.c[name].type) for name in (*_KEY, "data")), utcnow()).where(
        ~sa.exists().where(*(run_output.c[name] == sa.bindparam(f"p_{name}") for name in _KEY)).select_from(run_output),
        ~_OF_OTHER_RUN,
    ),
    include_defaults=False,
)


def append(conn: sa.Connection, chunks: Iterable[Stored]) -> None:
    """Store chunks. Safe to repeat: a chunk that is already stored stays unchanged."""
    for chunk in chunks:  # one by one: for many rows mssql-python declares all values as long as the longest one
        conn.execute(_INSERT, {f"p_{name}": value for name, value in chunk._asdict().items()})


def end_of(conn: sa.Connection, run_id: int, attempt: int, stream: str) -> int:
    """Return the end of the stored part of a stream, in bytes from its start."""
    query = (
        sa.select(run_output.c.offset, octets(run_output.c.data))
        .where(run_output.c.run_id == run_id, run_output.c.attempt == attempt, run_output.c.stream == stream)
        .order_by(run_output.c.offset.desc())
        .limit(1)
    )
    row = conn.execute(query).first()
    return 0 if row is None else int(row[0]) + int(row[1])


def cut(
    conn: sa.Connection,
    run_id: int,
    attempt: int,
    stream: str,
    head: int,
    tail: int,
    created_at: datetime | None = None,
) -> None:
    """Delete the chunks between the head, which ends at ``head``, and the tail, which begins at ``tail``.

    ``created_at``: as of ``Stored``.
    """
    conn.execute(
        run_output.delete().where(
            run_output.c.run_id == run_id,
            run_output.c.attempt == attempt,
            run_output.c.stream == stream,
            run_output.c.offset >= head,
            run_output.c.offset + octets(run_output.c.data) <= tail,
            ~_OF_OTHER_RUN,
        ),
        {"p_run_id": run_id, "p_created_at": created_at},
    )


class Piece(NamedTuple):
    """A piece of a stream for a reader. ``skipped``: bytes that were cut before it. ``at``: when it was stored."""

    stream: str
    offset: int
    data: bytes
    skipped: int
    at: Any


def cut_mark(skipped: int) -> bytes:
    """Return the text that a reader sees in place of ``skipped`` bytes; empty for 0."""
    return f"\n[... {skipped:,} bytes cut ...]\n".encode() if skipped else b""


def read(
    conn: sa.Connection, run_id: int, attempt: int, positions: dict[str, int], limit: int = PAGE
) -> Sequence[Piece]:
    """Return the output after the offsets ``positions`` (by stream), merged in the order in which it was stored.

    Updates ``positions`` to the end of the returned pieces, so the next call continues there. Returns at least one
    piece if there is any. The result may exceed ``limit`` bytes by less than one row.
    """
    most = max(1, limit // 16384)
    streams = [_beyond(conn, run_id, attempt, stream, position, most) for stream, position in positions.items()]
    pieces: list[Piece] = []
    size = 0
    # Merged, not sorted by time: the database's clock may be set back, and within a stream only the offset counts.
    for row in itertools.islice(heapq.merge(*streams, key=lambda row: row.at), most):
        known = positions[row.stream]
        begin = max(known, row.offset)
        data = row.data[begin - row.offset :]
        pieces.append(Piece(row.stream, begin, data, max(0, row.offset - known), row.at))
        positions[row.stream] = begin + len(data)
        size += len(data)
        if size >= limit:
            break
    return pieces


def _beyond(conn: sa.Connection, run_id: int, attempt: int, stream: str, position: int, most: int) -> Sequence[Any]:
    query = (
        sa.select(run_output.c.stream, run_output.c.offset, run_output.c.data, run_output.c.at)
        .where(
            run_output.c.run_id == run_id,
            run_output.c.attempt == attempt,
            run_output.c.stream == stream,
            run_output.c.offset + octets(run_output.c.data) > position,
        )
        .order_by(run_output.c.offset)
        .limit(most)
    )
    return conn.execute(query).all()
