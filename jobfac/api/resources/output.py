"""`/v1/runs/{id}/output`: what a run's program wrote, as text, as JSON, or followed as it comes."""

import base64
import codecs
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.live.streams import COMMENT, KEEP_ALIVE, MEDIA, EventStream, event
from jobfac.api.routing import Answer, ApiRequest, Endpoint, Service
from jobfac.errors import NotFound, Unreachable
from jobfac.operations.caller import visible_run as visible
from jobfac.states import FINAL
from jobfac.store import jobs, output
from jobfac.store.api_keys import Caller
from jobfac.store.output import STREAMS, Piece
from jobfac.views.runs import RunView
from jobfac.views.serialization import as_json

TEXT_LIMIT = 4 * 2**20
"""Bytes in one answer of plain text, about."""


@dataclass
class Reader:
    """Where a caller is in the output of a run: ``positions`` is what was read, ``told`` what was given to him.

    ``fixed``: he wants this attempt alone.
    """

    run_id: int
    attempt: int
    fixed: bool
    encoding: str
    positions: dict[str, int]
    told: dict[str, int] = field(init=False)
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.told = dict(self.positions)

    def decode(self, piece: Piece) -> str:
        """The text of the next piece of a stream; a character that is cut off waits for its other half."""
        text = self.rest(piece.stream) if piece.skipped else ""
        decoder = self.decoders.get(piece.stream) or codecs.getincrementaldecoder(self.encoding)("replace")
        self.decoders[piece.stream] = decoder
        text += decoder.decode(piece.data)
        self.told[piece.stream] = piece.offset + len(piece.data) - len(decoder.getstate()[0])
        return text

    def rest(self, stream: str) -> str:
        """What stands for half a character that nothing follows."""
        decoder = self.decoders.pop(stream, None)
        return "" if decoder is None else decoder.decode(b"", final=True)

    def position(self) -> str:
        """From where to continue: ``attempt:stdout:stderr``."""
        return ":".join(map(str, (self.attempt, *(self.told.get(stream, 0) for stream in STREAMS))))

    def next_attempt(self) -> None:
        """Go on with the next execution of the run."""
        self.attempt += 1
        self.positions = dict.fromkeys(self.positions, 0)
        self.told = dict(self.positions)


class Batch(NamedTuple):
    """What was read at once. ``complete``: the attempt is over, and this is the last of it."""

    pieces: Sequence[Piece]
    row: RunView
    complete: bool


def read_batch(conn: sa.Connection, caller: Caller, reader: Reader, limit: int = output.PAGE) -> Batch:
    """The next pieces. First the run, then its output: what came before the end is not missed."""
    row = visible(conn, caller, reader.run_id)
    pieces = output.read(conn, reader.run_id, reader.attempt, reader.positions, limit)
    over = row.state in FINAL or row.attempt > reader.attempt
    return Batch(pieces, row, over and not pieces)


async def get_output(ask: ApiRequest) -> Answer | Response:
    """Read or follow what a run's program wrote.

    As `text/plain` one stream, byte for byte, in the job's encoding; `Jobfac-Next-Offset` says where to continue and
    `Jobfac-Complete` whether more will come. As `application/json` pieces of both streams in the order in which they
    were stored. As `text/event-stream` it follows: events `output` (`attempt`, `stream`, `skipped`, `text`) and, when
    the run is final, one `end`; their ids resume by `Last-Event-ID`.
    """
    service = ask.service
    accepted = ask.request.headers.get("accept", "")
    reader = await run_in_threadpool(service.db.query, _reader, ask, MEDIA in accepted, retry_for=RETRY_FOR)
    if MEDIA in accepted:
        return EventStream(service.live, ask.caller.name, _follow(service, ask.caller, reader, ask.query.seconds))
    make = _page if "application/json" in accepted else _text
    return await run_in_threadpool(make, service, ask.caller, reader)


def _reader(conn: sa.Connection, ask: ApiRequest, follow: bool) -> Reader:
    query: parameters.OutputQuery = ask.query
    row = visible(conn, ask.caller, ask.path["run"])
    after = query.after or (ask.headers.last_event_id if follow else "")
    # An offset without a stream is one of stdout: the two streams share none.
    stream = query.stream or ("stdout" if query.offset else None)
    streams = STREAMS if stream is None else (stream,)
    attempt = query.attempt or max(1, row.attempt)
    positions = dict.fromkeys(streams, query.offset)
    if after:
        attempt, *ends = map(int, after.split(":"))
        positions = {stream: end for stream, end in zip(STREAMS, ends, strict=True) if stream in streams}
    if attempt > max(1, row.attempt):
        raise NotFound(f"Run {row.id} has no attempt {attempt}; it has {row.attempt}.")
    definition = jobs.load_version(conn, row.job, row.job_version)
    encoding = getattr(definition, "encoding", "utf-8")
    return Reader(row.id, attempt, query.attempt is not None, encoding, positions)


def _text(service: Service, caller: Caller, reader: Reader) -> Response:
    """The bytes of one stream as they are, with a mark where some were cut."""
    stream = next(iter(reader.positions))
    reader.positions = {stream: reader.positions[stream]}
    text = bytearray()
    while True:
        batch = service.db.query(read_batch, caller, reader, retry_for=RETRY_FOR)
        for piece in batch.pieces:
            text += output.cut_mark(piece.skipped) + piece.data
        if not batch.pieces or len(text) >= TEXT_LIMIT:
            break
    headers = {
        "Jobfac-Attempt": str(reader.attempt),
        "Jobfac-Next-Offset": str(reader.positions[stream]),
        "Jobfac-Complete": "true" if batch.complete else "false",
        "Vary": "Accept",
    }
    return Response(bytes(text), headers=headers, media_type=f"text/plain; charset={reader.encoding}")


def _page(service: Service, caller: Caller, reader: Reader) -> Answer:
    batch = service.db.query(read_batch, caller, reader, retry_for=RETRY_FOR)
    pieces = [
        {
            "stream": piece.stream,
            "offset": piece.offset,
            "skipped": piece.skipped,
            "data": base64.b64encode(piece.data).decode(),
        }
        for piece in batch.pieces
    ]
    reader.told = reader.positions
    page = {
        "attempt": reader.attempt,
        "pieces": pieces,
        "position": reader.position(),
        "complete": batch.complete,
    }
    return Answer(page, headers={"Vary": "Accept"})


async def _follow(service: Service, caller: Caller, reader: Reader, seconds: float | None) -> AsyncIterator[bytes]:
    """Events `output` as it is written, attempt after attempt, and `end` with the run when it is final."""
    until = None if seconds is None else time.monotonic() + seconds
    with service.live.watch(reader.run_id, output=True) as watch:
        while not service.live.closed:
            try:
                batch = await run_in_threadpool(service.db.query, read_batch, caller, reader, retry_for=RETRY_FOR)
            except (Unreachable, NotFound):
                return  # the client resumes after the last position it knows
            for piece in batch.pieces:
                said = _said(reader, piece.stream, reader.decode(piece), piece.skipped)
                yield event("output", said, reader.position())
            if batch.complete:
                for stream in list(reader.decoders):
                    if rest := reader.rest(stream):
                        yield event("output", _said(reader, stream, rest, 0), reader.position())
                if reader.fixed or reader.attempt >= batch.row.attempt:
                    yield event("end", _ended(batch.row), reader.position())
                    return
                reader.next_attempt()
                continue
            left = KEEP_ALIVE if until is None else min(KEEP_ALIVE, until - time.monotonic())
            if left <= 0:
                return
            if not batch.pieces and not await watch.wait(left):
                yield COMMENT


def _said(reader: Reader, stream: str, text: str, skipped: int) -> dict[str, Any]:
    return {"attempt": reader.attempt, "stream": stream, "skipped": skipped, "text": text}


def _ended(row: RunView) -> dict[str, Any]:
    shown = as_json(row)
    return {name: shown[name] for name in ("id", "job", "state", "attempt", "exit_code", "signal", "reason")}


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/output",
        handler=get_output,
        query=parameters.OutputQuery,
        headers=parameters.FollowHeaders,
        answers={200: models.OutputPage},
        texts={"text/plain": "One stream.", MEDIA: models.OutputEvent},
        errors=(404,),
    ),
)
