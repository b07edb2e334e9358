"""Answers that never change: made once, and kept as they are sent."""

import gzip
from collections.abc import Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response


class Kept(NamedTuple):
    """The body of an answer, plain and compressed."""

    content: bytes
    compressed: bytes
    media: str

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the answer to a request. It takes too little time to need a thread."""
        headers = {"Vary": "Accept-Encoding", **headers}
        if takes_gzip(request):
            return Response(self.compressed, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.media)
        return Response(self.content, headers=headers, media_type=self.media)


def keep(content: bytes, media: str) -> Kept:
    """Return a body to keep."""
    return Kept(content, gzip.compress(content, 9, mtime=0), media)


def takes_gzip(request: Request) -> bool:
    """Whether the client accepts a compressed response. With ``q=0`` it does not."""
    for one in ",".join(request.headers.getlist("accept-encoding")).lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() == "gzip":
            return weight.strip().rstrip("0.") != "q="
    return False
