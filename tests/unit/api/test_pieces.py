"""Answers are sent in pieces that are, together, the JSON document."""

import json
import weakref
from collections.abc import AsyncIterable, Iterator
from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse

from jobfac.api.serving.pieces import PIECE, json_response


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"items": []},
        {"items": [], "next_cursor": None},
        {"dry_run": False, "items": [{"a": 'ä"'}, {"b": [1, {}]}], "next_cursor": "7"},
        {"id": 1, "tags": ["x", "y"], "more": {"items": []}},
        ["a"],
        "text",
    ],
)
def test_a_short_answer_is_one_document(content: object) -> None:
    response = json_response(content, 201, {"Location": "/v1/runs/1"})
    assert json.loads(bytes(response.body)) == content
    assert b", " not in bytes(response.body)
    assert (response.status_code, response.headers["location"]) == (201, "/v1/runs/1")
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.body)


def test_a_long_list_is_sent_in_pieces() -> None:
    content: Any = {"items": [{"text": "ä" * 4096, "number": number} for number in range(60)], "next_cursor": None}
    response = json_response(content, 200, {"ETag": "1"})
    assert isinstance(response, StreamingResponse)
    pieces = anyio.run(_read, response.body_iterator)
    assert len(pieces) == 4
    assert all(PIECE <= len(piece.decode()) < PIECE + 5000 for piece in pieces[:-1])
    assert json.loads(b"".join(pieces)) == content
    assert int(response.headers["content-length"]) == len(b"".join(pieces))
    assert (response.headers["etag"], response.headers["content-type"]) == ("1", "application/json")


def test_items_are_made_one_after_another() -> None:
    alive: list[weakref.ref[Any]] = []

    def items() -> Iterator[_Item]:
        for _ in range(9):
            assert not any(one() for one in alive[:-1])
            item = _Item(text="x" * 30_000)
            alive.append(weakref.ref(item))
            yield item

    response = json_response({"items": items()}, 200, None)
    assert isinstance(response, StreamingResponse)
    pieces = anyio.run(_read, response.body_iterator)
    assert [one["text"][:1] for one in json.loads(b"".join(pieces))["items"]] == ["x"] * 9


class _Item(dict[str, Any]):
    """A dict that can be referred to weakly."""


async def _read(pieces: AsyncIterable[Any]) -> list[bytes]:
    return [piece async for piece in pieces]
