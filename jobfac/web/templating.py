"""The templates and their filters. Everything is escaped unless it is ``Markup``."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from jobfac.definitions.parameters.values import as_text
from jobfac.states import ACTIVE, FAILED, FINAL, HELD, WAITING, RunState
from jobfac.views.durations import Timed, has_duration, spaced_duration
from jobfac.web import assets, commands

GLYPHS = {
    "succeeded": "✓", "failed": "✕", "timed_out": "✕", "start_failed": "✕", "lost": "✕", "mixed": "◑", "stopped": "■",
    "denied": "⊘", "running": "▶", "stopping": "◼", "queued": "◔", "blocked": "‖", "scheduled": "◷", "active": "●",
    "draining": "◌", "dead": "✕", "waiting": "◔", "delivered": "✓",
}  # fmt: skip
"""A symbol for each state, so states do not differ in colour only."""

PAGES = (
    ("/", "Now", "now"),
    ("/runs", "Runs", "runs"),
    ("/jobs", "Jobs", "jobs"),
    ("/timeline", "Timeline", "timeline"),
    ("/fleet", "Fleet", "fleet"),
    ("/reports", "Reports", "reports"),
    ("/notifications", "Notifications", "notifications"),
    ("/audit", "Audit", "audit"),
    ("/guide", "Guide", "guide"),
)
"""The pages that the navigation shows: path, title, icon."""


@cache
def environment() -> jinja2.Environment:
    """Return the templates with their filters."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("jobfac.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "when": when, "ago": ago, "span": span, "took": took, "clock": clock, "state": state, "count": count,
        "memory": memory, "urlpart": lambda text: quote(str(text), safe=""),
        "word": lambda text: str(text).replace("_", " "), "options": options, "value": as_text,
    }  # fmt: skip
    found.globals |= {
        "asset": assets.address, "pages": PAGES, "with_query": with_query, "command": commands,
        "FAILED": FAILED, "FINAL": FINAL, "ACTIVE": ACTIVE, "WAITING": WAITING, "HELD": HELD, "STATES": list(RunState),
    }  # fmt: skip
    return found


def count(number: float) -> str:
    """Format a number, such as 12,345."""
    return f"{number:,.0f}"


def span(seconds: float | None) -> str:
    """Format seconds as ``spaced_duration`` does; None: empty."""
    return "" if seconds is None else spaced_duration(seconds)


def memory(size: int | None) -> str:
    """Format a number of bytes, such as 512 MiB or 3.2 GiB; None: empty."""
    if size is None:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pass_context
def when(context: Context, moment: datetime | None) -> Markup:
    """Format a time in the visitor's zone, with the date unless it is today. The tooltip is in UTC."""
    if moment is None:
        return Markup("")
    local = moment.astimezone(context["visit"].zone)
    today = datetime.now(context["visit"].zone).date()
    form = "%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S"
    return Markup(f'<time datetime="{_stamp(moment)}" title="{_utc(moment)}">{local:{form}}</time>')


@pass_context
def clock(context: Context, moment: datetime) -> str:
    """Format a time of day in the visitor's zone, such as 06:30."""
    return f"{moment.astimezone(context['visit'].zone):%H:%M}"


def rough(seconds: float) -> str:
    """Such as 12 s, 3 min, 2 h 10 min: how long ago something was, without seconds after the first minute."""
    if seconds < 3600:
        return f"{int(seconds)} s" if seconds < 60 else f"{int(seconds) // 60} min"
    return spaced_duration(seconds)


@pass_context
def ago(context: Context, moment: datetime | None) -> Markup:
    """Format a time relative to now. A script keeps it up to date."""
    if moment is None:
        return Markup("")
    left = (datetime.now(UTC) - moment).total_seconds()
    words = f"{rough(left)} ago" if left >= 0 else f"in {rough(-left)}"
    title = f"{moment.astimezone(context['visit'].zone):%Y-%m-%d %H:%M:%S}, {_utc(moment)}"
    return Markup(f'<time datetime="{_stamp(moment)}" title="{title}" data-ago>{words}</time>')


def took(row: Timed) -> Markup:
    """Format the duration of a run, from its first start to its end or to now. Empty: it waits."""
    if row.started_at is None or not has_duration(row):
        return Markup("")
    if row.ended_at is not None:
        return Markup(spaced_duration((row.ended_at - row.started_at) / timedelta(seconds=1)))
    so_far = spaced_duration((datetime.now(UTC) - row.started_at) / timedelta(seconds=1))
    return Markup(f'<time datetime="{_stamp(row.started_at)}" data-since>{so_far}</time>')


def state(word: object) -> Markup:
    """Format a state as a badge."""
    return _badge(str(word))


@lru_cache(200)
def _badge(name: str) -> Markup:
    html = '<span class="state {}"><span aria-hidden="true">{}</span> {}</span>'
    return Markup(html).format(name, GLYPHS.get(name, "●"), name.replace("_", " "))


def options(names: Iterable[str]) -> Markup:
    """The options of a field that suggests these names. Escaped all at once, because there are hundreds."""
    found = str(escape("\n".join(names))).replace("\n", '"><option value="')
    return Markup(f'<option value="{found}">') if found else Markup("")


def with_query(query: Mapping[str, Any], **changes: Any) -> str:
    """Return the query of a URL with some names changed, or left out where the value is None or empty."""
    merged = {**query, **changes}
    found = urlencode({name: value for name, value in merged.items() if value not in (None, "")}, doseq=True)
    return f"?{found}" if found else "?"
