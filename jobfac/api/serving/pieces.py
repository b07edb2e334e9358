"""Sends an answer in pieces, so that a long list never stands in memory as one text."""

import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from starlette.responses import Response, StreamingResponse

PIECE = 64 * 1024
"""The least length of a piece, except of the last one, in characters."""

JSON = "application/json"

MANY = (list, Iterator)
"""What becomes an array. The items of an iterator are made one after another."""


def json_response(content: object, status: int, headers: Mapping[str, str] | None) -> Response:
    """Return the response with a JSON document. Call it in a thread: a long list takes a while.

    Its length is known before it is sent, so a client notices an answer that was cut off.
    """
    pieces = deque(piece.encode() for piece in _gathered(_texts(content)))
    if len(pieces) == 1:
        return Response(pieces[0], status, headers, JSON)
    length = {"Content-Length": str(sum(map(len, pieces)))}
    return StreamingResponse(_sent(pieces), status, {**(headers or {}), **length}, JSON)


async def _sent(pieces: deque[bytes]) -> AsyncIterator[bytes]:
    while pieces:
        yield pieces.popleft()


def _gathered(texts: Iterable[str]) -> Iterator[str]:
    """Join short texts to pieces."""
    piece: list[str] = []
    length = 0
    for text in texts:
        piece.append(text)
        length += len(text)
        if length >= PIECE:
            yield "".join(piece)
            piece, length = [], 0
    if piece:
        yield "".join(piece)


def _texts(content: object) -> Iterator[str]:
    """Yield the text of a JSON document, one item of its lists at a time."""
    if not isinstance(content, Mapping) or not any(isinstance(value, MANY) for value in content.values()):
        yield as_json(content)
        return
    before = "{"
    for name, value in content.items():
        yield f"{before}{as_json(name)}:"
        before = ","
        if isinstance(value, MANY):
            yield "["
            yield from (f"{',' if number else ''}{as_json(item)}" for number, item in enumerate(value))
            yield "]"
        else:
            yield as_json(value)
    yield "}"


def as_json(value: object) -> str:
    """Return the text of a JSON document."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
