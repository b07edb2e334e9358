"""The web pages: `/` shows the live state of the factory, `/docs` the OpenAPI document. No file is of another host."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = (
    "default-src 'none'; img-src data:; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

FILES = {
    "/": ("factory.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/static/factory.js": ("factory.js", "text/javascript"),
    "/static/docs.js": ("docs.js", "text/javascript"),
    "/static/element.js": ("element.js", "text/javascript"),
    "/static/page.css": ("page.css", "text/css"),
}


def _route(path: str, name: str, media: str) -> Route:
    content = (Path(__file__).parent / "static" / name).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, media_type=media, headers={"Content-Security-Policy": POLICY})

    return Route(path, page)


ROUTES = [_route(path, *file) for path, file in FILES.items()]
