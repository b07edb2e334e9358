"""`/v1/runs/{id}/output`: the output of a run as text, as JSON, or as a live stream."""

import base64
import codecs
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa
from starlette.responses import Response

from jobfac.api import models, parameters
from jobfac.api.live.streams import COMMENT, KEEP_ALIVE, MEDIA, Streamed, event
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints, Service, key_of
from jobfac.errors import NotFound, Unreachable
from jobfac.operations.caller import visible_run
from jobfac.states import FINAL
from jobfac.store import jobs, output
from jobfac.store.api_keys import Caller
from jobfac.store.output import STREAMS, Piece
from jobfac.views.runs import RunView
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()

TEXT_LIMIT = 4 * 2**20
"""The approximate maximum size of a text response, in bytes. Its last piece may exceed it."""


@dataclass
class Reader:
    """The position of a client in the output of a run.

    Attributes:
        fixed: the client asked for this attempt only.
        encoding: that of the job's output.
        positions: for each stream, the bytes that were read from the database.
        sent: for each stream, the bytes that were sent as complete characters.
    """

    run_id: int
    attempt: int
    fixed: bool
    encoding: str
    positions: dict[str, int]
    sent: dict[str, int] = field(init=False)
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sent = dict(self.positions)

    def decode(self, piece: Piece) -> str:
        """Return the text of the next piece of a stream. An incomplete last character is kept for the next piece."""
        text = self.rest(piece.stream) if piece.skipped else ""
        decoder = self.decoders.get(piece.stream) or codecs.getincrementaldecoder(self.encoding)("replace")
        self.decoders[piece.stream] = decoder
        text += decoder.decode(piece.data)
        self.sent[piece.stream] = piece.offset + len(piece.data) - len(decoder.getstate()[0])
        return text

    def rest(self, stream: str) -> str:
        """Return the replacement of an incomplete last character, at the end of a stream or before a gap."""
        decoder = self.decoders.pop(stream, None)
        return "" if decoder is None else decoder.decode(b"", final=True)

    def position(self) -> str:
        """Return where to continue: ``attempt:stdout:stderr``."""
        return ":".join(map(str, (self.attempt, *(self.sent.get(stream, 0) for stream in STREAMS))))

    def next_attempt(self) -> None:
        """Continue with the next attempt of the run."""
        self.attempt += 1
        self.positions = dict.fromkeys(self.positions, 0)
        self.sent = dict(self.positions)


class Batch(NamedTuple):
    """The result of one read. ``complete``: the attempt has ended, and all of its output was read."""

    pieces: Sequence[Piece]
    row: RunView
    complete: bool


def read_batch(conn: sa.Connection, caller: Caller, reader: Reader, limit: int = output.PAGE) -> Batch:
    """Read the next pieces. The run is read before its output, so that no output before the end is missed."""
    row = visible_run(conn, caller, reader.run_id)
    pieces = output.read(conn, reader.run_id, reader.attempt, reader.positions, limit)
    ended = row.state in FINAL or row.attempt > reader.attempt
    return Batch(pieces, row, ended and not pieces)


@ENDPOINTS.add(
    "GET",
    "/v1/runs/{run:id}/output",
    responses={200: models.OutputPage},
    media_types={"text/plain": "One stream.", MEDIA: models.OutputEvent},
    errors=(404,),
)
async def get_output(
    request: ApiRequest, run: int, query: parameters.OutputQuery, headers: parameters.FollowHeaders
) -> ApiResponse | Response:
    """Read or follow the output of a run.

    As `text/plain`: one stream, byte for byte, in the job's encoding, some 4 MiB of it; `Jobfac-Next-Offset` says where
    to continue and `Jobfac-Complete` whether the output is complete. With `whole`: all that is stored. As
    `application/json`: pieces of both streams in the order in which they were stored. As `text/event-stream`: events
    `output` (`attempt`, `stream`, `skipped`, `text`) as they are stored and, when the run is final, one `end`; the
    stream resumes with `Last-Event-ID`.
    """
    service, caller = request.service, request.caller
    accepted = request.http.headers.get("accept", "")
    after = query.after or (headers.last_event_id if MEDIA in accepted else None)
    reader = await service.in_turn(key_of(caller), service.read, _reader, caller, run, query, after)
    if MEDIA in accepted:
        following = _follow(service, caller, reader, query.seconds)
        return Streamed(service.live, caller.label, following, request.is_accepted)
    if query.whole and "application/json" not in accepted:
        return _whole(service, caller, reader, request.is_accepted)
    respond = _page if "application/json" in accepted else _text
    return await service.in_turn(key_of(caller), respond, service, caller, reader)


def _reader(
    conn: sa.Connection, caller: Caller, run_id: int, query: parameters.OutputQuery, after: str | None
) -> Reader:
    row = visible_run(conn, caller, run_id)
    # An offset without a stream means stdout, because the streams have separate offsets.
    stream = query.stream or ("stdout" if query.offset else None)
    streams = STREAMS if stream is None else (stream,)
    attempt = query.attempt or max(1, row.attempt)
    positions = dict.fromkeys(streams, query.offset)
    if after:
        attempt, *ends = map(int, after.split(":"))
        positions = {stream: end for stream, end in zip(STREAMS, ends, strict=True) if stream in streams}
    if attempt > max(1, row.attempt):
        raise NotFound(f"Run {row.id} has no attempt {attempt}; it has {row.attempt}.")
    definition = jobs.find_version(conn, row.job, row.job_version)
    encoding = getattr(definition, "encoding", "utf-8")  # also of one that this version of jobfac cannot read
    return Reader(row.id, attempt, query.attempt is not None, encoding, positions)


def _text(service: Service, caller: Caller, reader: Reader) -> Response:
    """Respond with the bytes of one stream, with a mark where bytes were removed."""
    stream = _only(reader)
    text = bytearray()
    while True:
        batch = service.read(read_batch, caller, reader)
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


def _only(reader: Reader) -> str:
    """Let the reader read only the first of its streams; returns which one."""
    stream = next(iter(reader.positions))
    reader.positions = {stream: reader.positions[stream]}
    return stream


def _whole(service: Service, caller: Caller, reader: Reader, is_accepted: Callable[[], bool]) -> Response:
    """Respond with all stored bytes of one stream."""
    _only(reader)
    media_type = f"text/plain; charset={reader.encoding}"
    return Streamed(service.live, caller.label, _all(service, caller, reader), is_accepted, media_type)


async def _all(service: Service, caller: Caller, reader: Reader) -> AsyncGenerator[bytes, None]:
    try:
        while (batch := await service.in_turn(key_of(caller), service.read, read_batch, caller, reader)).pieces:
            for piece in batch.pieces:
                yield output.cut_mark(piece.skipped) + piece.data
    except (Problem, Unreachable, NotFound) as error:
        yield f"\n[jobfac: the output ends here, because the rest cannot be read: {error}]\n".encode()


def _page(service: Service, caller: Caller, reader: Reader) -> ApiResponse:
    """Respond with pieces of both streams as JSON."""
    batch = service.read(read_batch, caller, reader)
    pieces = [
        {
            "stream": piece.stream,
            "offset": piece.offset,
            "skipped": piece.skipped,
            "data": base64.b64encode(piece.data).decode(),
        }
        for piece in batch.pieces
    ]
    reader.sent = reader.positions
    page = {
        "attempt": reader.attempt,
        "pieces": pieces,
        "position": reader.position(),
        "complete": batch.complete,
    }
    return ApiResponse(page, headers={"Vary": "Accept"})


async def _follow(
    service: Service, caller: Caller, reader: Reader, seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """Send `output` events of one attempt after another, and `end` when the run is final."""
    until = None if seconds is None else time.monotonic() + seconds
    with service.live.watch(reader.run_id, output=True) as watch:
        while not service.live.closed:
            try:
                batch = await service.in_turn(key_of(caller), service.read, read_batch, caller, reader)
            except (Problem, Unreachable, NotFound):
                return  # the client resumes after its last position
            for piece in batch.pieces:
                yield _output_event(reader, piece.stream, reader.decode(piece), piece.skipped)
            if batch.complete:
                for stream in list(reader.decoders):
                    if rest := reader.rest(stream):
                        yield _output_event(reader, stream, rest, 0)
                if reader.fixed or reader.attempt >= batch.row.attempt:
                    yield _end_event(reader, batch.row)
                    return
                reader.next_attempt()
                continue
            left = KEEP_ALIVE if until is None else min(KEEP_ALIVE, until - time.monotonic())
            if left <= 0:
                return
            if not batch.pieces and not await watch.wait(left):
                yield COMMENT


def _output_event(reader: Reader, stream: str, text: str, skipped: int) -> bytes:
    data = {"attempt": reader.attempt, "stream": stream, "skipped": skipped, "text": text}
    return event("output", data, reader.position())


def _end_event(reader: Reader, row: RunView) -> bytes:
    run = as_json(row)
    data = {name: run[name] for name in ("id", "job", "state", "attempt", "exit_code", "signal", "reason")}
    return event("end", data, reader.position())
