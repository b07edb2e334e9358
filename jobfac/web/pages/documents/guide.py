"""`/guide`: the documentation, with a table of contents and a search."""

import re
from functools import cache
from typing import NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.responses import Response

from jobfac import guide as texts
from jobfac.errors import NotFound
from jobfac.store.history import counts
from jobfac.web.page import Page, get
from jobfac.web.visit import Visit

HITS = 60
"""The maximum number of lines that a search shows."""


class Heading(NamedTuple):
    """A heading of a page: its anchor and its text."""

    anchor: str
    text: str


class Topic(NamedTuple):
    """A page of the guide."""

    name: str
    title: str
    html: Markup
    headings: list[Heading]


class Hit(NamedTuple):
    """A line that contains the words of a search."""

    topic: str
    anchor: str
    line: str


@cache
def topic(name: str) -> Topic:
    """Return a page, rendered. Its Markdown may contain no HTML."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(texts.page(name))
    headings: list[Heading] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            text = "".join(part.content for part in tokens[place + 1].children or ())
            anchor = _anchor(text)
            token.attrSet("id", anchor)
            if token.tag == "h2":
                headings.append(Heading(anchor, text))
        elif token.type == "table_open":
            token.attrSet("class", "text")
    html = markdown.renderer.render(tokens, markdown.options, {})
    html = re.sub(r"<table", '<div class="wide" tabindex="0" role="region" aria-label="Table"><table', html)
    html = html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    title = texts.page(name).partition("\n")[0].removeprefix("# ")
    return Topic(name, title, Markup(html), headings)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "top"


def search(words: str) -> list[Hit]:
    """Return the lines of the guide that contain the words, with the heading above each."""
    found: list[Hit] = []
    for name in texts.TOPICS:
        anchor = ""
        for line in texts.page(name).splitlines():
            if line.startswith("#"):
                anchor = _anchor(line.lstrip("# "))
            if words.lower() in line.lower():
                found.append(Hit(name, anchor, line.strip("#|` ")))
                if len(found) == HITS:
                    return found
    return found


def show(visit: Visit) -> Response:
    """Show a page of the guide, or what a search found."""
    name = visit.request.path_params.get("topic", texts.TOPICS[0])
    if name not in texts.TOPICS:
        raise NotFound(f"There is no help topic '{name}'; /guide lists the topics.")
    words = visit.query.get("q", "")
    numbers = visit.read(counts.read, visit.caller.categories)
    summaries = [(one, texts.summary(one)) for one in texts.TOPICS]
    return visit.render(
        "documents/guide.html", active="guide", counts=numbers, topic=topic(name), topics=summaries, words=words,
        hits=search(words) if words else [],
    )  # fmt: skip


PAGES: tuple[Page, ...] = (get("/guide", show), get("/guide/{topic}", show))
