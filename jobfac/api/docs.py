"""`/docs`: a page that shows the OpenAPI document. It loads nothing from other hosts."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
    "/docs/docs.css": ("docs.css", "text/css"),
}


def _route(path: str, name: str, media: str) -> Route:
    content = (Path(__file__).parent / "static" / name).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, media_type=media, headers={"Content-Security-Policy": POLICY})

    return Route(path, page)


ROUTES = [_route(path, *file) for path, file in FILES.items()]
