"""Style sheet, scripts and icon. Their names contain a digest, so browsers keep them until they change."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from jobfac.api.problems import Problem
from jobfac.api.serving.kept import Kept, keep

MEDIA = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}

LEAST = 1000
"""The minimum size of a response that is compressed, in bytes."""

YEAR = 365 * 86400


class Asset(NamedTuple):
    """A file, and the digest of its content."""

    kept: Kept
    digest: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return every file by its name."""
    found = {}
    for file in files("jobfac.web").joinpath("static").iterdir():
        content = file.read_bytes()
        media = MEDIA[file.name.rpartition(".")[2]]
        digest = hashlib.sha256(content).hexdigest()[:12]
        found[file.name] = Asset(keep(content, media), digest)
    return found


def address(name: str) -> str:
    """Return the path of a file, with its digest."""
    return f"/static/{name}?{assets()[name].digest}"


async def serve(request: Request) -> Response:
    """Send a file."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise Problem(404, f"There is no file {request.url.path}.")
    fresh = request.url.query == asset.digest
    headers = {"Cache-Control": f"public, max-age={YEAR}, immutable" if fresh else "no-cache"}
    return asset.kept.response(request, headers)
